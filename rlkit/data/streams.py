"""Streams of frames with labels, and windows of them to learn from.

A stream is one episode, one video or one session: frames in order, each with its features, what happens in it, and,
where somebody acted, what was done to get there. Nothing of one stream is ever seen in a window of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlkit.errors import UsageError
from rlkit.types import Array, Bools, Floats, State

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledStream:
    """L frames in order.

    Attributes:
        name: Tells it from the others of its set.
        features: float32 [L, C]; with actions, these are among the features.
        labels: Multi-hot, uint8 [L, K].
    """

    name: str
    features: Floats
    labels: Labels

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class StreamSet:
    """Streams with the same features and classes.

    Attributes:
        classes: Names, K of them.
        streams: At least one.
        frame_rate: Frames a second; None where time is counted in frames only.
        ambiguous: Number of a class that is neither learned nor scored, and whose frames are left out; None for none.

    Raises:
        UsageError: there is no stream, two have one name, or a stream has other features or classes.
    """

    classes: tuple[str, ...]
    streams: tuple[LabelledStream, ...]
    frame_rate: float | None = None
    ambiguous: int | None = None

    def __post_init__(self) -> None:
        if not self.streams:
            raise UsageError("there are no streams: record some, or name a folder that has some")
        names = [stream.name for stream in self.streams]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"several streams are called {', '.join(doubled)}; each needs a name of its own")
        for stream in self.streams:
            wanted = (len(stream), self.feature_size), (len(stream), len(self.classes))
            found = stream.features.shape, stream.labels.shape
            if found != wanted or not len(stream):
                raise UsageError(
                    f"stream {stream.name} has features {list(found[0])} and labels {list(found[1])}; with "
                    f"{len(self.classes)} classes and the features of {names[0]} they must be {list(wanted[0])} and "
                    f"{list(wanted[1])}, of at least one frame"
                )

    @property
    def feature_size(self) -> int:
        """C."""
        return int(self.streams[0].features.shape[1])

    @property
    def frames(self) -> int:
        """Of all streams together."""
        return sum(map(len, self.streams))

    @property
    def prevalence(self) -> dict[str, float]:
        """Part of the frames that show each class."""
        labels = np.concatenate([stream.labels for stream in self.streams])
        return dict(zip(self.classes, labels.mean(0).tolist(), strict=True))

    def digest(self) -> str:
        """Changes with anything in it."""
        digest = hashlib.sha256("\0".join((*self.classes, str(self.ambiguous))).encode())
        for stream in self.streams:
            digest.update(stream.name.encode())
            digest.update(np.ascontiguousarray(stream.features).data)
            digest.update(np.ascontiguousarray(stream.labels).data)
        return digest.hexdigest()

    def split(self, test_share: float) -> tuple[StreamSet, StreamSet]:
        """The first streams, and the last ones: whole streams, so that no frame has a neighbour in the other part.

        Raises:
            UsageError: one of them would be empty.
        """
        count = streams_to_test(len(self.streams), test_share)
        if count >= len(self.streams):
            raise UsageError(
                f"{len(self.streams)} streams cannot be split into those to learn from and {test_share:.0%} to test: "
                "at least two are needed"
            )
        return self._of(self.streams[:-count]), self._of(self.streams[-count:])

    def _of(self, streams: Sequence[LabelledStream]) -> StreamSet:
        return StreamSet(self.classes, tuple(streams), self.frame_rate, self.ambiguous)


def streams_to_test(count: int, test_share: float) -> int:
    """How many of so many streams, the last ones, are kept to test on."""
    return max(round(test_share * count), 1)


@dataclass(frozen=True, slots=True)
class Windows:
    """B windows of T frames, and H frames that follow each.

    A window that begins before its stream, or whose future is behind its stream's end, is padded: `is_there` tells.
    """

    features: Floats  # [B, T, C], zeros where nothing is
    labels: Labels  # [B, T + H, K]
    is_there: Bools  # [B, T + H]

    @property
    def is_first(self) -> Bools:
        """Whether a frame begins its stream or the window, bool [B, T]."""
        there = self.is_there[:, : self.features.shape[1]]
        begins = np.zeros_like(there)
        begins[np.arange(len(there)), there.argmax(1)] = True
        return begins


class WindowSampler:
    """Batches of windows without end; in each epoch every frame is the last of at most one window.

    Left out are fewer than a batch has, other ones each time, where the frames are no multiple of that.

    Args:
        streams: What is drawn from.
        length: T, frames in a window.
        horizon: H, frames after it whose labels are told.
        batch_size: B.
        seed: Of the order, which depends on it and on the epoch alone.

    Raises:
        UsageError: there are fewer frames than a batch has windows.
    """

    def __init__(self, streams: StreamSet, length: int, horizon: int, batch_size: int, seed: int) -> None:
        if streams.frames < batch_size:
            raise UsageError(
                f"{streams.frames:,} frames are fewer than the {batch_size} windows of a batch: record more, or choose "
                "a smaller batch size"
            )
        self._length, self._horizon, self._batch_size, self._seed = length, horizon, batch_size, seed
        self._streams = streams
        self._ends = np.cumsum([len(stream) for stream in streams.streams])
        self.batches_an_epoch = streams.frames // batch_size
        self._number = 0  # batches drawn so far
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.arange(streams.frames))

    def __iter__(self) -> WindowSampler:
        return self

    def __next__(self) -> Windows:
        epoch, place = divmod(self._number, self.batches_an_epoch)
        if self._order[0] != epoch:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._streams.frames)
            self._order = (epoch, order)
        self._number += 1
        first = place * self._batch_size
        return self.ending_at(self._order[1][first : first + self._batch_size])

    def ending_at(self, last: Array) -> Windows:
        """The windows [B] whose last frames are these, counted over all streams end to end."""
        length, count = self._length, len(last)
        features = np.zeros((count, length, self._streams.feature_size), np.float32)
        labels = np.zeros((count, length + self._horizon, len(self._streams.classes)), np.uint8)
        is_there = np.zeros(labels.shape[:2], np.bool_)
        which = np.searchsorted(self._ends, last, side="right")
        for row, (number, place) in enumerate(zip(which, last, strict=True)):
            stream = self._streams.streams[number]
            now = int(place - self._ends[number]) + len(stream)  # the window's last frame, counted in its stream
            first, past = max(now + 1 - length, 0), min(now + 1 + self._horizon, len(stream))
            begin = first - (now + 1 - length)
            features[row, begin:] = stream.features[first : now + 1]
            labels[row, begin : begin + past - first] = stream.labels[first:past]
            is_there[row, begin : begin + past - first] = True
        return Windows(features, labels, is_there)

    def state(self) -> State:
        """Batches drawn so far."""
        return {"number": self._number}

    def load_state(self, state: State) -> None:
        """Go on after `state`."""
        self._number = state["number"]
