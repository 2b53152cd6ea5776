"""Labels of videos in files: an array for each video, or one JSON file with the intervals of all."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from rlkit.data.events import BACKGROUND
from rlkit.data.frame_files import mapped_array
from rlkit.data.intervals import LABEL_RULES, Intervals, LabelRule, frame_labels
from rlkit.data.streams import Labels
from rlkit.data.video_lists import THUMOS14_CLASSES, VideoList, class_name, read_json
from rlkit.errors import DatasetError, UnknownNameError, did_you_mean
from rlkit.types import Array

OWN_RATE_RULES = ("oadtr", "idn")
"""Rules whose labels have a sixth of the video's own rate, which the JSON file tells as `fps`."""
_SUBSET_ORDER = {"training": 0, "train": 0, "validation": 1, "val": 1, "testing": 2, "test": 2}
_LAYOUT = (
    '{"database": {"VIDEO": {"subset": "…", "duration": …, "annotations": '
    '[{"segment": [START, STOP], "label": "CLASS"}, …]}}}'
)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderPolicy:
    """What is done where the layout leaves a choice, or its files do not fit.

    Attributes:
        rule: Name in `LABEL_RULES`: how the seconds of a JSON file become frames.
        outside: Of its intervals that leave their video: an error, or cut there.
        overlapping: Of two of one class that share time: an error, or one event.
        longest_cut: Frames by which the files of one video may differ in length; they are cut to the shortest.
    """

    rule: str = "lstr"
    outside: Literal["raise", "clip"] = "raise"
    overlapping: Literal["raise", "merge"] = "raise"
    longest_cut: int = 2

    def label_rule(self, frames_per_second: float | None) -> LabelRule:
        """With the rate of the features where it is known. Raises UnknownNameError."""
        if self.rule not in LABEL_RULES:
            raise UnknownNameError("rule of labels", self.rule, LABEL_RULES)
        rule = LABEL_RULES[self.rule]
        return rule if frames_per_second is None else replace(rule, frames_per_second=frames_per_second)


class VideoLabels(Protocol):
    """Labels of videos by name, from whatever files."""

    @property
    def videos(self) -> Collection[str]:
        """Those that have labels."""

    @property
    def frame_rate(self) -> float | None:
        """Frames a second; None where it is not known, or not the same for all."""

    def classes(self, told: tuple[str, ...] | None) -> tuple[str, ...]:
        """Names in the order of the columns, from those that other files told."""

    def length(self, video: str) -> int | None:
        """Frames that have labels; None where there are as many as of features."""

    def of(self, video: str, length: int, classes: Sequence[str]) -> Labels:
        """Multi-hot labels [length, K]."""

    def split(self, videos: Sequence[str]) -> tuple[list[str], list[str]] | None:
        """Those to learn from and those to test on, where the labels tell."""


