"""The one dataset of episodes: a folder that policies, offline agents and perception write and read.

    manifest.json              schema, spaces, and for each shard its source, size, sha256 and episodes
    episodes-00000-….npz       arrays of many episodes end to end: `observations.0`, `actions.0`, `rewards`, `infos.KEY`

A nested space has one array for each leaf, in the space's order. Shards are written aside and renamed, the manifest
last, so that a process killed at any instant leaves a dataset that can be read. Nothing in it can run code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete, MultiDiscrete

from rlkit.data.space_json import space_from_json, space_to_json
from rlkit.data.tree import Path as Keys
from rlkit.data.tree import leaf, leaf_name, leaf_spaces, nest
from rlkit.errors import DatasetError, UsageError
from rlkit.types import Array, Bools, Obs

SCHEMA = 1
MANIFEST = "manifest.json"
SHARD_BYTES = 64_000_000
"""Arrays of a shard before compression; one shard at a time is held by a reader."""
_TOP_KEYS = {"schema", "observation_space", "action_space", "shards"}
_SHARD_KEYS = {"file", "size", "sha256", "env", "made_by", "episodes"}
_EPISODE_KEYS = {"length", "return", "terminated", "truncated"}


@dataclass(frozen=True, slots=True)
class Episode:
    """T steps of one environment, without a batch axis.

    Neither `terminated` nor `truncated`: it was cut off and says nothing of how it would have gone on.
    """

    observations: Obs  # leaves [T + 1, *O], the last one included
    actions: Obs  # leaves [T, *A]
    rewards: npt.NDArray[np.float64]  # [T], the environment's own
    terminated: bool
    truncated: bool
    infos: Mapping[str, Array] = field(default_factory=dict)  # [T, ...], what each step told

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def total_reward(self) -> float:
        """The undiscounted return."""
        return float(self.rewards.sum())


class DatasetWriter:
    """Writes episodes into a folder.

    Use it in a `with` block: leaving it writes what is not written yet, unless an error ends it, which keeps full
    shards only.

    Args:
        folder: New or empty; with `append`, one with a dataset in it is added to.
        observation_space: Of one environment.
        action_space: Of one environment.
        env: Id of the environment.
        made_by: Who or what acted, for the reader.
        append: Whether to add to a dataset that is there.
        shard_bytes: Size of the arrays at which a shard is written.

    Raises:
        UsageError: the folder holds something already, or a dataset with other spaces, or cannot be created.
        UnsupportedTaskError: values of a space have no fixed shape.
    """

    def __init__(
        self, folder: str | Path, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], *,
        env: str, made_by: str, append: bool = False, shard_bytes: int = SHARD_BYTES,
    ) -> None:  # fmt: skip
        self.folder = folder = Path(folder)
        self._source, self._shard_bytes = {"env": env, "made_by": made_by}, shard_bytes
        self._spaces = {"observations": observation_space, "actions": action_space}
        described = {"observation_space": space_to_json(observation_space), "action_space": space_to_json(action_space)}
        self._manifest: dict[str, Any] = {"schema": SCHEMA, **described, "shards": []}
        self._written: bytes | None = None  # the manifest as it should lie in the folder
        self._pending: list[tuple[dict[str, Any], dict[str, Array]]] = []  # an episode's record and arrays
        self._new_bytes = 0  # of arrays that the manifest in the folder does not tell of
        if (folder / MANIFEST).exists() and append:
            self._manifest, self._written = _read_manifest(folder)
            _require_same_spaces(folder, self._manifest, described)
        elif folder.is_dir() and any(folder.iterdir()):
            hint = "add to it with append (--append)" if (folder / MANIFEST).exists() else "it holds no dataset"
            raise UsageError(f"{folder} is not empty, {hint}; nothing is overwritten: choose another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot create the dataset's folder {folder}: {error.strerror}") from error

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()

    def add(self, episode: Episode) -> None:
        """Append a copy of one episode.

        Raises:
            DatasetError: it does not fit the spaces, its lengths differ, or a reward is not finite.
        """
        arrays = _arrays_of(episode, self._spaces)
        layout = _layout(arrays)
        if self._pending and _layout(self._pending[0][1]) != layout:  # other infos: a shard's arrays are one block each
            self._write_shard()
        record = {"length": len(arrays["rewards"]), "return": float(arrays["rewards"].sum())}
        ends = {"terminated": bool(episode.terminated), "truncated": bool(episode.truncated)}
        self._pending.append((record | ends, arrays))
        self._new_bytes += sum(array.nbytes for array in arrays.values())
        if self._new_bytes >= self._shard_bytes:
            self.close()

    def close(self) -> None:
        """Write what is not written yet; a dataset without any episode is one too."""
        if self._pending:
            self._write_shard()
        if self._new_bytes or self._written is None:
            self._write_manifest()

    def _write_shard(self) -> None:
        joined = {name: np.concatenate([arrays[name] for _, arrays in self._pending]) for name in self._pending[0][1]}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **joined)  # type: ignore[arg-type]  # its stub takes them for allow_pickle
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        # the digest in the name: a leftover of a killed writer is never overwritten by something else
        file = f"episodes-{len(self._manifest['shards']):05d}-{digest[:12]}.npz"
        _write(self.folder / file, content)
        episodes = [record for record, _ in self._pending]
        shard = {"file": file, "size": len(content), "sha256": digest, **self._source, "episodes": episodes}
        self._manifest["shards"].append(shard)
        self._pending = []

    def _write_manifest(self) -> None:
        path = self.folder / MANIFEST
        if (path.read_bytes() if path.exists() else None) != self._written:
            raise DatasetError(f"{path} was changed by another process while this one wrote; its episodes are kept")
        self._written = json.dumps(self._manifest, indent=1, allow_nan=False).encode()
        _write(path, self._written)
        self._new_bytes = 0


class EpisodeDataset:
    """The episodes of a folder, in the order in which they were added.

    Shards are read and verified when an episode of theirs is asked for, and the latest one is kept.

    Args:
        folder: What a `DatasetWriter` wrote.
        in_memory: Whether to read and verify all of it now and keep it.

    Attributes:
        observation_space: Of one environment.
        action_space: Of one environment.
        lengths: Steps of each episode, int64 [E].
        returns: Undiscounted return of each episode, float64 [E].
        terminated: Whether each ended by itself, bool [E].
        truncated: Whether each was ended by a limit, bool [E].
        sources: What was written in one sitting: environment id and who acted, each once.
        digest: Changes with anything in the dataset.

    Raises:
        UsageError: there is no dataset in the folder.
        DatasetError: it is damaged, or written by a newer rlkit.
    """

    def __init__(self, folder: str | Path, *, in_memory: bool = False) -> None:
        self.folder = Path(folder)
        manifest, content = _read_manifest(self.folder)
        self.digest = hashlib.sha256(content).hexdigest()
        self.observation_space = space_from_json(manifest["observation_space"])
        self.action_space = space_from_json(manifest["action_space"])
        self._shards: list[dict[str, Any]] = manifest["shards"]
        records = [record for shard in self._shards for record in shard["episodes"]]
        self.lengths = np.array([record["length"] for record in records], np.int64)
        self.returns = np.array([record["return"] for record in records], np.float64)
        self.terminated: Bools = np.array([record["terminated"] for record in records], np.bool_)
        self.truncated: Bools = np.array([record["truncated"] for record in records], np.bool_)
        self.sources = list(dict.fromkeys((shard["env"], shard["made_by"]) for shard in self._shards))
        self._begins = np.cumsum([0, *(len(shard["episodes"]) for shard in self._shards)])
        self._starts = np.cumsum([0, *self.lengths])  # first step of each episode, over all shards
        self._kept: dict[int, dict[str, Array]] = {}
        self._keeps_all = in_memory
        if in_memory:
            for number in range(len(self._shards)):
                self._arrays(number)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Episode]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Episode:
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        number = int(np.searchsorted(self._begins, index, side="right")) - 1
        arrays, first = self._arrays(number), int(self._begins[number])
        start, length = int(self._starts[index] - self._starts[first]), int(self.lengths[index])
        # every episode has one observation more than steps
        observed = slice(start + index - first, start + index - first + length + 1)
        steps = slice(start, start + length)

        def tree(space: gymnasium.Space[Any], name: str, rows: slice) -> Obs:
            return nest(space, (arrays[f"{name}.{place}"][rows] for place in range(len(leaf_spaces(space)))))

        return Episode(
            tree(self.observation_space, "observations", observed),
            tree(self.action_space, "actions", steps),
            arrays["rewards"][steps],
            bool(self.terminated[index]),
            bool(self.truncated[index]),
            {name.removeprefix("infos."): array[steps] for name, array in arrays.items() if name.startswith("infos.")},
        )

    def verify(self) -> None:
        """Read everything once. Raises DatasetError where something is damaged or missing."""
        for number in range(len(self._shards)):
            self._read(number)

    def _arrays(self, number: int) -> dict[str, Array]:
        if number not in self._kept:
            if not self._keeps_all:
                self._kept.clear()
            self._kept[number] = self._read(number)
        return self._kept[number]

    def _read(self, number: int) -> dict[str, Array]:
        shard = self._shards[number]
        path = self.folder / shard["file"]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{path} cannot be read ({error.strerror}); copy the dataset again") from error
        if len(content) != shard["size"] or hashlib.sha256(content).hexdigest() != shard["sha256"]:
            raise DatasetError(
                f"{path} is damaged: its {len(content)} bytes are not the ones that were written ({shard['size']}); "
                "copy the dataset again"
            )
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays: dict[str, Array] = {name: file[name] for name in file.files}
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{path} holds no arrays that can be read: {error}") from error
        self._require_fitting(path, arrays, number)
        return arrays

    def _require_fitting(self, path: Path, arrays: Mapping[str, Array], number: int) -> None:
        """What the manifest and the spaces promise is there, so that reading an episode cannot fail later."""
        steps = int(self._starts[self._begins[number + 1]] - self._starts[self._begins[number]])
        episodes = len(self._shards[number]["episodes"])
        wanted: dict[str, tuple[int, ...]] = {"rewards": (steps,)}
        for name, space, rows in (
            ("observations", self.observation_space, steps + episodes),
            ("actions", self.action_space, steps),
        ):
            shapes = [child.shape or () for _, child in leaf_spaces(space)]
            wanted |= {f"{name}.{place}": (rows, *shape) for place, shape in enumerate(shapes)}
        found = {name: array.shape for name, array in arrays.items() if not name.startswith("infos.")}
        wrong_infos = [name for name, array in arrays.items() if name.startswith("infos.") and len(array) != steps]
        if found != wanted or wrong_infos:
            raise DatasetError(f"{path} does not hold what {MANIFEST} says: {found} instead of {wanted} {wrong_infos}")
        for name, space in (("observations", self.observation_space), ("actions", self.action_space)):
            for place, (_, child) in enumerate(leaf_spaces(space)):
                _require_listed(f"{name} in {path}", child, arrays[f"{name}.{place}"])


def _arrays_of(episode: Episode, spaces: Mapping[str, gymnasium.Space[Any]]) -> dict[str, Array]:
    """The arrays of one episode by their names in a shard, none of them the caller's own."""
    steps = len(episode.rewards)
    rewards = np.array(episode.rewards, np.float64)
    if steps == 0 or rewards.ndim != 1 or not np.isfinite(rewards).all():
        raise DatasetError(f"an episode needs finite rewards [T] with T >= 1, these are {episode.rewards}")
    arrays: dict[str, Array] = {"rewards": rewards}
    for name, tree, rows in (("observations", episode.observations, steps + 1), ("actions", episode.actions, steps)):
        for place, (path, child) in enumerate(leaf_spaces(spaces[name])):
            found, wanted = _leaf_array(name, tree, path), (rows, *(child.shape or ()))
            if found.shape != wanted or not np.can_cast(found.dtype, np.dtype(child.dtype), "same_kind"):
                raise DatasetError(
                    f"{name} {leaf_name(path)} of an episode of {steps} steps are {found.dtype} {list(found.shape)}, "
                    f"they must be {child.dtype} {list(wanted)} as {child} has them"
                )
            arrays[f"{name}.{place}"] = found.astype(child.dtype)
            _require_listed(f"{name} {leaf_name(path)} of an episode", child, arrays[f"{name}.{place}"])
    for key, values in episode.infos.items():
        try:
            array = np.array(values)
        except ValueError:  # rows of different lengths
            array = np.empty(steps, object)
        if array.shape[:1] != (steps,) or array.dtype.kind not in "biufcSU":
            raise DatasetError(
                f"info {key!r} of an episode of {steps} steps is {array.dtype} {list(array.shape)}; allowed: numbers, "
                "truth values or text, one row for each step"
            )
        arrays[f"infos.{key}"] = array
    return arrays


