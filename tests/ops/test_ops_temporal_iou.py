"""Overlap of intervals, average precision by it, and suppression, beside cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlkit.ops.temporal_iou import (
    ACTIVITYNET_OVERLAPS,
    IntervalClaims,
    TrueIntervals,
    interval_average_precision,
    soft_suppression,
    temporal_iou,
)


def test_overlap_is_what_is_shared_over_what_is_covered() -> None:
    a = np.array([[0.0, 4.0], [2.0, 2.0]])
    b = np.array([[0.0, 4.0], [2.0, 6.0], [1.0, 2.0], [5.0, 9.0], [2.0, 2.0]])
    assert temporal_iou(a, b) == pytest.approx(np.array([[1, 2 / 6, 1 / 4, 0, 0], [0, 0, 0, 0, 0]]), abs=1e-15)


def test_overlap_equals_a_count_of_fine_cells() -> None:
    rng = np.random.default_rng(0)
    intervals = np.sort(rng.integers(0, 100, (20, 2)), axis=1)
    cells = (np.arange(100) >= intervals[:, :1]) & (np.arange(100) < intervals[:, 1:])
    shared = (cells[:, None] & cells[None]).sum(axis=2)
    covered = (cells[:, None] | cells[None]).sum(axis=2)
    assert temporal_iou(intervals, intervals) == pytest.approx(shared / np.maximum(covered, 1), abs=1e-15)


def test_average_precision_falls_as_the_least_overlap_grows() -> None:
    """True [0, 10] and [20, 30]. Claims: [0, 5] (tIoU .5), [40, 50] (0), [20, 28] (.8).

    Least overlap .5: right, wrong, right → 1/2 · 1 + 1/2 · 2/3. At .6: wrong, wrong, right → 1/2 · 1/3. At .9: 0.
    """
    claims = IntervalClaims(
        np.zeros(3, np.int64), np.array([[20.0, 28.0], [0.0, 5.0], [40.0, 50.0]]), np.array([0.1, 0.9, 0.5])
    )  # fmt: skip
    truth = TrueIntervals(np.zeros(2, np.int64), np.array([[0.0, 10.0], [20.0, 30.0]]))
    found = interval_average_precision(claims, truth, (0.5, 0.6, 0.9))
    assert found == pytest.approx([0.5 + 1 / 3, 1 / 6, 0.0], abs=1e-15)


def test_each_interval_is_taken_once_and_the_next_best_free_one_counts() -> None:
    """Two claims on [0, 10]; the second also overlaps [4, 14] by 6/14, which decides at .4 and not at .5."""
    claims = IntervalClaims(np.zeros(2, np.int64), np.array([[0.0, 10.0], [0.0, 10.0]]), np.array([0.9, 0.8]))
    truth = TrueIntervals(np.zeros(2, np.int64), np.array([[0.0, 10.0], [4.0, 14.0]]))
    assert interval_average_precision(claims, truth, (0.4, 0.5)) == pytest.approx([1.0, 0.5], abs=1e-15)


def test_intervals_of_other_videos_do_not_count() -> None:
    claims = IntervalClaims(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([0.9, 0.8]))
    truth = TrueIntervals(np.array([1]), np.array([[0.0, 1.0]]))
    assert interval_average_precision(claims, truth, ACTIVITYNET_OVERLAPS) == pytest.approx([0.5] * 10, abs=1e-15)
    assert np.isnan(interval_average_precision(claims, TrueIntervals(np.zeros(0), np.zeros((0, 2))))).all()


INTERVALS = np.array([[0.0, 10.0], [1.0, 11.0], [20.0, 30.0]])  # the first two overlap by 9/11
SCORES = np.array([0.8, 0.9, 0.3])


def test_gaussian_suppression_lowers_by_the_square_of_the_overlap() -> None:
    rows, scores = soft_suppression(INTERVALS, SCORES, sigma=0.5)
    lowered = 0.8 * math.exp(-((9 / 11) ** 2) / 0.5)
    assert rows.tolist() == [1, 2, 0]
    assert scores == pytest.approx([0.9, 0.3, lowered], abs=1e-15)


def test_linear_suppression_lowers_by_what_is_not_shared() -> None:
    rows, scores = soft_suppression(INTERVALS, SCORES, kind="linear", overlap=0.5)
    assert rows.tolist() == [1, 2, 0]
    assert scores == pytest.approx([0.9, 0.3, 0.8 * 2 / 11], abs=1e-15)
    rows, scores = soft_suppression(INTERVALS, SCORES, kind="linear", overlap=0.9)
    assert (rows.tolist(), scores.tolist()) == ([1, 0, 2], [0.9, 0.8, 0.3])


def test_hard_suppression_drops_what_overlaps() -> None:
    rows, scores = soft_suppression(INTERVALS, SCORES, kind="hard")
    assert (rows.tolist(), scores.tolist()) == ([1, 2], [0.9, 0.3])


def test_what_falls_below_the_floor_goes() -> None:
    assert soft_suppression(INTERVALS, SCORES, floor=0.25)[0].tolist() == [1, 2]
    assert soft_suppression(np.zeros((0, 2)), np.zeros(0))[0].tolist() == []
