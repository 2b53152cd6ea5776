"""Labelled intervals in seconds to labels of frames and back, by rules that are named.

How intervals become frames moves a published number more than most methods do: the same code and features got mAP 62
with one set of labels and 69.9 with another (https://github.com/zhaoyue-zephyrus/TeSTra/issues/7). L frames, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rlkit.errors import DatasetError, UsageError
from rlkit.types import Array

Rounding = Literal["floor", "ceil", "middle", "floor+1"]
_ROUNDED: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "middle": lambda place: np.ceil(place - 0.5),  # the first frame whose middle is not before
    "floor+1": lambda place: np.floor(place) + 1,
}


@dataclass(frozen=True)
class Intervals:
    """E intervals of one video, each with its class, in any order.

    Attributes:
        start: Seconds, float64 [E].
        stop: Seconds, behind the start.
        label: Numbers of the classes, int64 [E].
    """

    start: npt.NDArray[np.float64]
    stop: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[tuple[float, float, int]]) -> Intervals:
        """From rows (start, stop, class)."""
        start, stop, label = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(np.array(start, np.float64), np.array(stop, np.float64), np.array(label, np.int64))

    def __len__(self) -> int:
        return len(self.start)


@dataclass(frozen=True)
class LabelRule:
    """How seconds become frames: frame t is labelled where first ≤ t < past, at least one frame of each interval.

    Attributes:
        frames_per_second: Of the labels, which is that of the features: 4 where 24 frames a second are read in chunks
            of 6.
        start: How start · frames_per_second becomes the first frame.
        stop: How stop · frames_per_second becomes the frame after the last; `floor+1` takes the frame in which the
            interval stops, also where it stops on that frame's beginning; `middle` counts frames by their middles.
        single_label: One class a frame, where intervals of several classes overlap that of the one which starts last
            (of those that start together the shorter, and then the later row); otherwise all of them.
    """

    frames_per_second: float
    start: Rounding
    stop: Rounding
    single_label: bool = False

    def frames(self, intervals: Intervals) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First frames and those after the last, int64 [E] each.

        Products that differ from a whole number by rounding alone, as 0.3 · 10 does, are that number.
        """
        first = _ROUNDED[self.start](_places(intervals.start, self.frames_per_second))
        past = _ROUNDED[self.stop](_places(intervals.stop, self.frames_per_second))
        return first.astype(np.int64), np.maximum(past, first + 1).astype(np.int64)


LABEL_RULES = {
    # https://github.com/amazon-science/long-short-term-transformer/issues/5: "floor" and "ceil" at 4 Hz
    "lstr": LabelRule(4.0, "floor", "ceil"),
    "miniroad": LabelRule(4.0, "floor", "ceil"),  # the same `target_perframe` files
    "testra": LabelRule(4.0, "floor", "ceil"),
    # https://github.com/wangxiang1230/OadTR/issues/18: the video's own rate / 6, here that of 30 frames a second; give
    # each video's by `dataclasses.replace`. How it rounds is not published, so this is LSTR's way
    "oadtr": LabelRule(5.0, "floor", "ceil"),
    # `create_target` of https://github.com/salesforce/woad-pytorch: both int(), the last frame included
    "woad": LabelRule(4.0, "floor", "floor+1"),
    "idn": LabelRule(5.0, "floor", "ceil", single_label=True),  # np.eye(21)[label], one class a frame; else as OadTR
    # no paper's: a frame has the label of its middle, so that a label is neither longer nor shorter on average
    "middle": LabelRule(4.0, "middle", "middle"),
}
"""Name -> how a paper's labels were made, as far as it is known."""


def frame_labels(
    intervals: Intervals,
    length: int,
    classes: int,
    rule: LabelRule,
    *,
    background: int | None = 0,
    outside: Literal["raise", "clip"] = "raise",
    overlapping: Literal["raise", "merge"] = "raise",
) -> npt.NDArray[np.uint8]:
    """Multi-hot labels [length, classes] of a video.

    Args:
        intervals: What happens when.
        length: L.
        classes: K.
        rule: How seconds become frames, such as `LABEL_RULES["lstr"]`.
        background: Class of the frames that have no other; None where no class is.
        outside: Whether intervals that begin before the video or end after it are an error, or are cut there; what is
            altogether outside is an error in any case.
        overlapping: Whether two intervals of one class that share time are an error, or one longer event.

    Raises:
        DatasetError: an interval is reversed, empty or not finite, has an unknown class or the background's, or is one
            of those that `outside` or `overlapping` forbids.
    """
    _check(intervals, classes, background)
    if overlapping == "raise":
        _refuse_overlaps(intervals)
    first, past = rule.frames(intervals)
    _check_ends(intervals, first, past, length, rule, outside)
    labels = np.zeros((length, classes), np.uint8)
    order = np.lexsort((np.arange(len(intervals)), -intervals.stop, intervals.start))  # those that win come last
    for row in order:
        frames = slice(max(first[row], 0), past[row])
        if rule.single_label:
            labels[frames] = 0
        labels[frames, intervals.label[row]] = 1
    if background is not None:
        labels[~labels.any(axis=1), background] = 1
    return labels


