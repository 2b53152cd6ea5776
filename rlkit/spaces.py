"""Questions about spaces, and the map between an environment's action bounds and [-1, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rlkit.types import Array, Floats


def to_unit(action: Array, low: Array, high: Array) -> Floats:
    """Actions in the environment's units [..., *A] scaled to [-1, 1], float32; `low` is -1 and `high` is 1 exactly.

    >>> to_unit(np.array([0.0, 3.0]), np.array([-1.0, -1.0]), np.array([1.0, 3.0]))
    array([0., 1.], dtype=float32)
    """
    low64, high64 = low.astype(np.float64), high.astype(np.float64)
    unit = (action - low64) / (high64 - low64) * 2.0 - 1.0
    return unit.astype(np.float32)


def from_unit(unit: Array, low: Array, high: Array) -> Array:
    """The inverse of `to_unit`, in the bounds' dtype: -1 is `low`, 1 is `high` and 0 the middle exactly.

    Computed in float64 and rounded once, so going there and back changes at most the last bit.

    >>> from_unit(np.array([-1.0, 0.5]), np.array([-2.0, 0.0]), np.array([2.0, 1.0]))
    array([-2.  ,  0.75])
    """
    low64, high64 = low.astype(np.float64), high.astype(np.float64)
    # Weighted ends instead of low + u * (high - low): exact at both ends, never outside them.
    action = (0.5 - 0.5 * unit) * low64 + (0.5 + 0.5 * unit) * high64
    return action.astype(low.dtype)


def continuous_control_reason(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> str | None:
    """Why a continuous-control agent with fully connected networks cannot serve these spaces; None if it can."""
    if not isinstance(action_space, spaces.Box) or not np.issubdtype(action_space.dtype, np.floating):
        return f"it needs a continuous (float Box) action space, this one is {action_space}"
    if not (np.isfinite(action_space.low).all() and np.isfinite(action_space.high).all()):
        return f"it needs finite action bounds, these are {action_space}; give the Box finite low and high"
    if (action_space.low >= action_space.high).any():
        return f"every action dimension needs low < high, these are {action_space}"
    return observation_reason(observation_space)


def observation_reason(space: spaces.Space[Any], name: str = "observation") -> str | None:
    """Why a space does not flatten into one vector of numbers; None if it does."""
    if isinstance(space, spaces.Dict):
        parts = [observation_reason(part, f"{name}[{key!r}]") for key, part in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        parts = [observation_reason(part, f"{name}[{index}]") for index, part in enumerate(space.spaces)]
    elif isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        return None
    else:
        return f"it cannot flatten {name}: {space} into a vector; allowed leaves: Box, Discrete, MultiDiscrete, MultiBinary"
    return next((reason for reason in parts if reason), None)
