"""Questions about spaces, and the map between an environment's action bounds and [-1, 1]."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

Float64s: TypeAlias = npt.NDArray[np.float64]


def to_unit(action: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> Float64s:
    """Action in [-1, 1] of an action in [low, high], in float64.

    Exactly -1 at `low`, 1 at `high`, 0 in the middle. There, `from_unit(to_unit(a))` is `a`; elsewhere it is within
    one unit in the last place (float64) of the larger bound. float32 actions come back bit-identical after a cast
    unless they are below 1e-8 of the larger bound.

    >>> to_unit([0.0, 1.0, 3.0], 0.0, 2.0).tolist()
    [-1.0, 0.0, 2.0]
    """
    action, low, high = np.asarray(action, np.float64), np.asarray(low, np.float64), np.asarray(high, np.float64)
    middle, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    unit = (action - middle) / half
    return np.where(action == low, -1.0, np.where(action == high, 1.0, unit))


def from_unit(unit: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> Float64s:
    """Action in [low, high] of an action in [-1, 1], in float64; the inverse of `to_unit`.

    Exactly `low` at -1, `high` at 1. Values beyond [-1, 1] are continued linearly, not clipped.

    >>> from_unit([-1.0, 0.0, 1.0], 0.0, 2.0).tolist()
    [0.0, 1.0, 2.0]
    """
    unit, low, high = np.asarray(unit, np.float64), np.asarray(low, np.float64), np.asarray(high, np.float64)
    # Weighted ends instead of middle + unit * half: exact at both ends, never outside them.
    action: Float64s = (0.5 - 0.5 * unit) * low + (0.5 + 0.5 * unit) * high
    return action


def continuous_control_reason(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> str | None:
    """Why a continuous-control agent with fully connected networks cannot serve these spaces; None if it can."""
    if not isinstance(action_space, spaces.Box) or not np.issubdtype(action_space.dtype, np.floating):
        return f"it needs a continuous (float Box) action space, this one is {action_space}"
    if not (np.isfinite(action_space.low).all() and np.isfinite(action_space.high).all()):
        return f"it needs finite action bounds, these are {action_space}; give the Box finite low and high"
    if (action_space.low >= action_space.high).any():
        return f"every action dimension needs low < high, these are {action_space}"
    return observation_reason(observation_space)


def discrete_control_reason(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> str | None:
    """Why an agent that values every action of a list cannot serve these spaces; None if it can."""
    if not isinstance(action_space, spaces.Discrete):
        remedy = "sb3/ppo takes them as they are"
        if isinstance(action_space, spaces.MultiDiscrete):
            remedy = "ppo takes them as they are"
        elif isinstance(action_space, spaces.Box):
            remedy = "--wrap discretize-action makes a grid of a Box"
        return f"it needs Discrete actions, these are {action_space} ({remedy})"
    return observation_reason(observation_space)


GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")
"""What observations of an environment with goals hold (gymnasium-robotics, Andrychowicz et al. 2017)."""


def has_goals(space: spaces.Space[Any]) -> bool:
    """Whether observations are a Dict with an achieved and a desired goal, both Boxes of one shape."""
    if not isinstance(space, spaces.Dict) or {*space.spaces} != {*GOAL_KEYS}:
        return False
    achieved, desired = space["achieved_goal"], space["desired_goal"]
    return isinstance(achieved, spaces.Box) and isinstance(desired, spaces.Box) and achieved.shape == desired.shape


def observation_reason(space: spaces.Space[Any], name: str = "observation") -> str | None:
    """Why a space does not flatten into one vector of numbers; None if it does."""
    if isinstance(space, spaces.Dict):
        parts = [observation_reason(part, f"{name}[{key!r}]") for key, part in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        parts = [observation_reason(part, f"{name}[{index}]") for index, part in enumerate(space.spaces)]
    elif isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        return None
    else:
        allowed = "Box, Discrete, MultiDiscrete, MultiBinary"
        return f"it cannot flatten {name}: {space} into a vector; allowed leaves: {allowed}"
    return next((reason for reason in parts if reason), None)