class FrameLabels:
    """A folder with an array for each video: multi-hot [L, K], or class numbers [L].

    Args:
        folder: That holds `<video>.npy`.
        told: What is known of the dataset.
    """

    def __init__(self, folder: Path, told: VideoList | None) -> None:
        self._files = {file.stem: file for file in sorted(folder.glob("*.npy"))}
        self.frame_rate = None if told is None else told.frame_rate
        if not self._files:
            raise DatasetError(f"{folder} holds no labels: it needs a .npy file for each video")

    @property
    def videos(self) -> Collection[str]:
        """Those that have labels."""
        return self._files.keys()

    def classes(self, told: tuple[str, ...] | None) -> tuple[str, ...]:
        """Names as told; else THUMOS14's of 22 columns, or the background and numbers.

        TRN's list of TVSeries leaves out the background: where it is not named and there is one column more, it is the
        first one.

        Raises:
            DatasetError: there are class numbers without names.
        """
        first = next(iter(self._files.values()))
        array = mapped_array(first)
        columns = array.shape[1] if array.ndim == 2 else None
        if told is not None:
            is_one_short = columns == len(told) + 1 and BACKGROUND not in told
            return (BACKGROUND, *told) if is_one_short else told
        if columns is None:
            raise DatasetError(
                f"{first} holds labels {list(array.shape)} and the classes have no names: write them to classes.txt, a "
                "line each, or to data_info.json"
            )
        if columns == len(THUMOS14_CLASSES):
            return THUMOS14_CLASSES
        _LOG.warning("the %d classes have no names: they are numbered, and number 0 is the background", columns)
        return (BACKGROUND, *(f"class-{number}" for number in range(1, columns)))

    def length(self, video: str) -> int | None:
        """Frames that have labels."""
        array = mapped_array(self._files[video])
        return len(array) if array.ndim else 0

    def of(self, video: str, length: int, classes: Sequence[str]) -> Labels:
        """The first `length` labels. Raises DatasetError where they are none of these classes."""
        file, count = self._files[video], len(classes)
        array: Array = np.asarray(mapped_array(file)[:length])
        if array.dtype.kind not in "biuf" or array.ndim not in (1, 2) or array.shape[1:] not in ((), (count,)):
            raise DatasetError(
                f"{file} holds {array.dtype} {list(array.shape)}: with {count} classes ({_some(classes)}) labels are "
                f"multi-hot [L, {count}] or class numbers [L]"
            )
        if array.ndim == 1:
            return _one_hot(array, count, file)
        if not ((array == 0) | (array == 1)).all():
            raise DatasetError(f"{file} holds labels from {array.min():g} to {array.max():g}: allowed are 0 and 1")
        return array.astype(np.uint8)

    def split(self, videos: Sequence[str]) -> tuple[list[str], list[str]] | None:
        """THUMOS14's by the names of its videos; otherwise the labels do not tell."""
        return _thumos_split(videos)


@dataclass(frozen=True)
class AnnotatedVideo:
    """What a JSON file tells of one video."""

    rows: tuple[tuple[float, float, str], ...]  # start and stop in seconds, class
    subset: str | None
    duration: float | None  # seconds
    frame_rate: float | None  # of the video itself


class IntervalLabels:
    """A JSON file of intervals in ActivityNet's layout, in which THUMOS14's are handed around too.

    Under `database` each video has `annotations`, each with a `segment` [start, stop] in seconds and a `label`; its
    `subset`, `duration` in seconds and `fps` may be missing.

    Args:
        path: The file.
        policy: How intervals become frames.
        told: What is known of the dataset; its rate is that of the frames.

    Raises:
        DatasetError: the file is damaged or has another layout.
        UnknownNameError: there is no such rule.
    """

    def __init__(self, path: Path, policy: FolderPolicy, told: VideoList | None) -> None:
        self._path, self._policy = path, policy
        self._found = _annotated_videos(path)
        self._told_rate = None if told is None else told.frame_rate
        self._rule = policy.label_rule(self._told_rate)

    @property
    def videos(self) -> Collection[str]:
        """Those that have annotations."""
        return self._found.keys()

    @property
    def frame_rate(self) -> float | None:
        """That of the rule; None where each video has its own."""
        rates = {self._rule_of(video).frames_per_second for video in self._found}
        return rates.pop() if len(rates) == 1 else None

    def classes(self, told: tuple[str, ...] | None) -> tuple[str, ...]:
        """Names as told; else THUMOS14's columns where all labels are its, or the background and the labels sorted."""
        if told is not None:
            return told
        names = {name for video in self._found.values() for _, _, name in video.rows}
        return THUMOS14_CLASSES if names <= {*THUMOS14_CLASSES} else (BACKGROUND, *sorted(names))

    def length(self, video: str) -> int | None:
        """Not known: intervals fit any number of frames."""
        return None

    def of(self, video: str, length: int, classes: Sequence[str]) -> Labels:
        """By the policy's rule. Raises DatasetError, with the video's name, where an interval is wrong."""
        found, rule = self._found[video], self._rule_of(video)
        for _, _, name in found.rows:
            if name not in classes:
                near = did_you_mean(name, classes)
                raise DatasetError(f"{self._path}: {video} has class {name!r}{near}; allowed: {', '.join(classes)}")
        rows = [(start, stop, classes.index(name)) for start, stop, name in found.rows]
        background = classes.index(BACKGROUND) if BACKGROUND in classes else None
        self._compare_duration(video, length / rule.frames_per_second)
        try:
            return frame_labels(
                Intervals.of(rows), length, len(classes), rule, background=background, outside=self._policy.outside,
                overlapping=self._policy.overlapping,
            )  # fmt: skip
        except DatasetError as error:
            raise DatasetError(f"{self._path}: {video}: {error}") from error

    def split(self, videos: Sequence[str]) -> tuple[list[str], list[str]] | None:
        """By `subset`: of training, validation and testing two are there, and the later one is tested on.

        Raises:
            DatasetError: there are three subsets, or one of a name that is not known.
        """
        subsets = {video: (self._found[video].subset or "").lower() for video in videos}
        names = set(subsets.values())
        if len(names) == 1:
            return _thumos_split(videos)
        if unknown := sorted(names - _SUBSET_ORDER.keys()):
            known = ", ".join(_SUBSET_ORDER)
            raise DatasetError(f"{self._path} has subset {unknown[0]!r} beside others: allowed are {known}")
        order = sorted({_SUBSET_ORDER[name] for name in names})
        if len(order) > 2:
            raise DatasetError(
                f"{self._path} has videos of three subsets: write which are learned from and which are tested on to "
                "data_info.json, under train_session_set and test_session_set"
            )
        return _parted(videos, {video for video in videos if _SUBSET_ORDER[subsets[video]] == order[-1]})

    def _rule_of(self, video: str) -> LabelRule:
        own = self._found[video].frame_rate
        if own is None or self._told_rate is not None or self._policy.rule not in OWN_RATE_RULES:
            return self._rule
        return replace(self._rule, frames_per_second=own / 6)

    def _compare_duration(self, video: str, seconds: float) -> None:
        told = self._found[video].duration
        if told is not None and abs(seconds - told) > 0.05 * told + 1.0:  # features often lack a last second
            _LOG.warning(
                "%s lasts %g s, and its features %g s at the rate of rule %r: is that their rate?",
                video, told, seconds, self._policy.rule,
            )  # fmt: skip


