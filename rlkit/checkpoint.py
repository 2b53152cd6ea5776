"""Checkpoints that survive a kill at any instant: written aside, hashed, renamed, verified, and only then pruned.

A checkpoint folder holds `policy/` (all that acting needs), `training/` (the rest) and `manifest.json`, which names
every file with its size and sha256 and is written last. Replay rows live in append-only segment files shared between
checkpoints, so a checkpoint costs what is new. Nothing here is pickle, and nothing in a checkpoint names code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from rlkit.codec import Encoder, decode
from rlkit.data.append_only import AppendOnly
from rlkit.errors import CheckpointError
from rlkit.types import Array, State

SCHEMA = 1
MANIFEST = "manifest.json"
SEGMENTS = "segments"
KEPT = 2
_LOG = logging.getLogger(__name__)


def crash_point(name: str) -> None:
    """Kill this process like SIGKILL where `RLKIT_CRASH_AT` is `name:n` and this is the n-th visit (fault tests)."""
    if not _CRASH_AT:
        return
    point, _, count = _CRASH_AT.partition(":")
    if point == name:
        _VISITS[name] = _VISITS.get(name, 0) + 1
        if _VISITS[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)


_CRASH_AT = os.environ.get("RLKIT_CRASH_AT")
_VISITS: dict[str, int] = {}


@dataclass(frozen=True)
class Segment:
    """Rows [start, stop) of one append-only log, in one file shared between checkpoints."""

    file: str
    start: int
    stop: int
    size: int
    sha256: str


@dataclass(frozen=True)
class SavedLog:
    """A log on disk, readable like the live one: `rows` reads the segment files it needs, verifying each."""

    folder: Path
    oldest_held: int
    total_added: int
    segments: tuple[Segment, ...]

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Rows [start, stop) by storage name."""
        parts = [
            {name: array[max(start - segment.start, 0) : stop - segment.start] for name, array in arrays.items()}
            for segment, arrays in self._overlapping(start, stop)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _overlapping(self, start: int, stop: int) -> Iterator[tuple[Segment, dict[str, Array]]]:
        for segment in self.segments:
            if segment.start < stop and start < segment.stop:
                content = _read_verified(self.folder / SEGMENTS / segment.file, segment.size, segment.sha256)
                yield segment, _arrays(content, segment.file)


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds; `training` is None where only the policy was saved or asked for."""

    path: Path
    step: int
    policy: State
    training: State | None
    versions: Mapping[str, str]


@dataclass
class CheckpointStore:
    """The checkpoints of one run, in `folder`. One process writes, see the run's lock."""

    folder: Path
    keep: int = KEPT
    _segments: dict[str, tuple[Segment, ...]] = field(default_factory=dict)

    def save(self, step: int, policy: State, training: State | None = None) -> Path:
        """Write a checkpoint, verify it, then remove those no longer kept.

        Raises:
            CheckpointError: it could not be written (disk full, no permission); older checkpoints are untouched.
        """
        final = self.folder / f"step-{step:09d}"
        partial = self.folder / f".tmp-{step:09d}-{uuid.uuid4().hex[:8]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            crash_point("before-checkpoint")
            self._write(partial, step, policy, training)
            crash_point("after-manifest")
            if final.exists():  # the same step again, from a run that was resumed before it
                shutil.rmtree(final)
            partial.rename(final)
            _fsync_folder(self.folder)
            crash_point("after-rename")
            read_manifest(final, verify=True)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(
                f"cannot write the checkpoint {final}: {error.strerror or error}. Older checkpoints are untouched; "
                "free some space or fix the permissions, then go on with `rlkit train --resume`."
            ) from error
        self._prune(final)
        return final

    def candidates(self) -> list[Path]:
        """Finished checkpoints, newest first; nothing is verified yet."""
        return sorted(self.folder.glob("step-*"), reverse=True)

    def load(self, *, policy_only: bool = False) -> Checkpoint:
        """The newest checkpoint that verifies; a damaged one is passed over with a warning.

        Raises:
            CheckpointError: there is none.
        """
        problems = []
        for path in self.candidates():
            try:
                checkpoint = load_checkpoint(path, policy_only=policy_only)
            except CheckpointError as error:
                _LOG.warning("passing over a damaged checkpoint: %s", error)
                problems.append(str(error))
                continue
            if not policy_only:
                self._adopt(path)
            return checkpoint
        found = "; ".join(problems) if problems else "no checkpoint was written yet"
        raise CheckpointError(f"nothing to load in {self.folder}: {found}")

    def _adopt(self, path: Path) -> None:
        """Go on from `path`: newer, damaged checkpoints and unfinished writes are removed."""
        manifest = read_manifest(path)
        self._segments = {name: _segments(log) for name, log in manifest["logs"].items()}
        for other in self.candidates():
            if other.name > path.name:
                shutil.rmtree(other)
        for leftover in self.folder.glob(".tmp-*"):
            shutil.rmtree(leftover)

    def _write(self, partial: Path, step: int, policy: State, training: State | None) -> None:
        partial.mkdir()
        files: dict[str, dict[str, Any]] = {}
        logs: dict[str, dict[str, Any]] = {}
        for part, tree in (("policy", policy), ("training", training)):
            if tree is None:
                continue
            encoder = Encoder()
            document = encoder.encode(tree)
            (partial / part).mkdir()
            contents = {
                f"{part}/arrays.safetensors": safetensors.numpy.save(encoder.arrays),
                f"{part}/state.json": json.dumps(document).encode(),
            }
            for name, content in contents.items():
                files[name] = _write_file(partial / name, content)
                crash_point("mid-checkpoint")
            _fsync_folder(partial / part)
            for name, log in encoder.logs.items():
                logs[name] = self._write_segments(name, log)
        manifest = {"schema": SCHEMA, "step": step, "files": files, "logs": logs, "versions": library_versions()}
        crash_point("before-manifest")
        _write_file(partial / MANIFEST, json.dumps(manifest, indent=1).encode())
        _fsync_folder(partial)

    def _write_segments(self, name: str, log: AppendOnly) -> dict[str, Any]:
        oldest, total = log.oldest_held, log.total_added
        kept = [segment for segment in self._segments.get(name, ()) if segment.stop > oldest and segment.stop <= total]
        start = max(kept[-1].stop if kept else 0, oldest)
        if start < total:
            folder = self.folder / SEGMENTS
            folder.mkdir(exist_ok=True)
            file = f"{name.strip('/').replace('/', '.')}-{start:012d}-{total:012d}.safetensors"
            partial = folder / f".tmp-{file}"
            written = _write_file(partial, safetensors.numpy.save(log.rows(start, total)))
            crash_point("mid-segment")
            partial.rename(folder / file)
            _fsync_folder(folder)
            kept.append(Segment(file, start, total, **written))
        self._segments[name] = tuple(kept)
        return {"oldest_held": oldest, "total_added": total, "segments": [vars(segment) for segment in kept]}

    def _prune(self, newest: Path) -> None:
        kept = self.candidates()[: self.keep]
        for path in self.candidates()[self.keep :]:
            shutil.rmtree(path)
            crash_point("mid-prune")
        used = {
            segment.file for path in kept for log in read_manifest(path)["logs"].values() for segment in _segments(log)
        }
        for segment_file in (self.folder / SEGMENTS).glob("*"):
            if segment_file.name not in used:
                segment_file.unlink()


def load_checkpoint(path: Path, *, policy_only: bool = False) -> Checkpoint:
    """Read and verify one checkpoint folder.

    Raises:
        CheckpointError: it is damaged, unfinished, or written by a newer rlkit.
    """
    manifest = read_manifest(path)
    logs = _saved_logs(path, manifest)

    def part(name: str) -> State | None:
        if f"{name}/state.json" not in manifest["files"]:
            return None
        contents = {
            file: _read_verified(path / file, **manifest["files"][file])
            for file in (f"{name}/state.json", f"{name}/arrays.safetensors")
        }
        document = json.loads(contents[f"{name}/state.json"])
        arrays = _arrays(contents[f"{name}/arrays.safetensors"], f"{path}/{name}")
        tree: State = decode(document, arrays, logs.__getitem__)
        return tree

    try:
        policy = part("policy")
        if policy is None:
            raise CheckpointError(f"{path} holds no policy")
        training = None if policy_only else part("training")
        if training is not None:
            for log in logs.values():
                for segment in log.segments:
                    _read_verified(path.parent / SEGMENTS / segment.file, segment.size, segment.sha256)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return Checkpoint(path, manifest["step"], policy, training, manifest["versions"])


def read_manifest(path: Path, *, verify: bool = False) -> dict[str, Any]:
    """A checkpoint's manifest; with `verify`, every file it names is read back and hashed."""
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_bytes())
        schema = manifest["schema"]
        if schema > SCHEMA:
            raise CheckpointError(f"{path} was written by a newer rlkit (schema {schema}, this one reads {SCHEMA})")
        if verify:
            for file, written in manifest["files"].items():
                _read_verified(path / file, **written)
    except OSError as error:
        raise CheckpointError(f"{path} is unfinished or unreadable: {error.strerror}: {error.filename}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}/{MANIFEST} is damaged: {error}") from error
    return manifest


def library_versions() -> dict[str, str]:
    """Versions of the libraries a run's numbers depend on; those not installed are left out."""
    versions = {}
    for name in ("rlkit-torch", "torch", "numpy", "gymnasium", "stable-baselines3", "mujoco", "ale-py"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _saved_logs(path: Path, manifest: Mapping[str, Any]) -> dict[str, SavedLog]:
    try:
        return {
            name: SavedLog(path.parent, log["oldest_held"], log["total_added"], _segments(log))
            for name, log in manifest["logs"].items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}/{MANIFEST} is damaged: {error}") from error


def _segments(log: Mapping[str, Any]) -> tuple[Segment, ...]:
    segments = tuple(Segment(**segment) for segment in log["segments"])
    for segment in segments:
        if Path(segment.file).name != segment.file:
            raise TypeError(f"a segment lies outside its folder: {segment.file!r}")
    return segments


def _write_file(path: Path, content: bytes) -> dict[str, Any]:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _read_verified(path: Path, size: int, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
        raise CheckpointError(f"{path} is damaged: its {len(content)} bytes are not the {size} that were written")
    return content


def _arrays(content: bytes, name: str) -> dict[str, Array]:
    try:
        return safetensors.numpy.load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{name} is damaged: {error}") from error


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