def label_intervals(labels: Array, frames_per_second: float, background: int | None = 0) -> Intervals:
    """The intervals of multi-hot labels [L, K], a run of frames each, ordered by start and then class.

    A run that reaches the last frame ends with the video: whether the event went on is not in the labels. The
    background's runs are none.
    """
    if labels.ndim != 2:
        raise UsageError(f"labels have shape {labels.shape}, multi-hot labels [frames, classes] are needed")
    padded = np.zeros((len(labels) + 2, labels.shape[1]), np.int8)
    padded[1:-1] = labels != 0
    if background is not None:
        padded[:, background] = 0
    change = np.diff(padded, axis=0).T  # [K, L + 1]: a class after the other
    (label, first), (_, past) = np.nonzero(change == 1), np.nonzero(change == -1)
    order = np.lexsort((label, first))
    seconds = (np.stack((first, past))[:, order] / frames_per_second).astype(np.float64)
    return Intervals(seconds[0], seconds[1], label[order].astype(np.int64))


def _places(seconds: npt.NDArray[np.float64], frames_per_second: float) -> npt.NDArray[np.float64]:
    places = seconds * frames_per_second
    whole = np.round(places)
    return np.where(np.abs(places - whole) < 1e-9 * np.maximum(np.abs(places), 1.0), whole, places)


def _check(intervals: Intervals, classes: int, background: int | None) -> None:
    start, stop, label = intervals.start, intervals.stop, intervals.label
    if not len(start) == len(stop) == len(label):
        raise DatasetError(f"{len(start)} starts, {len(stop)} stops and {len(label)} classes: one of each is needed")
    _refuse(intervals, ~(np.isfinite(start) & np.isfinite(stop)), "is not finite: remove it or correct its times")
    _refuse(intervals, stop < start, "is reversed, it stops before it starts: exchange its times")
    _refuse(intervals, stop == start, "is empty: remove it or correct its times")
    _refuse(intervals, (label < 0) | (label >= classes), f"has an unknown class: allowed are 0 to {classes - 1}")
    if background is not None:
        _refuse(intervals, label == background, "is background, which is where nothing else is: remove it")


def _check_ends(
    intervals: Intervals, first: Array, past: Array, length: int, rule: LabelRule, outside: Literal["raise", "clip"]
) -> None:
    video = f"the video ({length} frames at {rule.frames_per_second:g} a second, {length / rule.frames_per_second:g} s)"
    away = (past <= 0) | (first >= length)
    _refuse(intervals, away, f"is altogether outside {video}: remove it, or check the rate and the units")
    if outside == "raise":
        hint = "check the rate and the units, or cut it there with outside='clip'"
        _refuse(intervals, (first < 0) | (past > length), f"leaves {video}: {hint}")


def _refuse_overlaps(intervals: Intervals) -> None:
    for label in np.unique(intervals.label):
        rows = np.flatnonzero(intervals.label == label)
        rows = rows[intervals.start[rows].argsort(kind="stable")]
        reached = np.maximum.accumulate(intervals.stop[rows])
        inside = np.zeros(len(intervals), np.bool_)
        inside[rows[1:]] = intervals.start[rows[1:]] < reached[:-1]
        _refuse(intervals, inside, "overlaps another of its class: correct it, or join them with overlapping='merge'")


def _refuse(intervals: Intervals, wrong: Array, why: str) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        start, stop, label = intervals.start[row], intervals.stop[row], intervals.label[row]
        others = f" ({wrong.sum() - 1} more are so)" if wrong.sum() > 1 else ""
        raise DatasetError(f"interval {row}, {start:g} to {stop:g} s of class {label}, {why}{others}")
