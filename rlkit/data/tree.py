"""Nested observations as leaves: a Dict or Tuple space is walked in its own order, everything else is one leaf."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias, cast

import gymnasium
from gymnasium import spaces

from rlkit.types import Array, Obs

Path: TypeAlias = tuple[str | int, ...]


def leaf_spaces(space: gymnasium.Space[Any], path: Path = ()) -> list[tuple[Path, gymnasium.Space[Any]]]:
    """Every leaf with the keys that lead to it, in the space's order.

    >>> from gymnasium.spaces import Dict, Discrete
    >>> [path for path, _ in leaf_spaces(Dict(a=Discrete(2), b=Dict(c=Discrete(3))))]
    [('a',), ('b', 'c')]
    """
    if isinstance(space, spaces.Dict):
        return [leaf for key, child in space.spaces.items() for leaf in leaf_spaces(child, (*path, key))]
    if isinstance(space, spaces.Tuple):
        return [leaf for index, child in enumerate(space.spaces) for leaf in leaf_spaces(child, (*path, index))]
    return [(path, space)]


def leaf(obs: Obs, path: Path) -> Array:
    """The array of a nested observation at `path`."""
    for key in path:
        obs = cast(Any, obs)[key]
    return cast(Array, obs)


def nest(space: gymnasium.Space[Any], leaves: Iterator[Array]) -> Obs:
    """The nested observation whose leaves, in the space's order, are taken from `leaves`."""
    if isinstance(space, spaces.Dict):
        return {key: nest(child, leaves) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(nest(child, leaves) for child in space.spaces)
    return next(leaves)


def leaf_name(path: Path) -> str:
    """Text such as `camera/left` for messages; `(whole)` where the space itself is the leaf."""
    return "/".join(str(key) for key in path) or "(whole)"
