"""Observations as the features of a frozen encoder, so that any agent can learn on them."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlkit.envs.batch import layout_of
from rlkit.envs.contract import Env
from rlkit.envs.masks import ACTION_MASK
from rlkit.errors import UnsupportedTaskError
from rlkit.types import Floats, Obs


class FrozenEncoder(Protocol):
    """Features of observations, which nothing changes any more."""

    @property
    def observation_space(self) -> gym.Space[Any]:
        """Of one observation."""

    @property
    def feature_size(self) -> int:
        """D."""

    def features(self, obs: Obs) -> Floats:
        """Features [B, D] of observations [B, *O]."""


class EncodeObservation(gym.ObservationWrapper[Any, Any, Any]):
    """Gives features, a Box float32 [D] without bounds, in the place of observations.

    Args:
        env: the environment.
        encoder: takes its observations. Nothing of it is part of the environment's state.

    Raises:
        UnsupportedTaskError: the encoder takes others, or observations hold a mask of allowed actions, which features
            do not tell.
    """

    def __init__(self, env: Env, encoder: FrozenEncoder) -> None:
        super().__init__(env)
        space = env.observation_space
        if space != encoder.observation_space:
            raise UnsupportedTaskError(
                f"encode-observation: the encoder takes observations {encoder.observation_space}, here they are "
                f"{space}; use the environment, --env-args and --wrap that it was trained with"
            )
        if isinstance(space, spaces.Dict) and ACTION_MASK in space.spaces:
            raise UnsupportedTaskError(
                f"encode-observation: the features would lose the key {ACTION_MASK!r} of the observations; give the "
                f'mask in info["{ACTION_MASK}"] instead'
            )
        self._encoder, self._layout = encoder, layout_of(space)
        self.observation_space = spaces.Box(-np.inf, np.inf, (encoder.feature_size,), np.float32)

    def observation(self, observation: Any) -> Floats:
        """Features [D]."""
        batch = self._layout.empty(1)
        self._layout.write(batch, 0, observation)
        found: Floats = self._encoder.features(batch)[0]
        return found
