"""Arrays of frames of many videos in files: one .npz, or a folder with a .npy for each video. Never unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlkit.errors import DatasetError, UsageError
from rlkit.types import Array

CLASSES = "classes"
"""Key of an .npz under which class names may be, text [K]."""
LABEL_FOLDER = "target_perframe"
"""Where the feature layout of TRN, LSTR and MiniROAD keeps labels."""


class FrameArrays(NamedTuple):
    """An array for each video, by name in alphabetical order, and the names of the classes where they are told."""

    videos: dict[str, Array]
    classes: tuple[str, ...] | None


def read_frame_arrays(path: Path) -> FrameArrays:
    """Arrays [L, …] of the videos in `path`: an .npz with a key for each, or a folder of .npy files named after them.

    A folder without .npy files but with `target_perframe/` is read there.

    Raises:
        UsageError: there is no such file, or it is of another kind.
        DatasetError: a file is damaged or holds Python objects, or there are no videos.
    """
    if path.is_dir():
        folder = path if any(path.glob("*.npy")) or not (path / LABEL_FOLDER).is_dir() else path / LABEL_FOLDER
        videos = {file.stem: _loaded(file) for file in sorted(folder.glob("*.npy"))}
        found = FrameArrays(videos, None)
    elif path.suffix == ".npz" and path.is_file():
        found = _of_archive(path)
    else:
        raise UsageError(f"{path} is neither an .npz file nor a folder of .npy files: give one of these")
    if not found.videos:
        raise DatasetError(f"{path} holds no videos: it needs a key (.npz) or a .npy file for each")
    return found


def write_frame_arrays(path: Path, videos: Mapping[str, Array], classes: Sequence[str]) -> None:
    """An .npz that `read_frame_arrays` reads, all of it or nothing; its folder is made.

    Raises:
        DatasetError: a video is called `classes`.
    """
    if CLASSES in videos:
        raise DatasetError(f"a video is called {CLASSES!r}, where an .npz keeps the names of classes: rename it")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with zipfile.ZipFile(partial, "w") as archive:  # numpy.savez takes no array that is called `file`
        for name, array in {CLASSES: np.array(classes), **videos}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    partial.replace(path)


def mapped_array(path: Path) -> Array:
    """The array of a .npy file, of which only what is used is read, so that large ones need no memory.

    Raises:
        DatasetError: the file is damaged or holds Python objects.
    """
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from error
    return array


def read_class_names(path: Path) -> tuple[str, ...]:
    """Names of classes, a line each, in the order of the columns; empty lines at the end do not count.

    Raises:
        UsageError: there is no such file, or a line between others is empty.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}: it needs a class name on each line")
    names = [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()]
    if not all(names):
        raise UsageError(f"{path} has an empty line {names.index('') + 1}: it needs a class name on each")
    return tuple(names)


def _of_archive(path: Path) -> FrameArrays:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in sorted(archive.files)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error
    names = arrays.pop(CLASSES, None)
    if names is None:
        return FrameArrays(arrays, None)
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DatasetError(f"{CLASSES!r} in {path} is {names.dtype} {list(names.shape)}: text [K] is needed")
    return FrameArrays(arrays, tuple(names.tolist()))


def _loaded(path: Path) -> Array:
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from error
    return array


def _damaged(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{path} cannot be read: {error}. Save plain arrays of numbers (numpy.save, numpy.savez)")
