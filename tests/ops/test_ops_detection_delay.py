"""Delay and AMOC curves beside a frame-by-frame reference and cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rlkit.ops.detection_delay import MOST_THRESHOLDS, amoc_curve, delay_at, delay_curve, time_to_detect_at
from rlkit.types import Array

#         a false alarm   an event of 4         an alarm that goes on, one that begins
TRUTH = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0])
SCORES = np.array([0.1, 0.6, 0.1, 0.2, 0.3, 0.7, 0.9, 0.8, 0.1, 0.6])


def test_delay_is_the_frames_of_an_event_before_its_first_alarm() -> None:
    curve = delay_curve(TRUTH, SCORES, np.array([0]), np.array([0.1, 0.3, 0.7, 0.95]))
    assert curve.thresholds.tolist() == [0.95, 0.7, 0.3, 0.1]
    assert curve.delay.tolist() == [4.0, 2.0, 1.0, 0.0]
    assert curve.missed.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_an_alarm_that_goes_on_after_an_event_is_no_new_one_but_its_frames_count() -> None:
    curve = delay_curve(TRUTH, SCORES, np.array([0]), np.array([0.5, 0.75]))
    assert curve.false_alarms.tolist() == [0, 2], "at 0.75 only the alarm of the event is left"
    assert curve.false_alarm_rate == pytest.approx([1 / 6, 3 / 6], abs=1e-15)


def test_an_event_and_an_alarm_end_where_a_video_does() -> None:
    """Cut before frame 5: a second event of 2, noticed at once; before frame 7: the alarm after it is a new one."""
    curve = delay_curve(TRUTH, SCORES, np.array([0, 5, 7]), np.array([0.65]))
    assert curve.delay.tolist() == [(2 + 0) / 2]
    assert curve.missed.tolist() == [0.5]
    assert curve.false_alarms.tolist() == [1]


def by_frames(truth: Array, scores: Array, first_frames: Array, level: float) -> tuple[float, int, float, float]:
    """Rate, number, delay and missed of one threshold, frame by frame."""
    delays, lengths, began, loud = [], [], 0, 0
    event = alarm = False
    for frame in range(len(truth)):
        if frame in first_frames:
            event = alarm = False
        now = scores[frame] >= level
        if truth[frame]:
            if not event:
                delays.append(0)
                lengths.append(0)
                found = False
            found = found or now
            delays[-1] += not found
            lengths[-1] += 1
        else:
            loud += now
            began += now and not alarm
        event, alarm = bool(truth[frame]), bool(now)
    missed = [delay == length for delay, length in zip(delays, lengths, strict=True)]
    return loud / (truth == 0).sum(), began, float(np.mean(delays)), float(np.mean(missed))


def test_the_curve_equals_a_walk_over_frames_at_every_threshold() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.random(60) < 0.3, rng.integers(1, 9, 60)).astype(np.uint8)
    scores = np.round(np.convolve(rng.random(len(truth)), [0.5, 0.5], "same"), 1)
    first_frames = np.array([0, 50, 51, 120])
    curve = delay_curve(truth, scores, first_frames)
    assert set(curve.thresholds) == {np.inf, *scores}
    for place, level in enumerate(curve.thresholds):
        rate, began, delay, missed = by_frames(truth, scores, first_frames, level)
        found = [each[place] for each in curve[1:]]
        assert found == pytest.approx([rate, began, delay, missed], abs=1e-12)


def test_delay_at_a_false_alarm_rate_is_the_least_that_it_allows() -> None:
    curve = delay_curve(TRUTH, SCORES, np.array([0]))
    assert delay_at(curve, 1 / 6) == 2.0, "threshold 0.7: the frame after the event alone"
    assert delay_at(curve, 0.0) == 3.0
    assert delay_at(curve, 1.0) == 0.0
    assert delay_at(delay_curve(TRUTH, np.zeros(10), np.array([0])), 0.5) == 4.0, "without any alarm"


def test_nothing_to_notice_is_nan() -> None:
    curve = delay_curve(np.zeros(4), np.arange(4.0), np.array([0]))
    assert np.isnan(curve.delay).all()
    assert np.isnan(curve.missed).all()
    assert np.isnan(delay_curve(np.ones(4), np.arange(4.0), np.array([0])).false_alarm_rate).all()


def test_many_scores_give_thresholds_evenly_in_rank() -> None:
    scores = np.random.default_rng(0).normal(size=5000)
    levels = delay_curve(np.zeros(5000), scores, np.array([0])).thresholds
    assert len(levels) == 1 + MOST_THRESHOLDS
    assert (levels[0], levels[1], levels[-1]) == (np.inf, scores.max(), scores.min())
    assert (np.diff(levels) < 0).all()


def test_amoc_counts_early_alarms_and_normalises_the_others_by_the_event() -> None:
    """Events [2, 6) of two sequences. At 0.5 the first alarm comes at frame 0, and at frame 4: (4 - 2 + 1) / 4."""
    scores = [np.array([0.5, 0.1, 0.9, 0.9, 0.9, 0.9]), np.array([0.0, 0.1, 0.2, 0.4, 0.6, 0.7, 1.0])]
    curve = amoc_curve(scores, np.array([[2, 6], [2, 6]]), np.array([0.5, 0.9, 0.05]))
    assert curve.thresholds.tolist() == [0.9, 0.5, 0.05]
    assert curve.false_positive_rate.tolist() == [0.0, 0.5, 1.0]
    # 0.9: at once, 1/4, and never up to the event's end, 1; 0.5: 0 and 3/4; 0.05: both too early
    assert curve.time_to_detect.tolist() == [(1 / 4 + 1) / 2, (0 + 3 / 4) / 2, 0.0]
    assert curve.missed.tolist() == [0.5, 0.0, 0.0]
    assert [time_to_detect_at(curve, rate) for rate in (0.0, 0.49, 0.5, 1.0)] == [0.625, 0.625, 0.375, 0.0]


def test_an_alarm_at_the_last_frame_of_an_event_is_late_but_not_missed() -> None:
    curve = amoc_curve([np.array([0.0, 0.0, 1.0])], np.array([[1, 3]]), np.array([1.0]))
    assert (curve.time_to_detect.tolist(), curve.missed.tolist()) == ([1.0], [0.0])


def test_scores_that_move_no_first_alarm_are_no_thresholds_of_amoc() -> None:
    """So that few of many frames are lost to thinning, and all that matter are there."""
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=1_020) for _ in range(60)]
    for each in scores:
        each[1_000:] += 3
    events = np.tile([1_000, 1_020], (60, 1))
    curve = amoc_curve(scores, events)
    assert len(curve.thresholds) < MOST_THRESHOLDS
    exact = amoc_curve(scores, events, np.unique(np.concatenate(scores)))
    for rate in (0.0, 0.01, 0.05, 0.1, 0.5):
        assert time_to_detect_at(curve, rate) == time_to_detect_at(exact, rate)


def test_what_never_sounds_an_alarm_is_late_and_never_too_soon() -> None:
    """Infinity is a threshold too, so a false alarm above all else does not hide how bad a detector is."""
    bad, better = (amoc_curve([np.array([early, 0.0, 0.9])], np.array([[1, 3]])) for early in (1.0, 0.5))
    assert (time_to_detect_at(bad, 0.0), time_to_detect_at(better, 0.0)) == (1.0, 1.0)
    assert np.isnan(time_to_detect_at(amoc_curve([], np.zeros((0, 2), np.int64)), 1.0))
