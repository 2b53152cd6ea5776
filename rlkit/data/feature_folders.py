"""Features and labels of videos in the folders of TRN, OadTR, LSTR and MiniROAD: THUMOS14, TVSeries, HDD and others.

    thumos14/                          or hdd/
      rgb_kinetics_resnet50/<video>.npy     inceptionresnetv2/<session>.npy
      flow_kinetics_bninception/…           sensor/<session>.npy
      target_perframe/<video>.npy           target/<session>.npy
      data_info.json                        data_info.json

A folder of features is any but those whose name begins with `target`. All are concatenated: `rgb…` first, then by name.
OadTR's one folder of `<video>_rgb.npy` and `<video>_flow.npy` counts as two. Nothing is unpickled.

Deviations: TRN reads HDD's maps [L, 1536, 8, 8] through a convolution, here they are averaged over their places; OadTR
keeps labels and features in pickles, which are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlkit.data.events import BACKGROUND
from rlkit.data.frame_files import mapped_array, read_class_names
from rlkit.data.memory import check_budget
from rlkit.data.streams import LabelledStream, Labels, StreamSet
from rlkit.data.video_labels import FolderPolicy, FrameLabels, IntervalLabels, VideoLabels, is_interval_file
from rlkit.data.video_lists import AMBIGUOUS, class_names, read_video_list
from rlkit.errors import DatasetError, UsageError
from rlkit.types import Array, Floats

LABEL_FOLDERS = ("target_perframe", "target")
"""Where labels are looked for, in LSTR's and MiniROAD's layout and in TRN's."""
PICKLES = (".pickle", ".pkl")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureSplits:
    """Streams of a folder.

    Attributes:
        train: Those to learn from; all of them where the layout names no split.
        test: Those to test on; None where it names no split.
    """

    train: StreamSet
    test: StreamSet | None

    def split(self, test_share: float) -> tuple[StreamSet, StreamSet]:
        """The layout's own, else the first and the last streams. Raises UsageError where one would be empty."""
        return (self.train, self.test) if self.test is not None else self.train.split(test_share)


def read_feature_folder(
    path: Path, annotations: str | None = None, policy: FolderPolicy | None = None
) -> FeatureSplits:
    """Streams of the videos below `path`, split as `data_info.json`, the JSON's subsets or THUMOS14's names tell.

    Args:
        path: Folder that holds those of features; or one of these alone, whose labels are then beside it.
        annotations: Folder of labels, or JSON file of intervals; by default found beside the features.
        policy: What is done where files leave a choice.

    Raises:
        UsageError: there are no features or labels, several to choose from, or only pickles.
        DatasetError: a file is damaged or missing, lengths or classes do not fit, an interval is wrong.
        MemoryBudgetError: the features do not fit into the memory that is free.
    """
    policy = policy or FolderPolicy()
    places = _places(path)
    sources = _sources(places[0], annotations)
    known = sorted(set().union(*(source.files for source in sources)))
    listed = read_video_list((*places, places[-1].parent), known)
    where = _labels_path(places, annotations)
    labels: VideoLabels = FrameLabels(where, listed) if where.is_dir() else IntervalLabels(where, policy, listed)
    classes = labels.classes(_named_classes(places) or (listed.classes if listed else None))
    videos = [*listed.train, *listed.test] if listed else known
    _tell_of_unused(known, labels, videos, "are not listed" if listed else "have no features")
    _require_files(videos, sources, labels)
    train, test = (listed.train, listed.test) if listed else labels.split(known) or (known, [])
    reader = _Reader(sources, labels, classes, _lengths(videos, sources, labels, policy.longest_cut))
    reader.require_memory(path)
    if not test:
        return FeatureSplits(reader.streams(train, "of the folder"), None)
    return FeatureSplits(reader.streams(train, "to learn from"), reader.streams(test, "to test on"))


@dataclass(frozen=True)
class _Source:
    """Features of one kind: a file of each video."""

    name: str
    files: Mapping[str, Path]

    def shape(self, video: str) -> tuple[int, ...]:
        """Of a video's features: [L, C], or maps [L, C, H, W].

        Raises:
            DatasetError: they are something else.
        """
        array = mapped_array(self.files[video])
        if array.ndim not in (2, 4) or array.dtype.kind not in "biuf" or not array.size:
            raise DatasetError(
                f"{self.files[video]} holds {array.dtype} {list(array.shape)}: features are numbers [L, C], or maps "
                "[L, C, H, W]"
            )
        return array.shape

    def features(self, video: str, length: int) -> Array:
        """The first `length` frames [length, C]; maps averaged over their places."""
        array: Array = mapped_array(self.files[video])[:length]
        return array if array.ndim == 2 else array.mean((2, 3), dtype=np.float32)


