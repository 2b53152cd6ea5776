"""Point-level average precision of action starts: what was claimed to start, where, against what did.

Shou et al. 2018 (https://arxiv.org/abs/1802.06822): a claim is right where its class is, and its time is at most δ from
a start of that class that no claim of a higher score has taken. Two public evaluations disagree on the rest, and both
are here by name:

- `woad` (https://github.com/salesforce/woad-pytorch, `utils.py`): a claim may only take the start nearest to it, and is
  false where that one is taken; average precision at 11 recalls (VOC 2007).
- `activitynet` (https://github.com/lq010/Online-Detection-of-Action-Start and its forks): a claim takes the nearest
  start that is still free; the area under the interpolated curve (VOC 2010 and later).

Deviations from WOAD's code, which scores all frames at once: a claim never takes the class before it from another
video, frames that claim nothing are no claims (there they are, with score 0), and starts behind a video's end count.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from rlkit.ops.average_precision import eleven_point_average_precision, interpolated_average_precision
from rlkit.types import Array

StartRule = Literal["woad", "activitynet"]
OFFSETS = tuple(float(second) for second in range(1, 11))
"""Seconds of δ that papers print, 1 to 10."""


class StartClaims(NamedTuple):
    """Claimed starts of one class."""

    video: Array  # [P] number of its video
    time: Array  # [P] in the unit of the offset
    score: Array  # [P]


class Starts(NamedTuple):
    """True starts of one class."""

    video: Array  # [G]
    time: Array  # [G]


def changed_classes(scores: Array, threshold: float = 0.0, background: int = 0) -> tuple[Array, Array]:
    """Frames at which an action is claimed to start, and its class, int64 [P] each, of one video's scores [L, K].

    Where the likeliest class is another than at the frame before, is not the background, and scores more than
    `threshold`: StartNet (Gao et al. 2019, https://arxiv.org/abs/1903.09868); with a threshold of 0 WOAD's code. Before
    the first frame there was background. The claim's score is `scores[frame, class]`.
    """
    likeliest = scores.argmax(axis=1)
    before = np.concatenate(([background], likeliest[:-1]))
    highest = np.take_along_axis(scores, likeliest[:, None], axis=1)[:, 0]
    frames = np.flatnonzero((likeliest != before) & (likeliest != background) & (highest > threshold))
    return frames, likeliest[frames]


def rising_scores(scores: Array, threshold: float) -> tuple[Array, Array]:
    """Frames at which a class's score rises above `threshold`, and the class, of scores [L, K] of one video.

    For classes that do not exclude each other, where no change of the likeliest tells; in order of frames. Before the
    first frame nothing was above.
    """
    above = scores > threshold
    before = np.concatenate((np.zeros_like(above[:1]), above[:-1]))
    frames, classes = np.nonzero(above & ~before)
    return frames, classes


def start_hits(claims: StartClaims, truth: Starts, offset: float, *, only_nearest: bool) -> Array:
    """Whether each claim is right, scores falling and equal ones as given, bool [P].

    A claim at most `offset` from a start takes it, the nearest that is free; with `only_nearest` it takes the nearest
    or none. Each start is taken once.
    """
    order = np.argsort(-np.asarray(claims.score, np.float64), kind="stable")
    rows = {video: np.flatnonzero(truth.video == video) for video in np.unique(truth.video)}
    taken = np.zeros(len(truth.time), np.bool_)
    hits = np.zeros(len(order), np.bool_)
    for rank, claim in enumerate(order):
        near = rows.get(claims.video[claim], np.zeros(0, np.int64))
        distance = np.abs(truth.time[near] - claims.time[claim])
        if only_nearest:
            near, distance = near[distance.argsort(kind="stable")[:1]], np.sort(distance)[:1]
        free = near[~taken[near] & (distance <= offset)]
        if len(free):
            hits[rank] = True
            taken[free[np.abs(truth.time[free] - claims.time[claim]).argmin()]] = True
    return hits


def start_average_precision(
    claims: StartClaims, truth: Starts, offset: float, rule: StartRule = "activitynet", depth: float = 1.0
) -> float:
    """Point-level average precision of one class at δ = `offset`; NaN where the class never starts.

    With `depth` below 1 the mean precision up to that recall, "depth at recall X" of Shou et al. 2018.
    """
    hits = start_hits(claims, truth, offset, only_nearest=rule == "woad")
    area = eleven_point_average_precision if rule == "woad" else interpolated_average_precision
    return area(hits, len(truth.time), depth)
