"""Spaces as JSON and back: a closed list of kinds, so that a file can describe a space but name no code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlkit.errors import DatasetError, UnsupportedTaskError
from rlkit.types import Array

Json = Any
ALLOWED = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict (with text as keys) and Tuple of these"


def space_to_json(space: gymnasium.Space[Any]) -> Json:
    """The space as a tree of plain values; `space_from_json` gives an equal space with the same order of leaves.

    Raises:
        UnsupportedTaskError: its values have no fixed shape (Text, Sequence, Graph, OneOf), or a key is no text.

    >>> space_to_json(spaces.Box(-1, 1, (2,)))
    {'kind': 'Box', 'shape': [2], 'dtype': 'float32', 'low': -1.0, 'high': 1.0}
    """
    if isinstance(space, spaces.Box):
        bounds = {"low": _number(space.low), "high": _number(space.high)}
        return {"kind": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiDiscrete):
        counts = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return {"kind": "MultiDiscrete", "dtype": str(space.dtype), **counts}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else [int(n) for n in space.n]}
    if isinstance(space, spaces.Dict) and all(isinstance(key, str) for key in space.spaces):
        return {"kind": "Dict", "spaces": [[key, space_to_json(child)] for key, child in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "spaces": [space_to_json(child) for child in space.spaces]}
    raise UnsupportedTaskError(f"a dataset cannot hold values of {space}.\nAllowed: {ALLOWED}. Wrap the environment.")


def space_from_json(node: Json) -> gymnasium.Space[Any]:
    """The space that `space_to_json` described.

    Raises:
        DatasetError: the description is not one of ours.
    """
    try:
        return _BUILDERS[node["kind"]](node)
    except (KeyError, TypeError, ValueError, AssertionError, OverflowError) as error:
        raise DatasetError(f"damaged description of a space: {str(node)[:200]}; allowed: {ALLOWED}") from error


def _number(bound: Array) -> Json:
    """One number where all are alike, else a list of them; JSON has no infinities, so they are words."""
    if bound.size and (bound == bound.flat[0]).all():
        value = bound.flat[0].item()
        return value if np.isfinite(value) else str(value)
    return [value if np.isfinite(value) else str(value) for value in bound.reshape(-1).tolist()]


def _box(node: Json) -> gymnasium.Space[Any]:
    shape, dtype = tuple(node["shape"]), _dtype(node["dtype"])

    def bound(value: Json) -> Array:
        values = [_plain(item) for item in value] if isinstance(value, list) else _plain(value)
        return np.broadcast_to(np.asarray(values, dtype).reshape(shape if isinstance(values, list) else ()), shape)

    return spaces.Box(bound(node["low"]), bound(node["high"]), shape, dtype.type)


def _plain(value: Json) -> float | int:
    return float(value) if isinstance(value, str) else value


def _dtype(text: Json) -> np.dtype[Any]:
    dtype = np.dtype(text)
    if not isinstance(text, str) or dtype.kind not in "biuf":
        raise ValueError(text)
    return dtype


def _discrete(node: Json) -> gymnasium.Space[Any]:
    return spaces.Discrete(node["n"], start=node["start"], dtype=_dtype(node["dtype"]).type)


def _multi_discrete(node: Json) -> gymnasium.Space[Any]:
    return spaces.MultiDiscrete(np.array(node["nvec"]), dtype=_dtype(node["dtype"]).type, start=np.array(node["start"]))


_BUILDERS: dict[str, Callable[[Json], gymnasium.Space[Any]]] = {
    "Box": _box,
    "Discrete": _discrete,
    "MultiDiscrete": _multi_discrete,
    "MultiBinary": lambda node: spaces.MultiBinary(node["n"]),
    "Dict": lambda node: spaces.Dict([(key, space_from_json(child)) for key, child in node["spaces"]]),
    "Tuple": lambda node: spaces.Tuple([space_from_json(child) for child in node["spaces"]]),
}