def _require_listed(what: str, space: gymnasium.Space[Any], values: Array) -> None:
    """Values of a space that lists what there is are among them: as one-hot vectors others would be something else."""
    if isinstance(space, (Discrete, MultiDiscrete)):
        first, count = space.start, space.n if isinstance(space, Discrete) else space.nvec
        wrong = values[(values < first) | (values >= first + count)]
        if len(wrong):
            raise DatasetError(f"{what} have {wrong[0]}, which is not in {space}")


def _leaf_array(name: str, tree: Obs, path: Keys) -> Array:
    try:
        return np.asarray(leaf(tree, path))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise DatasetError(f"{name} of an episode have no {leaf_name(path)}, which their space has") from error


def _layout(arrays: Mapping[str, Array]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What two episodes must have in common to lie in one shard."""
    return {
        name: ("text" if array.dtype.kind in "SU" else array.dtype.str, array.shape[1:])
        for name, array in arrays.items()
    }


def _read_manifest(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The manifest, with every key that is read checked, and its bytes."""
    path = folder / MANIFEST
    if not path.is_file():
        raise UsageError(
            f"there is no dataset in {folder.absolute()} (no {MANIFEST}); "
            f"`rlkit export-dataset RUN --out {folder}` makes one"
        )
    content = path.read_bytes()
    try:
        manifest: dict[str, Any] = json.loads(content)
        schema = manifest["schema"]
        if isinstance(schema, int) and schema > SCHEMA:
            raise DatasetError(f"{path} was written by a newer rlkit (schema {schema}, this one reads {SCHEMA})")
        shards = manifest["shards"]
        records = [record for shard in shards for record in shard["episodes"]]
        is_ours = (
            manifest.keys() == _TOP_KEYS
            and all(shard.keys() == _SHARD_KEYS and Path(shard["file"]).name == shard["file"] for shard in shards)
            and all(record.keys() == _EPISODE_KEYS and record["length"] >= 1 for record in records)
            and all(isinstance(record["length"], int) and np.isfinite(record["return"]) for record in records)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is damaged: {type(error).__name__} {error}; copy the dataset again") from error
    if not is_ours:
        raise DatasetError(f"{path} is damaged or not one of ours: unknown or missing keys, or a file outside {folder}")
    return manifest, content


def _require_same_spaces(folder: Path, manifest: Mapping[str, Any], described: Mapping[str, Any]) -> None:
    for name, space in described.items():
        if manifest[name] != space:
            there = space_from_json(manifest[name])
            raise UsageError(
                f"the {name.replace('_', ' ')} of the dataset in {folder} is {there}, that of the new episodes is "
                f"{space_from_json(space)}; choose another folder"
            )


def _write(path: Path, content: bytes) -> None:
    """Written aside, synced and renamed: under its name there is all of it or what was there before."""
    partial = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
