"""Wrappers around one environment: actions in [-1, 1] with an exact inverse, clipping, bins, stacks, less to see."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import FrameStackObservation

from rlkit.envs.contract import Env
from rlkit.errors import NonFiniteError, UnsupportedTaskError, UsageError
from rlkit.mdp import Integers
from rlkit.spaces import from_unit
from rlkit.types import Array


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


class HideComponents(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Leaves components of a vector of observations out, so that what they told has to be remembered.

    The classic use hides velocities: `CartPole-v1` without 1 and 3, `Pendulum-v1` without 2.

    Args:
        env: the environment.
        indices: which components, counted from 0; one number or several.

    Raises:
        UnsupportedTaskError: the observations are no vector.
        UsageError: there is no such component, or none would be left.

    >>> HideComponents(gym.make("CartPole-v1"), indices=(1, 3)).observation_space.shape
    (2,)
    """

    def __init__(self, env: Env, indices: int | tuple[int, ...]) -> None:
        RecordConstructorArgs.__init__(self, indices=indices)  # so that gymnasium can build it again from its spec
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise UnsupportedTaskError(f"hide-components needs a Box of shape (n,) as observations, got {space}")
        self._kept = _left_over(space.shape[0], indices)
        self.observation_space = spaces.Box(space.low[self._kept], space.high[self._kept], dtype=space.dtype.type)

    def observation(self, observation: Any) -> Any:
        """The other components, in their order."""
        return observation[self._kept]


class Discretize(gym.ObservationWrapper[Any, Any, Any]):
    """Cuts each dimension of a Box into equal bins, so that tabular agents can learn: MultiDiscrete observations.

    Values outside `low` … `high` fall into the first or last bin.

    Args:
        env: the environment.
        bins: bins of every dimension, or one number for each.
        low: lower bounds, one number for all or one for each; by default the space's own.
        high: upper bounds likewise.

    Raises:
        UnsupportedTaskError: the observations are no Box.
        UsageError: a dimension has no finite bound and none was given, or arguments do not fit.
    """

    def __init__(
        self,
        env: Env,
        bins: int | tuple[int, ...] = 10,
        low: float | tuple[float, ...] | None = None,
        high: float | tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box):
            raise UnsupportedTaskError(f"discretize needs a Box of observations, got {space}")
        size = int(np.prod(space.shape))
        self._bins = _each(bins, size, "bins").astype(np.int64)
        self._low = space.low.ravel().astype(np.float64) if low is None else _each(low, size, "low")
        self._high = space.high.ravel().astype(np.float64) if high is None else _each(high, size, "high")
        self._require_finite()
        if (self._bins < 1).any() or (self._low >= self._high).any():
            raise UsageError(f"discretize needs bins of at least 1 and low < high, got {bins}, {low} and {high}")
        self.observation_space = spaces.MultiDiscrete(self._bins)

    def observation(self, observation: Any) -> Any:
        """Number of the bin in each dimension, int64."""
        values = np.asarray(observation, dtype=np.float64).ravel()
        if np.isnan(values).any():
            raise NonFiniteError(f"discretize: the observation {values} is not a number, so it falls into no bin")
        fraction = (values - self._low) / (self._high - self._low)
        return np.clip(np.floor(fraction * self._bins), 0, self._bins - 1).astype(np.int64)

    def _require_finite(self) -> None:
        # bounds of 1e38 are float32's way to say that there is none
        open_ended = (np.abs(self._low) > 1e30) | (np.abs(self._high) > 1e30)
        if open_ended.any():
            raise UsageError(
                f"discretize: dimensions {np.flatnonzero(open_ended).tolist()} of the observations have no finite "
                "bounds; give them for all, as in discretize:bins=10,low=[-2.4,-3,-0.2,-3],high=[2.4,3,0.2,3]"
            )


def _each(value: float | tuple[float, ...], size: int, name: str) -> Array:
    given = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if given.shape not in ((1,), (size,)):
        raise UsageError(f"discretize: {name} has {given.size} numbers, the observations have {size} dimensions")
    return np.broadcast_to(given, (size,)).copy()


def _left_over(size: int, hidden: int | tuple[int, ...]) -> Integers:
    """Indices below `size` that are not hidden."""
    given = hidden if isinstance(hidden, (tuple, list)) else (hidden,)
    if not given or not all(type(index) is int and 0 <= index < size for index in given):
        raise UsageError(
            f"hide-components: indices is {hidden}, the observations have components 0 … {size - 1}; "
            "as in hide-components:indices=[1,3]"
        )
    kept: Integers = np.setdiff1d(np.arange(size), given)
    if not len(kept):
        raise UsageError(f"hide-components: indices {hidden} are all {size} components; leave one to see")
    return kept
