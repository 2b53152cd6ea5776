"""A trained detector on streams that it has not seen: simulators, datasets, features, a video; frame by frame."""

from __future__ import annotations

import operator
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from rlkit.assembly import device_of, limited_threads
from rlkit.config import Options
from rlkit.data.datasets import EpisodeDataset
from rlkit.data.events import BACKGROUND, event_labels, told_events
from rlkit.data.feature_folders import LABEL_FOLDERS, read_feature_folder
from rlkit.data.frame_files import read_frame_arrays
from rlkit.data.streams import streams_to_test
from rlkit.data.videos import video_frames
from rlkit.detect_config import DetectOptions, stored_detection
from rlkit.detected import StreamDetector, Told, starts_and_ends
from rlkit.errors import UsageError
from rlkit.perception.detect_events import takes
from rlkit.perception.detection.detector import Memory
from rlkit.runs import open_run
from rlkit.stream_features import after_first
from rlkit.stream_recording import StreamSource, record_stream
from rlkit.types import Array, Floats


class WatchOptions(Options):
    """What is watched: one of the sources, by default the stream of the detector's run."""

    stream: str | None = None
    """simulator to play: a name of `rlkit list streams`, or an environment; --env is the same"""
    env_args: tuple[str, ...] = ()
    """arguments of the environment's constructor, as key=value"""
    wrap: tuple[str, ...] = ()
    """wrappers from the inside out, around those of a named simulator"""
    policy: str | None = None
    """run whose policy acts in it; by default the one that the detector's run names, in its own stream"""
    data: str | None = None
    """the episodes of a dataset; of the one that was learned from, those that were kept to test on"""
    features: str | None = None
    """features of videos: an npz file with an array [frames, C] for each, a folder of npy files, or one laid out as
    `rlkit detect train --features` takes it, of which the test videos are watched"""
    annotations: str | None = None
    """of --features, as in training, and read by the rules of the detector's run"""
    video: str | None = None
    """frames of a video file"""
    episodes: int = Field(1, ge=1)
    """to play or to read"""
    seed: int = Field(1000, ge=0)
    """of what is played; what was learned from has other ones, made of the run's"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where networks live"""
    threads: int = Field(1, ge=1)
    """threads of one matrix product or convolution"""


@dataclass(frozen=True)
class Watched:
    """One stream of L frames and what was told of it.

    Attributes:
        name: Of the stream.
        classes: Names, K.
        now: Probabilities [L, K].
        future: Of the H frames that follow each, [L, H, K].
        truth: Multi-hot [L, K]; None where nobody knows it.
        seconds: That each frame took, from observation to scores, once all was loaded, [L].
    """

    name: str
    classes: tuple[str, ...]
    now: Floats
    future: Floats
    truth: Array | None
    seconds: Array

    def frame_records(self) -> Iterator[dict[str, Any]]:
        """Of each frame: its scores, and those of the frame after the farthest that is told."""
        for frame, (now, future) in enumerate(zip(self.now, self.future, strict=True)):
            record: dict[str, Any] = {"stream": self.name, "frame": frame, "scores": self._named(now)}
            if len(future):
                record["ahead"] = {str(len(future)): self._named(future[-1])}
            if self.truth is not None:
                record["truth"] = [name for name, shown in zip(self.classes, self.truth[frame], strict=True) if shown]
            yield record

    def event_records(self, threshold: float) -> Iterator[dict[str, Any]]:
        """Of each claimed event in order: class, first frame and the one after the last, highest score.

        `background` is where nothing happens, and no event.
        """
        for first, past, name in starts_and_ends(self.now, self.classes, threshold):
            if name == BACKGROUND:
                continue
            score = float(self.now[first:past, self.classes.index(name)].max())
            lasts = past == len(self.now)
            yield {
                "stream": self.name, "event": name, "start": first, "stop": past, "score": round(score, 4),
                **({"ends_with_stream": True} if lasts else {}),
            }  # fmt: skip

    def _named(self, scores: Floats) -> dict[str, float]:
        return {name: round(float(score), 4) for name, score in zip(self.classes, scores, strict=True)}


class Latency(NamedTuple):
    """Of single frames, in milliseconds."""

    median: float
    p99: float

    @classmethod
    def of(cls, watched: list[Watched]) -> Latency:
        """Over all frames of all streams."""
        seconds = np.concatenate([each.seconds for each in watched])
        return cls(*(1000 * np.quantile(seconds, (0.5, 0.99))).tolist())


def watched_streams(run: str | Path, options: WatchOptions) -> Iterator[Watched]:
    """Let the run's detector watch stream after stream.

    Raises:
        UsageError: several sources are named, or one whose frames the detector cannot take.
    """
    with limited_threads(options.threads):
        detector = StreamDetector(run, device_of(options.device))
        for frames in _sources(run, detector, options):
            yield _watched(detector, frames)


@dataclass(frozen=True)
class _Frames:
    """L frames of one stream: features [L, C], or observations and the actions that led to them."""

    name: str
    count: int  # L
    features: Floats | None = None
    observations: Any = None
    actions: Any = None
    truth: Array | None = None


