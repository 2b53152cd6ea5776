"""Average precision of detected intervals by their overlap with true ones, and soft suppression of duplicates.

Intervals are rows (start, stop) in any unit of time. Overlap is tIoU = |a ∩ b| / |a ∪ b|.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from rlkit.ops.average_precision import interpolated_average_precision
from rlkit.types import Array

THUMOS_OVERLAPS = (0.3, 0.4, 0.5, 0.6, 0.7)
ACTIVITYNET_OVERLAPS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


class IntervalClaims(NamedTuple):
    """Detected intervals of one class."""

    video: Array  # [P] number of its video
    interval: Array  # [P, 2]
    score: Array  # [P]


class TrueIntervals(NamedTuple):
    """True intervals of one class."""

    video: Array  # [G]
    interval: Array  # [G, 2]


def temporal_iou(a: Array, b: Array) -> Array:
    """Overlaps tIoU of all pairs of intervals [A, 2] and [B, 2], float64 [A, B]; 0 of two that have no length.

    >>> temporal_iou(np.array([[0.0, 4.0]]), np.array([[2.0, 6.0], [4.0, 5.0]]))
    array([[0.33333333, 0.        ]])
    """
    first, second = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    shared = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    shared = shared.clip(min=0.0)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def interval_average_precision(
    claims: IntervalClaims, truth: TrueIntervals, overlaps: Sequence[float] = THUMOS_OVERLAPS
) -> Array:
    """Interpolated average precision of one class at each least overlap, float64 [len(overlaps)].

    Scores falling, a claim takes the true interval of its video that it overlaps most among those still free, if by at
    least the threshold; each is taken once: ActivityNet's evaluation (Caba Heilbron et al. 2015) and THUMOS's as
    published since. NaN where the class never occurs. The mean over thresholds and classes is the "average mAP".
    Annotations that are there twice count twice; ActionFormer's evaluation drops the copies first.
    """
    order = np.argsort(-np.asarray(claims.score, np.float64), kind="stable")
    rows = {video: np.flatnonzero(truth.video == video) for video in np.unique(truth.video)}
    hits = np.zeros((len(overlaps), len(order)), np.bool_)
    taken = np.zeros((len(overlaps), len(truth.interval)), np.bool_)
    for rank, claim in enumerate(order):
        there = rows.get(claims.video[claim])
        if there is None:
            continue
        overlap = temporal_iou(claims.interval[claim : claim + 1], truth.interval[there])[0]
        for number, least in enumerate(overlaps):
            free = np.where(taken[number, there], -1.0, overlap)
            best = int(free.argmax())
            if free[best] >= least:
                hits[number, rank] = taken[number, there[best]] = True
    return np.array([interpolated_average_precision(each, len(truth.interval)) for each in hits], np.float64)


def soft_suppression(
    intervals: Array,
    scores: Array,
    *,
    kind: Literal["gaussian", "linear", "hard"] = "gaussian",
    sigma: float = 0.5,
    overlap: float = 0.5,
    floor: float = 0.001,
) -> tuple[Array, Array]:
    """Rows of `intervals` [P, 2] that stay, best first, int64 [Q], and their scores after suppression, [Q].

    Soft-NMS in one dimension: Bodla et al. 2017 (https://arxiv.org/abs/1704.04503), equations 1 to 3. The best of the
    rest is kept, and lowers the scores of all others by exp(-tIoU² / σ) (`gaussian`), or by 1 - tIoU where that is at
    least `overlap` (`linear`), or to nothing there (`hard`). Scores below `floor` go.
    """
    left = np.arange(len(scores))
    current = np.array(scores, np.float64)
    kept: list[int] = []
    while len(left := left[current[left] >= floor]):
        best = left[current[left].argmax()]
        kept.append(int(best))
        left = left[left != best]
        shared = temporal_iou(intervals[best : best + 1], intervals[left])[0]
        if kind == "gaussian":
            current[left] *= np.exp(-(shared**2) / sigma)
        else:
            remaining = 1.0 - shared if kind == "linear" else np.zeros_like(shared)
            current[left] *= np.where(shared >= overlap, remaining, 1.0)
    rows = np.array(kept, np.int64)
    return rows, current[rows]
