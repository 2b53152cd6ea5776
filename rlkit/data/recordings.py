"""Recordings from files: a dataset of episodes, a folder of pictures, or arrays in an npz file."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlkit.data.clips import Recording
from rlkit.data.datasets import MANIFEST, EpisodeDataset
from rlkit.data.memory import check_budget
from rlkit.errors import DatasetError, UsageError
from rlkit.types import Array

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
UNREADABLE = 0.05
"""Part of a folder's pictures that may be unreadable."""
_LOG = logging.getLogger(__name__)
_NPZ_NAMES = ("observations", "pictures", "images", "frames")


def read_recording(path: Path) -> Recording:
    """What lies at `path`: a dataset's folder, a folder of pictures, or an npz file.

    Raises:
        UsageError: it is none of these, or holds no pictures that fit together.
        DatasetError: it is damaged.
    """
    if (path / MANIFEST).is_file():
        return recording_of(EpisodeDataset(path))
    if path.is_dir():
        return _pictures(path)
    if path.suffix == ".npz" and path.is_file():
        return _arrays(path)
    raise UsageError(
        f"{path} is no data to learn from: give a dataset (`rlkit export-dataset`), a folder of pictures "
        f"({', '.join(PICTURE_SUFFIXES)}), or an npz file with {_NPZ_NAMES[0]!r}"
    )


def recording_of(dataset: EpisodeDataset) -> Recording:
    """All observations of a dataset end to end, those of one episode after those of the other.

    Labels are the infos that every episode has, numbers of the same shape: what a step told is of the observation that
    it led to, so an episode's first observation has a row of zeros, and the label `is_labelled` says which have none.

    Raises:
        UsageError: it is empty, or its observations are not one array each.
        MemoryBudgetError: it does not fit into the memory that is free.
    """
    space = dataset.observation_space
    if not len(dataset) or not isinstance(space, spaces.Box):
        raise UsageError(
            f"{dataset.folder} holds {len(dataset)} episodes of observations in {space}; needed are episodes with "
            "one array for each observation (a Box)"
        )
    count = int(dataset.lengths.sum()) + len(dataset)
    require_memory(count, space, str(dataset.folder))
    observations = np.empty((count, *space.shape), space.dtype)
    is_labelled = np.ones(count, np.bool_)
    parts: list[tuple[Array, Mapping[str, Array]]] = []
    first = 0
    for episode in dataset:
        stop = first + len(episode) + 1
        observations[first:stop] = episode.observations
        is_labelled[first] = False
        parts.append((np.asarray(episode.actions), episode.infos))
        first = stop
    labels = _labels([infos for _, infos in parts])
    actions = None
    if not isinstance(dataset.action_space, (spaces.Dict, spaces.Tuple)):
        actions = np.concatenate([_with_row_after(part) for part, _ in parts])
    number = np.repeat(np.arange(len(dataset)), dataset.lengths + 1)
    return Recording(observations, number, actions, labels | ({"is_labelled": is_labelled} if labels else {}))


def require_memory(count: int, space: gymnasium.Space[Any], what: str) -> None:
    """Raise MemoryBudgetError where so many observations of a space do not fit into the memory that is free."""
    size = count * int(np.prod(space.shape or ())) * np.dtype(space.dtype).itemsize
    check_budget(f"{what} ({count:,} observations)", size, "Record fewer frames, or smaller ones.")


def _labels(infos: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """What all episodes tell alike, for every observation [M, ...]."""
    common = set(infos[0]).intersection(*infos[1:])
    layouts = {name: {(each[name].dtype.kind, each[name].shape[1:]) for each in infos} for name in sorted(common)}
    kept = [name for name, found in layouts.items() if len(found) == 1 and next(iter(found))[0] in "biuf"]
    return {name: np.concatenate([_with_row_before(each[name]) for each in infos]) for name in kept}


def _with_row_before(values: Array) -> Array:
    return np.concatenate([np.zeros_like(values[:1]), values])


def _with_row_after(values: Array) -> Array:
    return np.concatenate([values, np.zeros_like(values[:1])])


def _pictures(folder: Path) -> Recording:
    """Pictures in name order, RGB; the names of subfolders, where there are any, are the label `class`.

    Up to one in twenty may be unreadable: they are left out, counted and named.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise UsageError(f"{folder} holds no pictures; allowed: {', '.join(PICTURE_SUFFIXES)}, in subfolders too")
    found = {file: _picture(file) for file in files}
    pictures = {file: picture for file, picture in found.items() if not isinstance(picture, str)}
    unreadable = [f"{file} ({problem})" for file, problem in found.items() if isinstance(problem, str)]
    if unreadable:
        named = "; ".join(unreadable[:5]) + (f"; and {len(unreadable) - 5} more" if len(unreadable) > 5 else "")
        told = f"{len(unreadable)} of {len(files)} pictures in {folder} cannot be read: {named}"
        if len(unreadable) > UNREADABLE * len(files):
            raise DatasetError(f"{told}. At most {UNREADABLE:.0%} are left out; remove or replace them")
        _LOG.warning("%s; they are left out", told)
    _require_one_size(pictures)
    parents = [file.parent.relative_to(folder).as_posix() for file in pictures]
    classes = sorted(set(parents))
    labels = {"class": np.array([classes.index(parent) for parent in parents])} if len(classes) > 1 else {}
    return Recording(np.stack(list(pictures.values())), np.arange(len(pictures)), None, labels)


def _picture(file: Path) -> Array | str:
    """The picture, RGB [H, W, 3], or why it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB"))
    except UnidentifiedImageError:
        return "no picture"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises for damage
        return str(error)


def _require_one_size(pictures: Mapping[Path, Array]) -> None:
    first, shape = next((file, picture.shape) for file, picture in pictures.items())
    for file, picture in pictures.items():
        if picture.shape != shape:
            raise UsageError(
                f"{file} has {picture.shape[1]} x {picture.shape[0]} pixels, {first} has {shape[1]} x {shape[0]}; all "
                "must have the same size: resize them first"
            )


def _arrays(path: Path) -> Recording:
    """The pictures of an npz file, with `episode`, `actions` and labels where it holds them."""
    if not zipfile.is_zipfile(path):
        raise DatasetError(f"{path} is no npz file; numpy.savez writes one")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} holds no arrays that can be read: {error}") from error
    name = next((name for name in _NPZ_NAMES if name in arrays), None)
    if name is None:
        raise UsageError(f"{path} holds {sorted(arrays)}; the pictures must be called {', '.join(_NPZ_NAMES)}")
    observations = arrays.pop(name)
    if observations.ndim < 3:
        raise UsageError(f"{path}: {name} have the shape {observations.shape}, they must be pictures [M, H, W, ...]")
    wrong = [other for other, values in arrays.items() if values.shape[:1] != observations.shape[:1]]
    if wrong:
        raise UsageError(f"{path}: {wrong} have not as many rows as {name} ({len(observations)})")
    episode = arrays.pop("episode", np.arange(len(observations)))
    if episode.ndim != 1 or episode.dtype.kind not in "iu":
        raise UsageError(f"{path}: 'episode' is {episode.dtype} {list(episode.shape)}, it must be whole numbers [M]")
    episode = episode.astype(np.int64)
    if (np.diff(episode) < 0).any():
        raise UsageError(f"{path}: the numbers in 'episode' must not fall; sort the rows by episode and time")
    return Recording(observations, episode, arrays.pop("actions", None), arrays)
