"""Labelled streams in one npz file, so that what was recorded and encoded once is not computed again."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlkit.data.streams import LabelledStream, StreamSet
from rlkit.errors import DatasetError
from rlkit.types import Array

_HEAD = "streams.json"


def write_streams(path: Path, sets: Mapping[str, StreamSet]) -> None:
    """Write named sets into a file, all of it or nothing."""
    head: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for name, streams in sets.items():
        head[name] = {
            "classes": streams.classes, "frame_rate": streams.frame_rate, "ambiguous": streams.ambiguous,
            "streams": [stream.name for stream in streams.streams],
        }  # fmt: skip
        for number, stream in enumerate(streams.streams):
            arrays[f"{name}.{number}.features"], arrays[f"{name}.{number}.labels"] = stream.features, stream.labels
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, **{_HEAD: np.array(json.dumps(head))}, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def read_streams(path: Path) -> dict[str, StreamSet]:
    """What `write_streams` wrote. Raises DatasetError where the file is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            head = json.loads(str(arrays[_HEAD]))
            return {name: _set_of(arrays, name, described) for name, described in head.items()}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} holds no streams that can be read ({error}): record them again") from error


def _set_of(file: Mapping[str, Array], name: str, described: Mapping[str, Any]) -> StreamSet:
    streams = tuple(
        LabelledStream(stream, file[f"{name}.{number}.features"], file[f"{name}.{number}.labels"])
        for number, stream in enumerate(described["streams"])
    )
    return StreamSet(tuple(described["classes"]), streams, described["frame_rate"], described["ambiguous"])
