"""Actions as vectors: one-hot choices, numbers between their bounds, spaces that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlkit.errors import UnsupportedTaskError
from rlkit.nn.action_vectors import ActionVectors


def test_the_parts_of_a_choice_are_one_hot_one_after_the_other() -> None:
    told = ActionVectors(spaces.MultiDiscrete([2, 3], start=[0, -1]))
    assert told.size == 5
    assert told(torch.tensor([[1, -1], [0, 1]])).tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]


def test_bounds_of_a_box_are_at_minus_one_and_one() -> None:
    low, high = np.array([[0.0, -2.0]]), np.array([[10.0, 6.0]])
    told = ActionVectors(spaces.Box(low, high, dtype=np.float64))
    actions = torch.tensor([[[0.0, -2.0]], [[10.0, 6.0]], [[2.5, 2.0]]])
    found = told(actions)
    assert found.dtype == torch.float32
    assert found.tolist() == [[-1, -1], [1, 1], [-0.5, 0]]


def test_numbers_without_bounds_stay_what_they_are() -> None:
    low, high = np.array([-np.inf, 0.0], np.float32), np.array([1.0, 4.0], np.float32)
    assert ActionVectors(spaces.Box(low, high))(torch.tensor([[7.0, 4.0]])).tolist() == [[7.0, 1.0]]


def test_switches_stay_zero_and_one() -> None:
    assert ActionVectors(spaces.MultiBinary(3))(torch.tensor([[1, 0, 1]])).tolist() == [[1.0, 0.0, 1.0]]


def test_nothing_of_it_is_in_a_checkpoint() -> None:
    assert not ActionVectors(spaces.Box(0, 4, (2,))).state_dict()


def test_other_spaces_are_refused_with_those_that_are_allowed() -> None:
    with pytest.raises(UnsupportedTaskError, match="allowed: Discrete, MultiDiscrete, MultiBinary and Box"):
        ActionVectors(spaces.Tuple([spaces.Discrete(2)]))
