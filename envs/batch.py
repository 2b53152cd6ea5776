"""Batches of observations: how a space's values become arrays with a leading axis N, nested like the space."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from gymnasium import spaces

from rlkit.types import Array, Obs

Space: TypeAlias = spaces.Space[Any]
RowAction: TypeAlias = Callable[[Any, int], Any]


class WrongObservation(ValueError):
    """Raised when one environment's observation does not have its space's structure; the message names the leaf."""


class Layout(Protocol):
    """Memory layout of a batch: allocates it and writes one environment's observation into a row."""

    def empty(self, num_envs: int) -> Any:
        """Batch of `num_envs` unwritten rows."""

    def write(self, batch: Any, index: int, value: Any) -> None:
        """Copy `value` into row `index`, cast to the space's dtype."""

    def copy(self, batch: Any) -> Any:
        """Deep copy of a batch."""

    def concatenate(self, parts: Sequence[Any]) -> Any:
        """One batch of the rows of `parts`, in order."""


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """A leaf whose values are numbers of one shape."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def empty(self, num_envs: int) -> Array:
        """Batch [N, *shape]."""
        return np.empty((num_envs, *self.shape), self.dtype)

    def write(self, batch: Array, index: int, value: Any) -> None:
        """Copy `value` into row `index`; a float in an integer space is an error, because the cast would lose it."""
        if type(value) is int and not self.shape and self.dtype.kind == "i":  # the common case of a Discrete space
            batch[index] = value
            return
        try:
            if np.shape(value) != self.shape:
                raise WrongObservation(f"{self.path} has shape {np.shape(value)}, its space says {self.shape}")
            if self.dtype.kind in "iu" and np.asarray(value).dtype.kind == "f":
                raise WrongObservation(f"{self.path} is a float, its space says {self.dtype}")
            batch[index] = value
        except (TypeError, ValueError) as error:
            if isinstance(error, WrongObservation):
                raise
            raise WrongObservation(
                f"{self.path} is {type(value).__name__} {value!r:.60}, its space says {self.dtype} {self.shape}"
            ) from error

    def copy(self, batch: Array) -> Array:
        """Copy of the array."""
        return batch.copy()

    def concatenate(self, parts: Sequence[Array]) -> Array:
        """Rows of all parts."""
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class ObjectLayout:
    """A leaf without a fixed shape (text, sequences, graphs): an object array of deep copies."""

    path: str

    def empty(self, num_envs: int) -> Array:
        """Object array [N]."""
        return np.empty((num_envs,), object)

    def write(self, batch: Array, index: int, value: Any) -> None:
        """Deep copy `value` into row `index`."""
        batch[index] = copy.deepcopy(value)

    def copy(self, batch: Array) -> Array:
        """Deep copy of the rows."""
        return copy.deepcopy(batch)

    def concatenate(self, parts: Sequence[Array]) -> Array:
        """Rows of all parts."""
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class DictLayout:
    """A dict of layouts, in the order of the space's keys."""

    path: str
    children: dict[str, Layout]

    def empty(self, num_envs: int) -> dict[str, Any]:
        """Dict of batches."""
        return {key: child.empty(num_envs) for key, child in self.children.items()}

    def write(self, batch: dict[str, Any], index: int, value: Any) -> None:
        """Write every key; a missing key is an error that names it."""
        if not isinstance(value, dict):
            raise WrongObservation(f"{self.path} is {type(value).__name__}, its space is a Dict")
        for key, child in self.children.items():
            if key not in value:
                raise WrongObservation(f"{self.path} misses the key {key!r}; it has {sorted(map(str, value))}")
            child.write(batch[key], index, value[key])

    def copy(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Copy of every leaf."""
        return {key: child.copy(batch[key]) for key, child in self.children.items()}

    def concatenate(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Rows of all parts, leaf by leaf."""
        return {key: child.concatenate([part[key] for part in parts]) for key, child in self.children.items()}


@dataclass(frozen=True, slots=True)
class TupleLayout:
    """A tuple of layouts."""

    path: str
    children: tuple[Layout, ...]

    def empty(self, num_envs: int) -> tuple[Any, ...]:
        """Tuple of batches."""
        return tuple(child.empty(num_envs) for child in self.children)

    def write(self, batch: tuple[Any, ...], index: int, value: Any) -> None:
        """Write every element; a different number of elements is an error."""
        if not isinstance(value, (tuple, list)) or len(value) != len(self.children):
            raise WrongObservation(
                f"{self.path} is {type(value).__name__} {value!r:.60}, its space is a Tuple of {len(self.children)}"
            )
        for child, part, element in zip(self.children, batch, value, strict=True):
            child.write(part, index, element)

    def copy(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """Copy of every leaf."""
        return tuple(child.copy(part) for child, part in zip(self.children, batch, strict=True))

    def concatenate(self, parts: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Rows of all parts, leaf by leaf."""
        return tuple(child.concatenate([part[i] for part in parts]) for i, child in enumerate(self.children))


def layout_of(space: Space, path: str = "the observation") -> Layout:
    """Layout of batches of `space`; `path` is what messages call it."""
    if isinstance(space, spaces.Dict):
        return DictLayout(path, {key: layout_of(child, f"{path}[{key!r}]") for key, child in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return TupleLayout(path, tuple(layout_of(child, f"{path}[{i}]") for i, child in enumerate(space.spaces)))
    if isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        return ArrayLayout(path, tuple(space.shape or ()), np.dtype(space.dtype))
    return ObjectLayout(path)


def row_action(space: Space) -> RowAction:
    """Function (batched action, row index) → a fresh action of one environment, in the space's own type."""
    if isinstance(space, spaces.Dict):
        rows = {key: row_action(child) for key, child in space.spaces.items()}
        return lambda action, index: {key: row(action[key], index) for key, row in rows.items()}
    if isinstance(space, spaces.Tuple):
        parts = tuple(row_action(child) for child in space.spaces)
        return lambda action, index: tuple(row(part, index) for row, part in zip(parts, action, strict=True))
    if isinstance(space, spaces.Discrete):
        scalar = np.dtype(space.dtype).type
        return lambda action, index: scalar(action[index])
    if isinstance(space, (spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)):
        return _array_row_action(tuple(space.shape), np.dtype(space.dtype))
    return lambda action, index: copy.deepcopy(action[index])


def _array_row_action(shape: tuple[int, ...], dtype: np.dtype[Any]) -> RowAction:
    def row(action: Any, index: int) -> Array:
        array = np.array(action[index], dtype)
        if array.shape != shape:
            raise ValueError(f"row {index} of the action has shape {array.shape}, the action space says {shape}")
        return array

    return row


def leaves(space: Space, batch: Obs) -> list[tuple[Space, Array]]:
    """Pairs (leaf space, its array [N, ...]) of a batch, in the space's order."""
    if isinstance(space, spaces.Dict):
        assert isinstance(batch, dict)
        return [pair for key, child in space.spaces.items() for pair in leaves(child, batch[key])]
    if isinstance(space, spaces.Tuple):
        assert isinstance(batch, tuple)
        return [pair for child, part in zip(space.spaces, batch, strict=True) for pair in leaves(child, part)]
    assert isinstance(batch, np.ndarray)
    return [(space, batch)]