class _Reader:
    """Streams of videos whose files are there and whose lengths fit."""

    def __init__(
        self, sources: Sequence[_Source], labels: VideoLabels, classes: tuple[str, ...], lengths: Mapping[str, int]
    ) -> None:
        self._sources, self._labels, self._classes, self._lengths = sources, labels, classes, lengths
        self._columns = [_columns(source, tuple(lengths)) for source in sources]
        told = [f"{source.name} ({size})" for source, size in zip(sources, self._columns, strict=True)]
        _LOG.info("features of a frame: %s", ", ".join(told))

    def require_memory(self, path: Path) -> None:
        """Raise MemoryBudgetError where features (float32) and labels do not fit into the memory that is free."""
        frames, size = sum(self._lengths.values()), sum(self._columns)
        needed = frames * (size * np.dtype(np.float32).itemsize + len(self._classes))
        what = f"{path} ({frames:,} frames of {size:,} features)"
        check_budget(what, needed, "List fewer videos, or give one folder of features.")

    def streams(self, videos: Sequence[str], purpose: str) -> StreamSet:
        """The videos as streams, in their order; told are classes that never occur."""
        streams = tuple(LabelledStream(video, self._features(video), self._labels_of(video)) for video in videos)
        occurs = np.any([stream.labels.any(0) for stream in streams], axis=0)
        if not occurs.all():
            absent = [name for name, is_there in zip(self._classes, occurs, strict=True) if not is_there]
            _LOG.warning("the %d videos %s never show %s", len(videos), purpose, ", ".join(absent))
        ambiguous = self._classes.index(AMBIGUOUS) if AMBIGUOUS in self._classes else None
        return StreamSet(self._classes, streams, self._labels.frame_rate, ambiguous)

    def _features(self, video: str) -> Floats:
        features = np.empty((self._lengths[video], sum(self._columns)), np.float32)
        first = 0
        for source, columns in zip(self._sources, self._columns, strict=True):
            features[:, first : first + columns] = source.features(video, self._lengths[video])
            first += columns
        if not np.isfinite(features).all():
            frame = int(np.flatnonzero(~np.isfinite(features).all(1))[0])
            raise DatasetError(f"features of {video} are not finite at frame {frame}: compute them again")
        return features

    def _labels_of(self, video: str) -> Labels:
        labels = self._labels.of(video, self._lengths[video], self._classes)
        if BACKGROUND in self._classes:  # as in `frame_labels`
            labels[~labels.any(1), self._classes.index(BACKGROUND)] = 1
        return labels


def _places(path: Path) -> tuple[Path, ...]:
    """Folders in which labels and lists may be, the nearest first."""
    if not path.is_dir():
        raise UsageError(f"{path} is no folder: give one that holds folders of features, a .npy file for each video")
    root = path.absolute()
    return (root, root.parent) if any(root.glob("*.npy")) else (root,)


def _sources(path: Path, annotations: str | None) -> list[_Source]:
    """Of the folders of features, `rgb…` first."""
    is_flat = any(path.glob("*.npy"))
    labels = None if annotations is None else Path(annotations).resolve()
    folders = [path] if is_flat else sorted(folder for folder in path.iterdir() if folder.is_dir())
    folders = [folder for folder in folders if folder.resolve() != labels and not folder.name.startswith("target")]
    sources = [source for folder in folders for source in _kinds_in(folder)]
    if not sources:
        _refuse_pickles(path)
        raise UsageError(f"{path} holds no features: it needs folders such as rgb_anet/, with a .npy for each video")
    for kind in ("rgb", "flow"):
        names = [source.name for source in sources if source.name.startswith(kind)]
        if len(names) > 1:
            raise UsageError(
                f"{path} holds several features of one kind, {', '.join(names)}: give one folder, or a new one with "
                "links to those wanted"
            )
    return sorted(sources, key=lambda source: (not source.name.startswith("rgb"), source.name))


def _kinds_in(folder: Path) -> Iterator[_Source]:
    """Features in a folder: one kind, or two where every name ends in `_rgb` or `_flow`; none where nothing is."""
    files = {file.stem: file for file in sorted(folder.glob("*.npy"))}
    ends = {stem: stem.rpartition("_")[2] for stem in files}
    if set(ends.values()) == {"rgb", "flow"}:
        for kind in ("rgb", "flow"):
            own = {stem.removesuffix(f"_{kind}"): file for stem, file in files.items() if ends[stem] == kind}
            yield _Source(kind, own)
    elif files:
        yield _Source(folder.name, files)


