"""How late events are noticed against how often nothing is: delay curves of streams, AMOC curves of sequences.

An alarm sounds where a score is at least the threshold. Times are in frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlkit.ops.average_precision import action_runs
from rlkit.types import Array

MOST_THRESHOLDS = 1000


class DelayCurve(NamedTuple):
    """What each threshold costs, thresholds falling, [T]."""

    thresholds: Array
    false_alarm_rate: Array  # share of the frames without event that are at least the threshold
    false_alarms: Array  # how often an alarm began where there was no event
    delay: Array  # mean over events, a missed one counts its whole length
    missed: Array  # share of events that were never noticed


class AmocCurve(NamedTuple):
    """Activity monitoring operating characteristic, thresholds falling, [T]."""

    thresholds: Array
    false_positive_rate: Array  # share of sequences whose first alarm came before the event
    time_to_detect: Array  # mean normalised time to detect, 0 to 1
    missed: Array  # share of sequences without an alarm up to the event's end


def delay_curve(truth: Array, scores: Array, first_frames: Array, thresholds: Array | None = None) -> DelayCurve:
    """Delay against false alarms of one class, of truth and scores [M] of videos that begin at `first_frames` [V].

    An event is a run of positives within a video. Its delay is the number of its frames before the first that is at
    least the threshold: 0 where its first frame is. An alarm that began in an event and goes on after it is not a new
    false alarm, but its frames count in the rate. Delay is NaN without events, the rate without frames that have none.
    `thresholds` are by default infinity, at which there is no alarm, and the distinct scores, or 1,000 of them evenly
    in rank where there are more.
    """
    scores = np.asarray(scores, np.float64)
    levels = _levels(scores) if thresholds is None else np.sort(np.asarray(thresholds, np.float64))[::-1]
    begins, ends = action_runs(truth, first_frames)
    delays, missed = np.zeros(len(levels)), np.zeros(len(levels))
    for first, past in zip(begins, ends, strict=True):
        highest = np.maximum.accumulate(scores[first:past])
        late = np.searchsorted(highest, levels)  # the first frame that is at least the threshold
        delays += late
        missed += late == past - first
    negative = np.asarray(truth) == 0
    before = np.concatenate(([-np.inf], scores[:-1]))
    before[first_frames] = -np.inf
    loud = _at_least(scores[negative], levels)
    began = loud - _at_least(np.minimum(scores, before)[negative], levels)
    return DelayCurve(
        levels, _share(loud, negative.sum()), began, _share(delays, len(begins)), _share(missed, len(begins))
    )


def delay_at(curve: DelayCurve, false_alarm_rate: float) -> float:
    """The least mean delay of `curve` at that false-alarm rate or below; NaN without events."""
    allowed = curve.false_alarm_rate <= false_alarm_rate
    return float(curve.delay[allowed].min()) if allowed.any() else np.nan


def amoc_curve(scores: Sequence[Array], events: Array, thresholds: Array | None = None) -> AmocCurve:
    """AMOC of S sequences of scores [L_i], each with one event `events` [S, 2] from its first frame to behind its last.

    Hoai and De la Torre 2014 (https://doi.org/10.1007/s11263-013-0683-3): where the first alarm of a
    sequence comes at frame t of an event from s to e - 1, its normalised time is (t - s + 1) / (e - s). An alarm before
    the event is a false positive, and its time is 0. Where none comes up to the event's end the event is missed; the
    paper's infinity has no mean, so its time is 1 here, and `missed` tells the share. What follows an event is not
    looked at. `thresholds` are by default infinity and the scores at which a first alarm can move, or 1,000 of these
    evenly in rank where there are more.
    """
    highest = [
        np.maximum.accumulate(each[:past], dtype=np.float64) for each, (_, past) in zip(scores, events, strict=True)
    ]
    pooled = np.concatenate(highest) if highest else np.zeros(0)
    levels = _levels(pooled) if thresholds is None else np.sort(np.asarray(thresholds, np.float64))[::-1]
    early, time, missed = np.zeros(len(levels)), np.zeros(len(levels)), np.zeros(len(levels))
    for so_far, (first, past) in zip(highest, events, strict=True):
        alarm = np.searchsorted(so_far, levels)
        early += alarm < first
        missed += alarm == past
        time += np.where(alarm < first, 0.0, np.minimum((alarm - first + 1) / (past - first), 1.0))
    return AmocCurve(levels, *(_share(each, len(highest)) for each in (early, time, missed)))


def time_to_detect_at(curve: AmocCurve, false_positive_rate: float) -> float:
    """The least mean time of `curve` at that false-positive rate or below; NaN without events."""
    allowed = curve.false_positive_rate <= false_positive_rate
    return float(curve.time_to_detect[allowed].min()) if allowed.any() else np.nan


def _levels(scores: Array) -> Array:
    """Infinity, then distinct scores, falling: at most `MOST_THRESHOLDS`, evenly in rank, both ends among them."""
    distinct = np.unique(scores)[::-1]
    if len(distinct) > MOST_THRESHOLDS:
        distinct = distinct[np.linspace(0, len(distinct) - 1, MOST_THRESHOLDS).round().astype(np.int64)]
    return np.concatenate(([np.inf], distinct))


def _at_least(values: Array, levels: Array) -> Array:
    """How many of `values` are at least each level, int64 [T]."""
    return len(values) - np.searchsorted(np.sort(values), levels)


def _share(counts: Array, of: int) -> Array:
    return counts / of if of else np.full(len(counts), np.nan)
