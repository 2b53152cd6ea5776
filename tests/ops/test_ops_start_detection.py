"""Point-level average precision of starts, beside cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rlkit.ops.start_detection import (
    StartClaims,
    Starts,
    changed_classes,
    rising_scores,
    start_average_precision,
    start_hits,
)

# Starts at 10 and 12 of video 0. Claims, scores falling: 10.9, then 10.8 (both nearest to 10), then 30.
TRUTH = Starts(np.array([0, 0]), np.array([10.0, 12.0]))
CLAIMS = StartClaims(np.array([0, 0, 0]), np.array([10.9, 30.0, 10.8]), np.array([0.9, 0.2, 0.5]))


def test_a_second_claim_near_a_taken_start_takes_the_next_one_or_is_false() -> None:
    assert start_hits(CLAIMS, TRUTH, 2.0, only_nearest=True).tolist() == [True, False, False]
    assert start_hits(CLAIMS, TRUTH, 2.0, only_nearest=False).tolist() == [True, True, False]
    assert start_hits(CLAIMS, TRUTH, 1.0, only_nearest=False).tolist() == [True, False, False], "12 is too far"


def test_the_two_published_variants_differ_on_one_file() -> None:
    """WOAD: precision 1 up to recall 1/2, that is 6 of 11 points; ActivityNet's: both starts found first."""
    assert start_average_precision(CLAIMS, TRUTH, 2.0, "woad") == pytest.approx(6 / 11, abs=1e-15)
    assert start_average_precision(CLAIMS, TRUTH, 2.0, "activitynet") == pytest.approx(1.0, abs=1e-15)


def test_the_offset_itself_is_near_enough() -> None:
    claim = StartClaims(np.array([0]), np.array([13.0]), np.array([1.0]))
    assert start_hits(claim, TRUTH, 1.0, only_nearest=False).tolist() == [True]
    assert start_hits(claim, TRUTH, 0.9, only_nearest=False).tolist() == [False]


def test_a_start_is_only_found_in_its_own_video() -> None:
    claims = StartClaims(np.array([1, 0]), np.array([10.0, 10.0]), np.array([0.9, 0.8]))
    assert start_hits(claims, TRUTH, 5.0, only_nearest=False).tolist() == [False, True]
    assert start_average_precision(claims, TRUTH, 5.0) == pytest.approx(0.5 * 0.5, abs=1e-15)


def test_the_higher_score_takes_the_start_and_equal_ones_as_given() -> None:
    claims = StartClaims(np.zeros(3, np.int64), np.array([30.0, 10.0, 10.0]), np.array([0.5, 0.5, 0.6]))
    truth = Starts(np.array([0]), np.array([10.0]))
    assert start_hits(claims, truth, 1.0, only_nearest=False).tolist() == [True, False, False]


def test_depth_is_the_mean_precision_up_to_a_recall() -> None:
    """Right, wrong, right of 2: precision 1 up to recall 1/2, then 2/3."""
    claims = StartClaims(np.zeros(3, np.int64), np.array([10.0, 50.0, 12.0]), np.array([0.9, 0.8, 0.7]))
    for rule in ("woad", "activitynet"):
        assert start_average_precision(claims, TRUTH, 0.5, rule, depth=0.5) == pytest.approx(1.0, abs=1e-15)
    assert start_average_precision(claims, TRUTH, 0.5, "activitynet") == pytest.approx(0.5 + 1 / 3, abs=1e-15)
    assert start_average_precision(claims, TRUTH, 0.5, "woad") == pytest.approx((6 + 5 * 2 / 3) / 11, abs=1e-15)


def test_a_class_that_never_starts_is_nan_and_one_never_claimed_is_zero() -> None:
    nothing = Starts(np.zeros(0, np.int64), np.zeros(0))
    assert np.isnan(start_average_precision(CLAIMS, nothing, 1.0))
    assert start_average_precision(StartClaims(*nothing, np.zeros(0)), TRUTH, 1.0, "woad") == 0.0


def test_a_start_is_claimed_where_the_likeliest_class_changes_to_an_action() -> None:
    """Likeliest class 1, 1, 2, 0, 2, 0: an action may start at the first frame, and none does at background."""
    likeliest = np.array([1, 1, 2, 0, 2, 0])
    scores = np.full((6, 3), 0.1)
    scores[np.arange(6), likeliest] = [0.8, 0.8, 0.7, 0.8, 0.4, 0.8]
    frames, classes = changed_classes(scores)
    assert (frames.tolist(), classes.tolist()) == ([0, 2, 4], [1, 2, 2])
    frames, classes = changed_classes(scores, threshold=0.4)
    assert (frames.tolist(), classes.tolist()) == ([0, 2], [1, 2])


def test_scores_of_several_classes_rise_each_for_itself() -> None:
    scores = np.array([[0.6, 0.1], [0.7, 0.6], [0.2, 0.6], [0.6, 0.5]])
    frames, classes = rising_scores(scores, 0.5)
    assert list(zip(frames.tolist(), classes.tolist(), strict=True)) == [(0, 0), (1, 1), (3, 0)]
