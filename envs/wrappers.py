"""Wrappers around one environment: actions in [-1, 1] with an exact inverse, clipping, stacked frames."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation

from rlkit.envs.contract import Env
from rlkit.errors import UnsupportedTaskError
from rlkit.spaces import from_unit


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
