"""Streams along which events are to be declared: frames of numbers, and which classes are going on in each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rlkit.envs.events import BACKGROUND, EVENTS
from rlkit.errors import NonFiniteError, UsageError
from rlkit.types import Array


@dataclass(frozen=True, eq=False)
class EventStream:
    """Frames float32 [L, D], such as a detector's scores, and labels uint8 [L, K], multi-hot. Both become read-only.

    Raises:
        UsageError: their shapes do not fit, or a label is neither 0 nor 1.
        NonFiniteError: a frame is not finite.
    """

    frames: Array
    labels: Array

    def __post_init__(self) -> None:
        frames, labels = np.array(self.frames, np.float32), np.array(self.labels)
        if frames.ndim != 2 or labels.ndim != 2 or len(frames) != len(labels) or not len(frames):
            raise UsageError(
                f"a stream's frames have the shape {frames.shape} and its labels {labels.shape}; they must be [L, D] "
                "and [L, K] with one L of at least 1"
            )
        if not np.isin(labels, (0, 1)).all():
            raise UsageError(f"labels must be 0 or 1, these hold {np.unique(labels)[:5].tolist()}")
        if not np.isfinite(frames).all():
            raise NonFiniteError(f"frame {int(np.argmin(np.isfinite(frames).all(axis=1)))} of a stream is not finite")
        labels = labels.astype(np.uint8)
        for name, array in (("frames", frames), ("labels", labels)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.frames)


class RecordedEpisode(Protocol):
    """What is read of an episode, such as one of `rlkit.data.datasets.EpisodeDataset`."""

    @property
    def observations(self) -> Any:
        """[T + 1, D]."""

    @property
    def infos(self) -> Mapping[str, Array]:
        """`events/<class>` among them, [T]."""


def event_streams(
    episodes: Iterable[RecordedEpisode], classes: Sequence[str] | None = None
) -> tuple[list[EventStream], tuple[str, ...]]:
    """Streams of episodes cut after every event, and the names of their classes, by default all that the infos tell.

    Frame t of an episode is observation t + 1, with the events that step t told; its first observation is no frame.

    Raises:
        UsageError: observations are not vectors, or there is no class that every episode tells.
    """
    kept = list(episodes)
    names = _names_told(kept) if classes is None else tuple(classes)
    return cut_after_events([_stream_of(number, each, names) for number, each in enumerate(kept)], names), names


def cut_after_events(streams: Iterable[EventStream], classes: Sequence[str]) -> list[EventStream]:
    """Pieces with one event each: a piece ends with the last frame of its first event, and the next begins after it.

    An event is all that begins in one frame, and ends where none of it goes on. A class that begins meanwhile and goes
    on after it is the next piece's event, from that piece's first frame on. What follows the last event is a piece
    without one. No frame is lost. A column that is called `background` in `classes` [K] is no event.
    """
    pieces, columns = [], event_columns(classes)
    for stream in streams:
        begin = 0
        while begin < len(stream):
            end = begin + _first_event_end(stream.labels[begin:, columns])
            pieces.append(EventStream(stream.frames[begin:end], stream.labels[begin:end]))
            begin = end
    return pieces


def event_columns(classes: Sequence[str]) -> list[int]:
    """Columns of the classes other than the background."""
    return [place for place, name in enumerate(classes) if name != BACKGROUND]


def first_event(labels: npt.NDArray[np.uint8]) -> int | None:
    """The first frame of labels [L, K] with a class in it; None where there is none."""
    active = labels.any(axis=1)
    return int(active.argmax()) if active.any() else None


def _names_told(episodes: Sequence[RecordedEpisode]) -> tuple[str, ...]:
    told = [{key for key in episode.infos if key.startswith(EVENTS)} for episode in episodes]
    names = sorted(key.removeprefix(EVENTS) for key in set.intersection(*told)) if told else []
    if not names:
        raise UsageError(
            f"the {len(told)} episodes have no class in common; the info of every step must tell {EVENTS}<class> (see "
            "docs/change-detection.md)"
        )
    return tuple(names)


def _stream_of(number: int, episode: RecordedEpisode, classes: Sequence[str]) -> EventStream:
    missing = [EVENTS + name for name in classes if EVENTS + name not in episode.infos]
    if missing:
        raise UsageError(f"episode {number} does not tell {', '.join(missing)}; it tells {', '.join(episode.infos)}")
    if not isinstance(episode.observations, np.ndarray):
        raise UsageError(f"episode {number} has nested observations; frames are vectors (--wrap flatten-observation)")
    labels = np.stack([episode.infos[EVENTS + name] for name in classes], axis=1)
    return EventStream(episode.observations[1:], labels)


def _first_event_end(labels: npt.NDArray[np.uint8]) -> int:
    """Frames up to the end of the first event, all where there is none."""
    begins = first_event(labels)
    if begins is None:
        return len(labels)
    is_on = (labels[begins:] & labels[begins]).any(axis=1)
    return len(labels) if is_on.all() else begins + int(is_on.argmin())
