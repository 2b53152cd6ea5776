"""Wrappers around one environment: actions in [-1, 1] with an exact inverse, clipping, stacked frames."""

from __future__ import annotations

from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation

from rlkit.envs.contract import Env
from rlkit.errors import UnsupportedTaskError

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


def finite_box(space: gym.Space[Any], purpose: str) -> spaces.Box:
    """`space`, if it is a Box of floats with finite bounds.

    Raises:
        UnsupportedTaskError: It is not.
    """
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise UnsupportedTaskError(f"{purpose} needs a Box of floats as action space, got {space}")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UnsupportedTaskError(
            f"{purpose} needs finite action bounds, got {space}. Give the environment's action space real limits."
        )
    return space


class RescaleAction(gym.ActionWrapper[Any, Any, Any]):
    """Gives the environment an action space of [-1, 1]; bounds map exactly to the environment's own."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self._inner = finite_box(env.action_space, "rescale-action")
        self.action_space = spaces.Box(-1.0, 1.0, self._inner.shape, self._inner.dtype.type)

    def action(self, action: Any) -> Any:
        """The environment's own action."""
        return from_unit(action, self._inner.low, self._inner.high).astype(self._inner.dtype)


class ClipAction(gym.ActionWrapper[Any, Any, Any]):
    """Clips actions to the bounds; unlike gymnasium's, keeps the action space, so that agents see the bounds."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self._inner = finite_box(env.action_space, "clip-action")

    def action(self, action: Any) -> Any:
        """The clipped action."""
        return np.clip(action, self._inner.low, self._inner.high)


class FrameStack(FrameStackObservation[Any, Any, Any]):
    """Stacks the last n observations along a new first axis; a fresh episode repeats its first observation.

    A vector environment announces it as `frame_stack`, so that replay stores each frame once.
    """

    def __init__(self, env: Env, n: int) -> None:
        super().__init__(env, n)
