"""Labelled features and datasets of labelled frames for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from rlkit.data.datasets import DatasetWriter, Episode, EpisodeDataset
from rlkit.perception.probing.frames import LabelledFrames
from rlkit.types import Array

PIXELS = spaces.Box(0, 255, (8, 8), np.uint8)


def features(inputs: Array, **labels: Array) -> LabelledFrames:
    """Features with labels, all of one episode."""
    return LabelledFrames(inputs, labels, np.zeros(len(inputs), np.int64))


def dot(place: int) -> Array:
    """A picture [8, 8] with one bright pixel."""
    picture = np.zeros(64, np.uint8)
    picture[place] = 255
    return picture.reshape(8, 8)


def recorded(
    folder: Path, episodes: Sequence[Sequence[int]], space: spaces.Space[Any] = PIXELS, **more: Mapping[int, Array]
) -> EpisodeDataset:
    """A dataset whose episode e shows a dot at `episodes[e][t]` at time t, with row and column as labels."""
    with DatasetWriter(folder, space, spaces.Discrete(2), env="Dots", made_by="a test") as writer:
        for number, places in enumerate(episodes):
            told = np.array(places[1:])
            infos: dict[str, Array] = {"state/agent/row": told // 8, "state/agent/column": told % 8, "lives": told}
            infos |= {f"state/{name}": values[number] for name, values in more.items()}
            seen: Any = np.stack([dot(place) for place in places])
            if isinstance(space, spaces.Dict):
                seen = {"picture": seen, "time": np.arange(len(places))}
            steps = len(places) - 1
            writer.add(Episode(seen, np.zeros(steps, np.int64), np.zeros(steps), False, True, infos))
    return EpisodeDataset(folder)
