"""Average precision beside hand-worked numbers, slow float64 references, and numbers of scikit-learn 1.9.1."""

from __future__ import annotations

import numpy as np
import pytest

from rlkit.ops.average_precision import (
    action_runs,
    average_precision,
    calibrated_average_precision,
    class_average_precision,
    eleven_point_average_precision,
    interpolated_average_precision,
    mean_over_occurring,
    precision_recall,
    stage_average_precision,
)
from rlkit.types import Array


def by_thresholds(truth: Array, scores: Array, weight: float = 1.0) -> float:
    """Σ (R_t - R_{t-1}) Prec_t, a pass over the frames for each distinct score."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        hits = sum(1 for y, s in zip(truth, scores, strict=True) if s >= threshold and y)
        false = sum(1 for y, s in zip(truth, scores, strict=True) if s >= threshold and not y)
        total += (hits / truth.sum() - recall) * weight * hits / (weight * hits + false)
        recall = hits / truth.sum()
    return total


def by_loop(truth: Array, scores: Array) -> float:
    """(1/P) Σ TP(k) / k over ranks."""
    ranked = sorted(range(len(scores)), key=lambda frame: -scores[frame])  # Python's sort keeps the order of equals
    found, total = 0, 0.0
    for rank, frame in enumerate(ranked, 1):
        if truth[frame]:
            found += 1
            total += found / rank
    return total / found


def draws(seed: int, levels: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    truth = (rng.random(200) < 0.15).astype(np.uint8)
    scores = np.round(levels * (0.3 * truth + rng.random(200))) / levels
    return truth, scores.astype(np.float32)


def test_average_precision_is_the_mean_precision_at_the_positives() -> None:
    """Positives at ranks 1, 3 and 6: (1/1 + 2/3 + 3/6) / 3."""
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert average_precision(np.array([1, 0, 1, 0, 0, 1]), scores) == pytest.approx(13 / 18, abs=1e-15)


def test_tied_frames_are_one_threshold_or_as_many_as_they_are() -> None:
    """0.9 (right), then right, wrong, right at 0.5: grouped 1/3·1 + 2/3·3/4; as sorted (1 + 1 + 3/4) / 3."""
    truth, scores = np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.9, 0.5, 0.5, 0.5])
    assert average_precision(truth, scores) == pytest.approx(1 / 3 + 2 / 3 * 3 / 4, abs=1e-15)
    assert average_precision(truth, scores, "as-sorted") == pytest.approx((1 + 1 + 3 / 4) / 3, abs=1e-15)


@pytest.mark.parametrize("levels", [3, 20, 10**6])
def test_average_precision_equals_a_pass_for_each_threshold(levels: int) -> None:
    truth, scores = draws(levels, levels)
    assert average_precision(truth, scores) == pytest.approx(by_thresholds(truth, scores), abs=1e-12)
    assert average_precision(truth, scores, "as-sorted") == pytest.approx(by_loop(truth, scores), abs=1e-12)
    weight = (200 - truth.sum()) / truth.sum()
    expected = by_thresholds(truth, scores, float(weight))
    assert calibrated_average_precision(truth, scores) == pytest.approx(expected, abs=1e-12)


def test_average_precision_is_that_of_scikit_learn() -> None:
    """average_precision_score(truth, scores) on draws with three levels, twenty, and none alike."""
    expected = [0.40302930932542347, 0.5370815930161591, 0.49801723722115654]
    found = [average_precision(*draws(levels, levels)) for levels in (3, 20, 10**6)]
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_constant_score_gets_the_prevalence_grouped_and_anything_as_sorted() -> None:
    """One positive in a hundred frames: 0.01 grouped, 1 where it comes first, 0.01 where it comes last."""
    constant = np.full(100, 0.5)
    first, last = np.eye(100)[0], np.eye(100)[99]
    for truth, as_sorted in ((first, 1.0), (last, 0.01)):
        assert average_precision(truth, constant) == pytest.approx(0.01, abs=1e-15)
        assert average_precision(truth, constant, "as-sorted") == pytest.approx(as_sorted, abs=1e-15)


def test_a_score_that_knows_nothing_is_calibrated_to_a_half_at_any_prevalence() -> None:
    rng = np.random.default_rng(0)
    for prevalence in (0.5, 0.1, 0.01):
        truth = np.arange(200_000) < prevalence * 200_000
        assert calibrated_average_precision(truth, np.zeros(200_000)) == pytest.approx(0.5, abs=1e-12)
        assert calibrated_average_precision(truth, rng.random(200_000)) == pytest.approx(0.5, abs=0.01)


def test_calibration_takes_away_the_prevalence() -> None:
    """A detector 1.5 deviations better: AP .855, .478, .126 and cAP .854, .854, .860."""
    rng = np.random.default_rng(1)
    for prevalence, plain in ((0.5, 0.855), (0.1, 0.478), (0.01, 0.126)):
        truth = np.arange(200_000) < prevalence * 200_000
        scores = rng.normal(size=200_000) + 1.5 * truth
        assert average_precision(truth, scores) == pytest.approx(plain, abs=0.02)
        assert calibrated_average_precision(truth, scores) == pytest.approx(0.855, abs=0.015)


def test_calibrated_precision_weighs_hits_by_negatives_over_positives() -> None:
    """w = 3; ranks 2 and 3 of 8 are right: (3/(3+1) + 6/(6+1)) / 2."""
    truth, scores = np.array([0, 1, 1, 0, 0, 0, 0, 0]), np.arange(8, 0, -1)
    assert calibrated_average_precision(truth, scores) == pytest.approx((3 / 4 + 6 / 7) / 2, abs=1e-15)
    assert calibrated_average_precision(truth, scores, "as-sorted") == pytest.approx((3 / 4 + 6 / 7) / 2, abs=1e-15)


def test_a_class_that_never_occurs_is_nan_and_out_of_the_mean() -> None:
    truth = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]], np.uint8)
    scores = np.array([[0.9, 0.3, 0.1], [0.8, 0.2, 0.2], [0.7, 0.4, 0.3]])
    for calibrated in (False, True):
        found = class_average_precision(truth, scores, calibrated=calibrated)
        assert np.isnan(found).tolist() == [False, True, False]
        assert found[2] == 1.0, "all frames are positive"
        assert mean_over_occurring(found) == pytest.approx((found[0] + 1.0) / 2, abs=1e-15)
    assert np.isnan(mean_over_occurring(np.array([np.nan])))
    assert np.isnan(average_precision(np.zeros(0), np.zeros(0)))


def test_the_curve_has_a_point_for_each_distinct_score() -> None:
    curve = precision_recall(np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.9, 0.5, 0.5, 0.5]))
    assert curve.thresholds.tolist() == [0.9, 0.5, 0.1]
    assert curve.precision.tolist() == [1.0, 0.75, 0.6]
    assert curve.recall == pytest.approx([1 / 3, 1.0, 1.0], abs=1e-15)


def test_runs_end_where_videos_do() -> None:
    truth = np.array([1, 1, 0, 1, 1, 0, 0, 1])
    begins, ends = action_runs(truth, np.array([0, 4, 7]))
    assert list(zip(begins.tolist(), ends.tolist(), strict=True)) == [(0, 2), (3, 4), (4, 5), (7, 8)]
    assert [each.tolist() for each in action_runs(np.zeros(3), np.array([0]))] == [[], []]


def stages(scores_of_action: Array, *, last_frames: bool) -> Array:
    """cAP by stage of one action after as many frames without, all of which score 5."""
    length = len(scores_of_action)
    truth = np.concatenate((np.zeros(length), np.ones(length)))
    scores = np.concatenate((np.full(length, 5.0), scores_of_action))
    return stage_average_precision(truth, scores, np.array([0]), last_frames=last_frames)


def test_stages_are_tenths_of_each_action() -> None:
    """20 frames: stage s has frames 2s and 2s + 1; those from 10 on score above the rest, the others below.

    Below all negatives: w = 10, both positives one threshold: 10·2/(10·2 + 20) = 1/2.
    """
    found = stages(np.where(np.arange(20) < 10, 1.0, 9.0), last_frames=True)
    assert found == pytest.approx([0.5] * 5 + [1.0] * 5, abs=1e-15)


def test_published_stages_leave_out_the_last_frame_of_an_action() -> None:
    """11 frames: one a stage, and the eleventh, the only one that is found late, in the last stage or in none."""
    late = np.where(np.arange(11) == 10, 1.0, 9.0)
    assert stages(late, last_frames=False) == pytest.approx([1.0] * 10, abs=1e-15)
    # frames 9 and 10: 9 is ahead of all, and 10 is behind all: (1 + 2w/(2w + 11)) / 2, w = 11/2
    assert stages(late, last_frames=True)[9] == pytest.approx((1 + 0.5) / 2, abs=1e-15)


def test_published_stages_are_cut_as_the_float_product_rounds() -> None:
    """An action of 91 frames: 90 · 0.7 is 62.99…, so frame 62 is the first of stage 7 and not the last of stage 6."""
    scores = np.ones(91)
    scores[62] = 9.0
    assert stages(scores, last_frames=False)[7] > stages(scores, last_frames=False)[6]


def test_short_actions_have_a_frame_in_every_stage() -> None:
    truth = np.array([0, 1, 0, 0])
    found = stage_average_precision(truth, np.array([1.0, 2.0, 0.0, 0.0]), np.array([0]))
    assert found.tolist() == [1.0] * 10
    assert np.isnan(stage_average_precision(np.zeros(4), np.zeros(4), np.array([0]))).all()


def test_interpolated_area_takes_the_best_precision_further_on() -> None:
    """Wrong, right, right, wrong, right of 4: precision 0, 1/2, 2/3, 1/2, 3/5 → 2/3 up to recall 1/2, 3/5 up to 3/4."""
    hits = np.array([False, True, True, False, True])
    expected = 0.5 * 2 / 3 + 0.25 * 3 / 5
    assert interpolated_average_precision(hits, 4) == pytest.approx(expected, abs=1e-15)
    assert interpolated_average_precision(hits, 4, depth=0.5) == pytest.approx(2 / 3, abs=1e-15)
    assert interpolated_average_precision(hits, 4, depth=0.6) == pytest.approx((1 / 3 + 0.06) / 0.6, abs=1e-15)


def test_eleven_points_are_the_mean_precision_at_eleven_recalls() -> None:
    """Recalls 0 to .5 have 2/3, .6 and .7 have 3/5, .8 to 1 are never reached."""
    hits = np.array([False, True, True, False, True])
    assert eleven_point_average_precision(hits, 4) == pytest.approx((6 * 2 / 3 + 2 * 3 / 5) / 11, abs=1e-15)
    assert eleven_point_average_precision(hits, 4, depth=0.5) == pytest.approx(2 / 3, abs=1e-15)


def test_three_of_ten_are_less_than_three_times_a_float_tenth_as_published() -> None:
    """Reached are the recalls 0, 0.1 and 0.2; of 2 of 10 there is no doubt, nor of 4."""
    for found, points in ((2, 3), (3, 3), (4, 5)):
        expected = points / 11
        assert eleven_point_average_precision(np.ones(found, np.bool_), 10) == pytest.approx(expected, abs=1e-15)


def test_nothing_claimed_is_zero_and_nothing_there_is_nan() -> None:
    nothing = np.zeros(0, np.bool_)
    assert interpolated_average_precision(nothing, 3) == eleven_point_average_precision(nothing, 3) == 0.0
    assert np.isnan(interpolated_average_precision(np.ones(1, np.bool_), 0))
    assert np.isnan(eleven_point_average_precision(np.ones(1, np.bool_), 0))
