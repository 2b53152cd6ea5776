"""Where numbers go: `metrics.jsonl` and TensorBoard event files, both able to forget what a resume will repeat.

A failure to write (disk full, permissions) is reported once and never stops training; the lines are kept and tried
again. Event files are written with tensorboard's own record writer, without importing torch.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Mapping
from io import BufferedRandom, BufferedWriter
from pathlib import Path
from typing import Any

from rlkit.types import Array, State

_LOG = logging.getLogger(__name__)
_KEPT_WHILE_FAILING = 10_000  # points


class _RecordFile:
    """Bytes appended record by record; a failed write is undone, kept, and tried again with the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: deque[bytes] = deque(maxlen=_KEPT_WHILE_FAILING)
        self._file: BufferedRandom | BufferedWriter | None = None
        self._failed = False

    def append(self, record: bytes) -> None:
        """Write one record, or keep it for later."""
        self._pending.append(record)
        offset = 0
        try:
            if self._file is None:
                self._file = self.path.open("ab")
            offset = self._file.tell()
            self._file.write(b"".join(self._pending))
            self._file.flush()
        except OSError as error:
            self._undo(offset, error)
        else:
            self._pending.clear()
            self._failed = False

    def _undo(self, offset: int, error: OSError) -> None:
        if not self._failed:
            _LOG.warning("cannot write %s (%s); training goes on and the points are kept", self.path, error.strerror)
        self._failed = True
        file, self._file = self._file, None
        try:
            if file is not None:
                os.ftruncate(file.fileno(), offset)
                file.close()
        except OSError:
            return  # half a record may stay behind; readers stop there, and a resume cuts it off

    def sync(self) -> int:
        """Bytes that are safely on disk."""
        try:
            if self._file is None:
                return self.path.stat().st_size if self.path.exists() else 0
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()
        except OSError as error:
            _LOG.warning("cannot sync %s: %s", self.path, error.strerror)
            return self.path.stat().st_size

    def close(self) -> None:
        """Close; a failure is only reported."""
        try:
            if self._file is not None:
                self._file.close()
        except OSError as error:
            _LOG.warning("cannot close %s: %s", self.path, error.strerror)
        self._file = None


class JsonLines:
    """`metrics.jsonl`: one object per logged step."""

    def __init__(self, folder: Path) -> None:
        self._file = _RecordFile(folder / "metrics.jsonl")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one object."""
        self._file.append((json.dumps({"step": step, **values}) + "\n").encode())

    def state(self) -> State:
        """How much of the file belongs to the run up to now."""
        return {"bytes": self._file.sync()}

    def load_state(self, state: State) -> None:
        """Cut off what was written after the state was taken."""
        _cut(self._file.path, state["bytes"])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class EventFiles:
    """TensorBoard scalars: one event file per process that worked on the run, together one gap-free timeline."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._earlier: dict[str, int] = {}  # files of earlier processes and how many bytes of each count
        self._file: _RecordFile | None = None

    def start(self, step: int) -> None:
        """Open this process's file; readers that saw points after `step` (a killed process's) forget them."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        name = f"events.out.tfevents.{time.time_ns() // 1000}.{socket.gethostname()}.{os.getpid()}"
        self._file = _RecordFile(self._folder / name)
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        if self._earlier:
            forget = Event(wall_time=time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START))
            self._append(forget.SerializeToString())

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one event with one scalar per value."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._append(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)).SerializeToString())

    def _append(self, event: bytes) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._file is not None, "start() comes first"
        buffer = _Buffer()
        RecordWriter(buffer).write(event)
        self._file.append(b"".join(buffer.parts))

    def state(self) -> State:
        """How much of each file belongs to the run up to now."""
        files = dict(self._earlier)
        if self._file is not None:
            files[self._file.path.name] = self._file.sync()
        return {"files": files}

    def load_state(self, state: State) -> None:
        """Cut off what was written after the state was taken; files begun after it go."""
        self._earlier = dict(state["files"])
        for path in self._folder.glob("events.out.tfevents.*"):
            if path.name in self._earlier:
                _cut(path, self._earlier[path.name])
            else:
                path.unlink()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def write_image(folder: Path, tag: str, step: int, png: bytes, width: int, height: int) -> None:
    """Put a picture into TensorBoard, in a file of its own that the next picture of this tag replaces.

    Raises:
        OSError: the folder cannot be written to.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=3)
    _write_alone(folder, tag, step, Summary(value=[Summary.Value(tag=tag, image=image)]))


def write_precision_recall(folder: Path, tag: str, step: int, curves: Mapping[str, Array]) -> None:
    """Put precision–recall curves into TensorBoard, in a file of their own that the next ones of this tag replace.

    Args:
        folder: of the run.
        tag: what the curves' names are prefixed with.
        step: at which they were measured.
        curves: by name, float32 [6, T]: true and false positives, true and false negatives, precision and recall at T
            thresholds evenly from 0 to 1.

    Raises:
        OSError: the folder cannot be written to.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.pr_curve.metadata import create_summary_metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    values = [
        Summary.Value(
            tag=f"{tag}/{name}", tensor=make_tensor_proto(curve.astype("float32")),
            metadata=create_summary_metadata(display_name=name, description="", num_thresholds=curve.shape[1]),
        )
        for name, curve in curves.items()
    ]  # fmt: skip
    _write_alone(folder, tag, step, Summary(value=values))


def _write_alone(folder: Path, tag: str, step: int, summary: Any) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = _Buffer()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
    writer.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())
    for earlier in folder.glob(f"events.out.tfevents.*.{tag}"):
        earlier.unlink()
    name = f"events.out.tfevents.{time.time_ns() // 1000}.{socket.gethostname()}.{os.getpid()}.{tag}"
    (folder / name).write_bytes(b"".join(buffer.parts))


class _Buffer:
    """The little of a file that tensorboard's RecordWriter needs."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.parts.append(data)


def _cut(path: Path, size: int) -> None:
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)