def is_interval_file(path: Path) -> bool:
    """Whether a JSON file is one of intervals. Raises DatasetError where it is damaged."""
    data = read_json(path)
    return isinstance(data, Mapping) and "database" in data


def _annotated_videos(path: Path) -> dict[str, AnnotatedVideo]:
    database = read_json(path)
    database = database.get("database") if isinstance(database, Mapping) else None
    if not isinstance(database, Mapping) or not database:
        raise DatasetError(f"{path} has no videos under 'database': needed is {_LAYOUT}")
    try:
        return {str(video): _annotated(entry) for video, entry in database.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            f"{path} has a video that cannot be read ({type(error).__name__}: {error}): needed is {_LAYOUT}"
        ) from error


def _annotated(entry: Mapping[str, Any]) -> AnnotatedVideo:
    rows = []
    for each in entry["annotations"]:
        start, stop = map(float, each["segment"])
        rows.append((start, stop, class_name(str(each["label"]))))
    duration, rate = (None if entry.get(key) is None else float(entry[key]) for key in ("duration", "fps"))
    return AnnotatedVideo(tuple(rows), entry.get("subset"), duration, rate)


def _one_hot(numbers: Array, count: int, file: Path) -> Labels:
    is_class = (numbers >= 0) & (numbers < count) & (numbers == np.floor(numbers))
    if not is_class.all():
        raise DatasetError(f"{file} holds class number {numbers[~is_class][0]:g}: allowed are 0 to {count - 1}")
    return np.eye(count, dtype=np.uint8)[numbers.astype(np.int64)]


def _thumos_split(videos: Sequence[str]) -> tuple[list[str], list[str]] | None:
    if not all(video.startswith(("video_validation_", "video_test_")) for video in videos):
        return None
    return _parted(videos, {video for video in videos if video.startswith("video_test_")})


def _parted(videos: Sequence[str], test: Collection[str]) -> tuple[list[str], list[str]] | None:
    """Those that are not in `test` and those that are; None where all are in one of the two."""
    parts = [video for video in videos if video not in test], [video for video in videos if video in test]
    return parts if all(parts) else None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
