"""Average precision of frames, plain and calibrated, by class and by stage of an action.

M frames, K classes, P positives, N negatives. Truth is 0/1, scores are finite, larger for likelier. Where a class never
occurs nothing can be said of it: its value is NaN, and `mean_over_occurring` leaves it out.

Ties are an argument, because published codes differ. `grouped`: frames of equal score stand or fall together, one
threshold for all of them, as in scikit-learn. `as-sorted`: each frame is a threshold, equal scores in the order in
which they are given, as where a loop walks over sorted frames (OadTR and IDN; the cAP of LSTR and MiniROAD). A constant
score then gets 1 where the positives come first, and little where they come last. Those codes sort by an unstable
algorithm, so that their order of equals is any; here it is the given one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from rlkit.types import Array

Ties = Literal["grouped", "as-sorted"]


class PrecisionRecall(NamedTuple):
    """Precision and recall of claiming all frames whose score is at least each threshold, thresholds falling, [T]."""

    precision: Array
    recall: Array
    thresholds: Array


class _Counts(NamedTuple):
    """Hits and false claims at each threshold, scores falling, float64 [T]."""

    hits: Array
    false: Array
    thresholds: Array


def average_precision(truth: Array, scores: Array, ties: Ties = "grouped") -> float:
    """Σ (R_t - R_{t-1}) Prec_t over thresholds from high to low, of truth and scores [M]; NaN without a positive.

    Grouped it is scikit-learn's `average_precision_score`; as sorted (1/P) Σ TP(k)/k over the ranks k of positives.

    >>> average_precision(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]))
    0.8333333333333333
    """
    counts = _counts(truth, scores, ties)
    return _area(counts.hits, counts.hits / (counts.hits + counts.false))


def calibrated_average_precision(truth: Array, scores: Array, ties: Ties = "grouped") -> float:
    """Average precision with cPrec = w TP / (w TP + FP), w = N / P: what it were if both were equally frequent.

    De Geest et al. 2016 (https://arxiv.org/abs/1604.06506). Scores that know nothing get 0.5 at any prevalence. Without
    negatives it is 1, the limit; NaN without a positive.

    >>> calibrated_average_precision(np.array([1, 0, 0, 0]), np.full(4, 0.3))
    0.5
    """
    counts = _counts(truth, scores, ties)
    positives, negatives = counts.hits[-1:].sum(), counts.false[-1:].sum()
    if negatives == 0:
        return 1.0 if positives else np.nan
    weighted = counts.hits * (negatives / positives) if positives else counts.hits
    return _area(counts.hits, weighted / (weighted + counts.false))


def precision_recall(truth: Array, scores: Array) -> PrecisionRecall:
    """The curve of truth and scores [M], a point for each distinct score; recall is NaN without a positive."""
    hits, false, thresholds = _counts(truth, scores, "grouped")
    recall = hits / hits[-1] if len(hits) and hits[-1] else np.full(len(hits), np.nan)
    return PrecisionRecall(hits / (hits + false), recall, thresholds)


def class_average_precision(
    truth: Array, scores: Array, ties: Ties = "grouped", *, calibrated: bool = False
) -> Array:  # fmt: skip
    """Average precision of each class of truth and scores [M, K], float64 [K]; NaN for classes that never occur."""
    of = calibrated_average_precision if calibrated else average_precision
    return np.array([of(truth[:, k], scores[:, k], ties) for k in range(truth.shape[1])], np.float64)


def mean_over_occurring(values: Array) -> float:
    """Mean of the values that are not NaN, as classes have that occur; NaN where there are none.

    >>> mean_over_occurring(np.array([0.5, np.nan, 1.0]))
    0.75
    """
    occurring = ~np.isnan(values)
    return float(values[occurring].mean()) if occurring.any() else np.nan


def stage_average_precision(
    truth: Array,
    scores: Array,
    first_frames: Array,
    ties: Ties = "grouped",
    *,
    calibrated: bool = True,
    last_frames: bool = True,
) -> Array:
    """(Calibrated) average precision of each tenth of the actions, float64 [10], of truth and scores [M] of one class.

    An action is a run of positives within a video; videos begin at `first_frames` [V], ascending. Stage s has the
    frames of tenth s of every action, at least one, and all negatives: De Geest et al. 2016. An action of
    n frames is cut at ⌊n s / 10⌋. With `last_frames` off it is cut as LSTR's code cuts it, at ⌊(n - 1) s / 10⌋, and the
    last frame of an action of more than one is in no stage.
    """
    begins, ends = action_runs(truth, first_frames)
    negatives = truth == 0
    of = calibrated_average_precision if calibrated else average_precision
    length = ends - begins if last_frames else ends - begins - 1
    found = []
    for stage in range(10):
        rows = negatives.copy()
        # LSTR multiplies by the float s/10, whose rounding decides at some lengths, such as 90 · 0.7 = 62.99…
        cuts = [length * s // 10 if last_frames else (length * (s / 10)).astype(np.int64) for s in (stage, stage + 1)]
        for first, past in zip(begins + cuts[0], np.maximum(begins + cuts[0] + 1, begins + cuts[1]), strict=True):
            rows[first:past] = True
        found.append(of(truth[rows], scores[rows], ties))
    return np.array(found, np.float64)


def action_runs(truth: Array, first_frames: Array) -> tuple[Array, Array]:
    """First frames of runs of positives in truth [M], and the frames after their last, int64 [E] each.

    A run ends where a video does; videos begin at `first_frames` [V].

    >>> action_runs(np.array([0, 1, 1, 1, 0, 1]), np.array([0, 3]))
    (array([1, 3, 5]), array([3, 4, 6]))
    """
    positive = np.asarray(truth) != 0
    fresh = np.zeros(len(positive) + 1, np.bool_)
    fresh[first_frames] = True
    fresh[-1] = True
    before = np.concatenate(([False], positive)) & ~fresh  # the frame before is positive and of the same video
    now = np.concatenate((positive, [False]))
    begins = np.flatnonzero(now & ~before)
    ends = np.flatnonzero(np.concatenate(([False], positive)) & (~now | fresh))
    return begins, ends


def interpolated_average_precision(hits: Array, positives: int, depth: float = 1.0) -> float:
    """Area under the precision–recall curve, precision made to fall with recall (VOC 2010 and later).

    `hits` [P] says for each claim, scores falling, whether it is right; there are `positives` in all. The area up to
    the recall `depth`, divided by it. NaN without positives, 0 without claims.

    Everingham et al. 2012, the VOC development kit; ActivityNet's evaluation takes the same area.
    """
    if positives == 0:
        return np.nan
    precision, recall = _interpolated(hits, positives)
    reached = np.minimum(np.concatenate(([0.0], recall)), depth)
    return float((np.diff(reached) * precision).sum() / depth)


def eleven_point_average_precision(hits: Array, positives: int, depth: float = 1.0) -> float:
    """Mean of the interpolated precision at recalls 0, depth / 10, … depth (VOC 2007); arguments as above.

    The recalls are multiples of the float depth / 10, as in the codes that papers use: 3 · 0.1 is more than 3/10, and 3
    starts of 10 do not reach it.
    """
    if positives == 0:
        return np.nan
    precision, recall = _interpolated(hits, positives)
    places = np.searchsorted(recall, np.arange(11) * (depth / 10))
    return float(np.concatenate((precision, [0.0]))[places].mean())


def _interpolated(hits: Array, positives: int) -> tuple[Array, Array]:
    """The largest precision at each recall or beyond, and the recalls, rising, [P]."""
    found = np.cumsum(np.asarray(hits, np.float64))
    precision = found / np.arange(1, len(found) + 1)
    return np.maximum.accumulate(precision[::-1])[::-1], found / positives


def _counts(truth: Array, scores: Array, ties: Ties) -> _Counts:
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    hit = np.asarray(truth)[order] != 0
    falling = np.asarray(scores)[order]
    hits = np.cumsum(hit, dtype=np.float64)
    false = np.arange(1, len(hit) + 1) - hits
    if ties == "grouped":
        last = np.flatnonzero(np.append(falling[1:] != falling[:-1], [True] * min(len(falling), 1)))
        return _Counts(hits[last], false[last], falling[last])
    return _Counts(hits, false, falling)


def _area(hits: Array, precision: Array) -> float:
    """Σ of precision over what each threshold adds to recall."""
    if len(hits) == 0 or hits[-1] == 0:
        return np.nan
    return float((np.diff(hits, prepend=0.0) * precision).sum() / hits[-1])