def _watched(detector: StreamDetector, frames: _Frames) -> Watched:
    def seen(row: int, carry: Memory) -> tuple[Told, Memory]:
        if frames.features is not None:
            return detector.step(frames.features[row : row + 1], carry)
        return detector.watch(_row(frames.observations, row), _row(frames.actions, row), carry)

    seen(0, detector.begin(1))  # compiles, loads and allocates, which no later frame does
    carry, told, seconds = detector.begin(1), [], []
    for row in range(frames.count):
        started = time.perf_counter()
        found, carry = seen(row, carry)
        seconds.append(time.perf_counter() - started)
        told.append(found)
    now, future = (np.concatenate(parts) for parts in zip(*told, strict=True))
    return Watched(frames.name, detector.classes, now, future, frames.truth, np.array(seconds))


def _row(tree: Any, row: int) -> Any:
    """One row of a batch, as a batch of one; nothing of nothing."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: _row(value, row) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_row(value, row) for value in tree)
    return tree[row : row + 1]


def _sources(run: str | Path, detector: StreamDetector, options: WatchOptions) -> Iterator[_Frames]:
    given = [each for each in (options.stream, options.data, options.features, options.video) if each is not None]
    if len(given) > 1:
        raise UsageError(f"the detector watches one source at a time, given are {', '.join(given)}")
    own = stored_detection(open_run(Path(run))).options
    if options.features is not None:
        yield from _videos(Path(options.features), detector, options, own)
    elif options.video is not None:
        yield _video(Path(options.video), detector)
    elif options.data is not None:
        dataset = EpisodeDataset(options.data)
        kept = streams_to_test(len(dataset), own.test_share) if _is_same(options.data, own.data) else len(dataset)
        yield from _episodes(options.data, dataset, range(len(dataset) - kept, len(dataset)), detector, options)
    else:
        if (stream := options.stream or own.stream) is None:
            raise UsageError("the run learned from files: name what is to be watched, --stream, --data or --features")
        with tempfile.TemporaryDirectory() as folder:
            is_own = stream == own.stream  # which is watched as it was learned from, unless told otherwise
            policy = options.policy or (own.policy if is_own else None)
            env_args = options.env_args or (own.env_args if is_own else ())
            wrap = options.wrap or (own.wrap if is_own else ())
            dataset = record_stream(
                StreamSource(stream, env_args, wrap, policy), Path(folder) / "streams", episodes=options.episodes,
                seed=options.seed, needs_events=False,
            )  # fmt: skip
            yield from _episodes(stream, dataset, range(len(dataset)), detector, options)


def _is_same(path: str, learned: str | None) -> bool:
    """Whether the detector learned from a part of it."""
    return learned is not None and Path(path).resolve() == Path(learned).resolve()


def _videos(path: Path, detector: StreamDetector, options: WatchOptions, own: DetectOptions) -> Iterator[_Frames]:
    """Features of videos; with their truth where the folder is laid out as for training, of its test split if any."""
    is_own = _is_same(str(path), own.features)
    annotations = options.annotations or (own.annotations if is_own else None)
    if annotations is None and not _is_laid_out(path):
        for name, features in read_frame_arrays(path).videos.items():
            if features.ndim != 2 or not len(features) or not np.isfinite(features).all():
                raise UsageError(
                    f"features of {name} in {path} are {features.dtype} {list(features.shape)}: finite numbers "
                    "[frames, C] are needed, of at least one frame"
                )
            yield _Frames(name, len(features), features.astype(np.float32))
        return
    splits = read_feature_folder(path, annotations, own.folder_policy)
    watched = splits.split(own.test_share)[1] if is_own else splits.test or splits.train
    if watched.classes != detector.classes:
        raise UsageError(
            f"{path} has labels of the classes {', '.join(watched.classes)}, the detector tells "
            f"{', '.join(detector.classes)}: name them alike and in this order (classes.txt), or give features alone"
        )
    for stream in watched.streams:
        yield _Frames(stream.name, len(stream), stream.features, truth=stream.labels)


def _is_laid_out(path: Path) -> bool:
    """Whether it is more than a file or a folder with an array for each video."""
    return path.is_dir() and (not any(path.glob("*.npy")) or any((path / name).is_dir() for name in LABEL_FOLDERS))


def _video(path: Path, detector: StreamDetector) -> _Frames:
    if detector.sees_actions:
        raise UsageError("the detector was trained with --actions, and a video tells of none")
    space = detector.observation_space
    if space is None:
        raise UsageError("the detector learned from features that were computed elsewhere: give such with --features")
    pictures = video_frames(path, space)
    return _Frames(path.stem, len(pictures), observations=pictures)


def _episodes(
    name: str, dataset: EpisodeDataset, numbers: range, detector: StreamDetector, options: WatchOptions
) -> Iterator[_Frames]:
    for what, space, taken, fits in (
        ("observations", dataset.observation_space, detector.observation_space, takes),
        ("actions", dataset.action_space, detector.action_space or dataset.action_space, operator.eq),
    ):
        if not fits(taken, space):
            raise UsageError(
                f"{name} has {what} in {space}, the detector takes {taken}: watch the environment and wrappers that it "
                "learned from"
            )
    if not numbers:
        raise UsageError(f"{name} has no episodes: record some")
    for number in numbers[: options.episodes]:
        episode = dataset[number]
        labels = event_labels(episode.infos, detector.classes) if told_events(episode.infos) else None
        yield _Frames(
            f"episode-{number:05d}", len(episode), None, after_first(episode.observations), episode.actions, labels
        )
