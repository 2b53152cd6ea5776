"""Any observation as one float32 vector, for networks that take vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces

from rlkit.data.tree import Path, leaf, leaf_name, leaf_spaces
from rlkit.errors import UnsupportedTaskError
from rlkit.types import Array, Floats, Obs

Encode: TypeAlias = Callable[[Array], Array]
"""One leaf's batch [N, *shape] to its columns [N, width]."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    path: Path
    space: gymnasium.Space[Any]
    start: int
    stop: int
    encode: Encode


class ObservationFlattener:
    """Batched observations of a space, nested or not, as float32 [N, size].

    Boxes are laid out flat, uint8 boxes over 0..255 divided by 255, discrete leaves become one-hot; leaves follow the
    space's order, as in `gymnasium.spaces.flatten`. Observations of a float32 vector space pass through untouched.

    Raises:
        UnsupportedTaskError: a leaf has no fixed size (Text, Sequence, Graph, OneOf).

    >>> from gymnasium.spaces import Discrete
    >>> ObservationFlattener(Discrete(3))(np.array([2, 0]))
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        self.size = 0
        self._leaves: list[_Leaf] = []
        for path, child in leaf_spaces(space):
            width, encode = _encoder(path, child)
            self._leaves.append(_Leaf(path, child, self.size, self.size + width, encode))
            self.size += width
        self._is_vector = isinstance(space, spaces.Box) and space.dtype == np.float32 and len(space.shape) == 1

    @property
    def columns(self) -> list[tuple[Path, gymnasium.Space[Any], int, int]]:
        """Path and space of each leaf, its first column and the one after its last."""
        return [(part.path, part.space, part.start, part.stop) for part in self._leaves]

    def __call__(self, obs: Obs) -> Floats:
        """Vectors [N, size] of N observations."""
        if self._is_vector:
            return np.asarray(obs, np.float32)
        columns = [part.encode(np.asarray(leaf(obs, part.path))) for part in self._leaves]
        flat = np.empty((len(columns[0]) if columns else 0, self.size), np.float32)
        for part, values in zip(self._leaves, columns, strict=True):
            flat[:, part.start : part.stop] = values
        return flat


def _encoder(path: Path, space: gymnasium.Space[Any]) -> tuple[int, Encode]:
    """Width and encoding of one leaf."""
    if isinstance(space, spaces.Box):
        scale = np.float32(1 / 255) if _is_image(space) else np.float32(1)
        return prod(space.shape), lambda values: _rows(values) * scale
    if isinstance(space, spaces.MultiBinary):
        return prod(space.shape), _rows
    if isinstance(space, spaces.Discrete):
        return int(space.n), _one_hot(np.array([space.n]), np.array([space.start]))
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum()), _one_hot(space.nvec.reshape(-1), space.start.reshape(-1))
    raise UnsupportedTaskError(
        f"the observation leaf {leaf_name(path)!r} is {space}, which has no fixed size.\n"
        "Allowed: Box, Discrete, MultiBinary, MultiDiscrete, and Dict and Tuple of these. Wrap the environment."
    )


def _is_image(space: spaces.Box) -> bool:
    return space.dtype == np.uint8 and bool((space.low == 0).all() and (space.high == 255).all())


def _rows(values: Array) -> Array:
    return values.reshape(len(values), -1)


def _one_hot(counts: Array, starts: Array) -> Encode:
    """Encoding of K discrete values with `counts` [K] choices, the first of which is `starts` [K]."""
    offsets = np.cumsum(counts) - counts - starts  # column of value v of choice k is v + offsets[k]
    width = int(counts.sum())

    def encode(values: Array) -> Array:
        hot = np.zeros((len(values), width), np.float32)
        hot[np.arange(len(values))[:, None], _rows(values) + offsets] = 1
        return hot

    return encode