def _labels_path(places: Sequence[Path], annotations: str | None) -> Path:
    """The folder of labels, or the JSON file."""
    if annotations is not None:
        path = Path(annotations)
        if path.suffix in PICKLES:
            raise _pickled(path)
        if not path.is_dir() and not (path.suffix == ".json" and path.is_file()):
            raise UsageError(
                f"annotations {path} are neither a folder of .npy files nor a .json file: give one of these"
            )
        return path
    found = [place / name for place in places for name in LABEL_FOLDERS if (place / name).is_dir()]
    found += [file for place in places for file in sorted(place.glob("*.json")) if is_interval_file(file)]
    if not found:
        for place in places:
            _refuse_pickles(place)
        raise UsageError(
            f"{places[0]} has no labels: {LABEL_FOLDERS[0]}/ with a .npy for each video, or a JSON file of intervals; "
            "name them as annotations (--annotations) if they are elsewhere"
        )
    if len(found) > 1:
        raise UsageError(f"there are several labels, {', '.join(map(str, found))}: say which (--annotations)")
    return found[0]


def _named_classes(places: Sequence[Path]) -> tuple[str, ...] | None:
    file = next((place / "classes.txt" for place in places if (place / "classes.txt").is_file()), None)
    return None if file is None else class_names(read_class_names(file), str(file))


def _columns(source: _Source, videos: Sequence[str]) -> int:
    """C, the same for all videos."""
    found = {video: source.shape(video)[1] for video in videos}
    first = videos[0]
    if other := [video for video in videos if found[video] != found[first]]:
        raise DatasetError(
            f"{source.name} has {found[first]} features for {first} and {found[other[0]]} for {other[0]} "
            f"({len(other)} of {len(videos)} videos differ): they must be of one network"
        )
    return found[first]


def _require_files(videos: Sequence[str], sources: Sequence[_Source], labels: VideoLabels) -> None:
    kinds = [(source.name, source.files) for source in sources] + [("labels", labels.videos)]
    missing = [f"{video} ({name})" for video in videos for name, there in kinds if video not in there]
    if missing:
        raise DatasetError(f"files are missing: {_first(missing)}. Add them, or leave out these videos")


def _tell_of_unused(known: Sequence[str], labels: VideoLabels, videos: Sequence[str], why: str) -> None:
    if unused := sorted({*known, *labels.videos} - set(videos)):
        _LOG.warning("%d videos are left out, as they %s: %s", len(unused), why, _first(unused))


def _lengths(
    videos: Sequence[str], sources: Sequence[_Source], labels: VideoLabels, longest_cut: int
) -> dict[str, int]:
    """Frames of each video that all of its files have."""
    lengths: dict[str, int] = {}
    cut: list[str] = []
    apart: list[str] = []
    for video in videos:
        found = {source.name: source.shape(video)[0] for source in sources}
        if (labelled := labels.length(video)) is not None:
            found["labels"] = labelled
        lengths[video] = min(found.values())
        longer = max(found.values()) - lengths[video]
        told = f"{video} ({', '.join(f'{name} {length}' for name, length in found.items())})"
        if longer:
            (cut if longer <= longest_cut else apart).append(told)
    if apart:
        raise DatasetError(
            f"{len(apart)} videos have files of other lengths, {longest_cut} frames apart at most are allowed: "
            f"{_first(apart)}. Make them at one rate"
        )
    if cut:
        _LOG.warning("%d videos have files of other lengths, cut to the shortest: %s", len(cut), _first(cut))
    return lengths


def _refuse_pickles(folder: Path) -> None:
    if found := sorted(file for file in folder.iterdir() if file.suffix in PICKLES):
        raise _pickled(found[0])


def _pickled(path: Path) -> UsageError:
    return UsageError(
        f"{path} is a pickle, which can run code when it is read, and is refused. If you trust it, write an array for "
        "each video in a script of your own: of OadTR's labels numpy.save('target_perframe/VIDEO.npy', "
        "annotations['VIDEO']['anno']), of its features numpy.save('rgb/VIDEO.npy', features['VIDEO']['rgb']), and "
        "flow/ likewise"
    )


def _first(items: Sequence[str], count: int = 20) -> str:
    return ", ".join(items[:count]) + (f" and {len(items) - count} more" if len(items) > count else "")
