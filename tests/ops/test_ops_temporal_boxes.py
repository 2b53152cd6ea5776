"""Overlaps of intervals by hand and as they must be, and what points of a pyramid tell of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlkit.ops.temporal_boxes import centre_targets, distance_overlap, generalised_overlap, overlap

# a, b, overlap, generalised, with distance of the middles
BY_HAND = [
    ((0, 4), (2, 6), 2 / 6, 2 / 6, 2 / 6 - (2 / 6) ** 2),  # middles 2 and 4, hull 0 to 6
    ((0, 1), (3, 4), 0, -2 / 4, -((3 / 4) ** 2)),  # union 2, hull 4
    ((0, 8), (1, 3), 2 / 8, 2 / 8, 2 / 8 - (2 / 8) ** 2),  # one within the other
    ((1, 3), (3, 7), 0, 0, -((3 / 6) ** 2)),  # they touch: hull and union are 6
    ((2, 5), (2, 5), 1, 1, 1),
    ((1, 1), (1, 1), 0, 0, 0),  # no length
]
ALL: list[Callable[[Tensor, Tensor], Tensor]] = [overlap, generalised_overlap, distance_overlap]


@pytest.mark.parametrize(("a", "b", "plain", "generalised", "distance"), BY_HAND)
def test_overlaps_are_those_by_hand(
    a: tuple[int, int], b: tuple[int, int], plain: float, generalised: float, distance: float
) -> None:
    first, second = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    for kind, wanted in zip(ALL, (plain, generalised, distance), strict=True):
        assert kind(first, second).item() == pytest.approx(wanted, abs=1e-12)
        assert kind(second, first).item() == pytest.approx(wanted, abs=1e-12)
        assert kind(3 * first + 7, 3 * second + 7).item() == pytest.approx(
            wanted, abs=1e-12
        )  # the unit does not matter


def test_intervals_that_are_apart_are_brought_together_by_the_generalised_overlap_alone() -> None:
    other = torch.tensor([6.0, 9.0])
    gradients = []
    for kind in (overlap, generalised_overlap):
        interval = torch.tensor([1.0, 2.0], requires_grad=True)
        kind(interval, other).backward()
        gradients.append(interval.grad)
    assert gradients[0] is not None
    assert gradients[0].abs().max() == 0
    assert gradients[1] is not None
    # by hand: (union - hull) / hull with union s - r + 3 and hull 9 - r of an interval (r, s) is (4 at s = 2) / 8 - 1
    torch.testing.assert_close(gradients[1], torch.tensor([-1 / 8 + 4 / 64, 1 / 8]))


@pytest.mark.parametrize("kind", ALL)
def test_intervals_without_length_have_finite_gradients(kind: Callable[[Tensor, Tensor], Tensor]) -> None:
    interval = torch.tensor([2.0, 2.0], requires_grad=True)
    kind(interval, torch.tensor([2.0, 2.0])).backward()
    assert interval.grad is not None
    assert interval.grad.abs().max() <= 2


def test_two_that_share_a_point_have_the_same_overlap_in_both_forms() -> None:
    distances = torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(0))
    a, b = (torch.stack((5 - each[:, 0], 5 + each[:, 1]), -1) for each in distances)
    torch.testing.assert_close(generalised_overlap(a, b), overlap(a, b), atol=1e-6, rtol=0)


def targets(
    point: list[float],
    interval: list[tuple[float, float]],
    reach: tuple[float, float] = (0.0, 100.0),
    radius: float = 1.5,
) -> tuple[list[list[int]], Tensor]:
    """Which intervals each point of a level of stride 2 tells of, and their ends."""
    count = len(point)
    found = centre_targets(
        torch.tensor(point), torch.full((count,), 2.0), torch.tensor([reach] * count), torch.tensor([interval]),
        torch.ones(1, len(interval), dtype=torch.bool), radius,
    )  # fmt: skip
    return [row.nonzero().flatten().tolist() for row in found.is_told[0]], found.interval[0]


def test_points_near_the_middle_tell_of_an_interval() -> None:
    told, ends = targets([0.5, 2.5, 4.5, 6.5, 8.5], [(1.0, 9.0)])  # middle 5, radius 3
    assert told == [[], [0], [0], [0], []]  # 0.5 is outside, 8.5 is 3.5 away
    assert ends[1].tolist() == [1.0, 9.0]


def test_a_short_interval_is_told_from_within_alone() -> None:
    told, _ = targets([0.5, 2.5, 4.5], [(2.0, 3.0)])  # all are within 3 of the middle
    assert told == [[], [0], []]


def test_of_several_the_shortest_is_told_and_all_that_are_the_same() -> None:
    told, ends = targets([4.5], [(0.0, 9.0), (3.0, 6.0), (3.0, 6.0), (4.0, 7.0)])
    assert told == [[1, 2]]  # (4, 7) is as short but another one
    assert ends[0].tolist() == [3.0, 6.0]


def test_a_level_tells_of_what_its_reach_has() -> None:
    intervals = [(0.0, 9.0)]  # the farther end of 4.5 is 4.5 away
    assert targets([4.5], intervals, (4.5, 5.0))[0] == [[0]]
    assert targets([4.5], intervals, (0.0, 4.5))[0] == [[0]]
    assert targets([4.5], intervals, (0.0, 4.0))[0] == [[]]
    assert targets([4.5], intervals, (5.0, 9.0))[0] == [[]]


def test_what_is_not_there_is_not_told() -> None:
    one = torch.ones(1)
    found = centre_targets(
        2.5 * one, one, torch.tensor([[0.0, 9.0]]), torch.tensor([[[2.0, 3.0]], [[2.0, 3.0]]]),
        torch.tensor([[True], [False]]), 1.5,
    )  # fmt: skip
    assert found.is_told.flatten().tolist() == [True, False]
