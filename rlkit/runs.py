"""A run's folder: where everything of one run lies, and the lock that keeps a second process out."""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rlkit.checkpoint import CheckpointStore, library_versions
from rlkit.config import ConfigTree, read_yaml
from rlkit.errors import RunLockedError, UsageError


class Writable(Protocol):
    """A resolved configuration."""

    def to_yaml(self) -> str:
        """`config.yaml` as text."""


@dataclass(frozen=True)
class RunFolder:
    """`config.yaml`, `meta.json`, `metrics.jsonl`, event files, `checkpoints/`, `best/`, `result.json`."""

    path: Path

    @property
    def checkpoints(self) -> CheckpointStore:
        """Checkpoints to go on from."""
        return CheckpointStore(self.path / "checkpoints")

    @property
    def best(self) -> CheckpointStore:
        """The policy with the best evaluation."""
        return CheckpointStore(self.path / "best", keep=1)

    @property
    def is_pretraining(self) -> bool:
        """Whether `rlkit pretrain` made it: its config names a method in the place of an agent."""
        return isinstance(self.config_tree().data.get("method"), Mapping)

    @property
    def is_detection(self) -> bool:
        """Whether `rlkit detect train` made it: its config names a detector in the place of an agent."""
        return isinstance(self.config_tree().data.get("detector"), Mapping)

    @property
    def resume_command(self) -> str:
        """What goes on with it."""
        command = "pretrain" if self.is_pretraining else "detect train" if self.is_detection else "train"
        return f"rlkit {command} --resume {self.path}"

    def config_tree(self) -> ConfigTree:
        """`config.yaml`; trusted like a script of its owner, because it may name files with code."""
        return read_yaml(self.path / "config.yaml")

    def write_config(self, config: Writable) -> None:
        """Write `config.yaml`."""
        _write(self.path / "config.yaml", config.to_yaml())

    @property
    def has_config(self) -> bool:
        """Whether `config.yaml` is there: it is a run."""
        return (self.path / "config.yaml").is_file()

    @property
    def has_meta(self) -> bool:
        """Whether `meta.json` is there: the run has begun."""
        return (self.path / "meta.json").exists()

    def meta(self) -> dict[str, Any]:
        """`meta.json`. Raises UsageError where it is missing or damaged."""
        return self._read_json("meta.json")

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Write `meta.json`."""
        _write(self.path / "meta.json", json.dumps(meta, indent=1))

    def result(self) -> dict[str, Any] | None:
        """`result.json`; None while the run has not stopped yet."""
        return self._read_json("result.json") if (self.path / "result.json").exists() else None

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`."""
        _write(self.path / "result.json", json.dumps(result, indent=1))

    def forget_result(self) -> None:
        """Remove the result of an earlier part of the run, which is going on."""
        (self.path / "result.json").unlink(missing_ok=True)

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_text())
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.path / name} cannot be read: {error}") from error
        return content

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock. Raises RunLockedError where another process trains in this folder."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunLockedError(f"another process is training in {self.path}; wait for it or stop it first") from error
        try:
            yield
        finally:
            lock.release()


@dataclass(frozen=True)
class NewRun(RunFolder):
    """A run that has not begun yet, and can be taken back.

    Attributes:
        made: Folders that were made for it, the deepest first.
        held: Names of what was in its folder before.
    """

    made: tuple[Path, ...]
    held: frozenset[str]

    def give_up(self, *written: str) -> None:
        """Remove the config, the lock and what else the run may have `written`, by name, and the folders made for it.

        What was there before stays, and so does what others have put there since, with the folders that hold it.
        """
        with suppress(OSError):  # why it could not begin is told, not what is in the way here
            for name in {"config.yaml", ".lock", *written} - self.held:
                entry = self.path / name
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
            for folder in self.made:
                folder.rmdir()


def create_run(run_dir: Path | None, agent: str, env: str, seed: int) -> NewRun:
    """A new, empty run folder: `run_dir`, or `runs/<env>/<agent>/<yyyymmdd-hhmmss>-s<seed>-<4 hex>`.

    Raises:
        UsageError: `run_dir` holds a run already, or cannot be written.
    """
    if run_dir is None:
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-s{seed}-{secrets.token_hex(2)}"
        run_dir = Path("runs") / _slug(env) / _slug(agent) / stamp
    if (run_dir / "config.yaml").exists():
        raise UsageError(
            f"{run_dir} holds a run already; go on with `{RunFolder(run_dir).resume_command}`, or choose another "
            "--run-dir"
        )
    made = tuple(folder for folder in (run_dir, *run_dir.parents) if not folder.exists())
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        held = frozenset(entry.name for entry in run_dir.iterdir())
    except OSError as error:
        raise UsageError(f"cannot create the run folder {run_dir}: {error.strerror}") from error
    return NewRun(run_dir, made, held)


def open_run(path: Path) -> RunFolder:
    """An existing run. Raises UsageError where `path` is not one, naming runs that are near."""
    if (path / "config.yaml").is_file():
        return RunFolder(path)
    if not path.exists():
        found = sorted(other.parent for other in Path("runs").glob("*/*/*/config.yaml"))
        latest = f"; the latest run here is {found[-1]}" if found else ""
        raise UsageError(f"there is no run {path}{latest}")
    inside = sorted(other.parent for other in path.rglob("config.yaml"))
    hint = f"; runs inside it: {', '.join(map(str, inside[-3:]))}" if inside else ""
    raise UsageError(f"{path} is not a run folder, it has no config.yaml{hint}")


def describe_process() -> dict[str, Any]:
    """What a run's numbers depend on besides its config: argv, versions, git state, machine."""
    return {
        "argv": sys.argv,
        "versions": library_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "git": _git_state(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _processor() -> str:
    try:
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        return platform.processor()
    return names[0].partition(":")[2].strip() if names else platform.processor()


def _git_state() -> dict[str, Any] | None:
    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or not in a checkout


def _slug(name: str) -> str:
    """A folder name: `my_env.py:MyEnv` becomes `MyEnv`, `ALE/Pong-v5` becomes `ALE-Pong-v5`."""
    last = name.rpartition(":")[2] if ".py:" in name else name
    return re.sub(r"[^\w.-]+", "-", last).strip("-") or "unnamed"


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
