"""Weighted votes of neighbours, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from rlkit.ops import nearest_neighbours as neighbours


def test_a_near_neighbour_outvotes_two_farther_ones_only_at_a_low_temperature() -> None:
    """exp(9) > 2 exp(8), but exp(0.9) < 2 exp(0.8)."""
    similarity, classes = torch.tensor([[0.9, 0.8, 0.8]]), torch.tensor([[1, 0, 0]])
    cold = neighbours.class_votes(neighbours.vote_weights(similarity, 0.1), classes, 3)
    warm = neighbours.class_votes(neighbours.vote_weights(similarity, 1.0), classes, 3)
    torch.testing.assert_close(cold, torch.tensor([[2 * math.exp(-1), 1.0, 0.0]]))
    torch.testing.assert_close(warm, torch.tensor([[2 * math.exp(-0.1), 1.0, 0.0]]))
    assert (int(cold.argmax()), int(warm.argmax())) == (1, 0)


def test_weights_of_a_row_stand_to_each_other_as_exponentials_and_never_overflow() -> None:
    weight = neighbours.vote_weights(torch.tensor([[0.5, 0.3], [1.0, -1.0]]), 0.001)
    assert torch.isfinite(weight).all()
    assert float(weight[0, 1] / weight[0, 0]) == pytest.approx(math.exp(-200), abs=1e-12)
    assert weight[:, 0].tolist() == [1.0, 1.0]


def test_a_quantity_is_the_mean_of_the_neighbours_under_their_weights() -> None:
    found = neighbours.mean_vote(torch.tensor([[3.0, 1.0], [1.0, 1.0]]), torch.tensor([[4.0, 8.0], [2.0, 3.0]]))
    assert found.tolist() == [5.0, 2.5]
