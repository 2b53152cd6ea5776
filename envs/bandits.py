"""The k-armed testbed of Sutton and Barto (2018), section 2.3."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlkit.envs.pictures import METADATA, Picture, bar_picture, checked_render_mode, rendered
from rlkit.errors import UsageError
from rlkit.mdp import BanditDynamics


class KArmedBandit(gym.Env[Any, Any]):
    """k arms; every reset draws their true means from N(mean, 1), every pull a reward from N(its arm's mean, 1).

    There is one observation, 0, and no end; `rlkit/Bandit-v0` stops after the 1000 steps of figure 2.2. The info of
    reset and step holds `optimal_action`.

    Args:
        k: number of arms.
        mean: of the true means; the gradient bandits of figure 2.5 have 4.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: there are no arms, or there is no such render mode.
    """

    metadata = METADATA

    def __init__(self, *, k: int = 10, mean: float = 0.0, render_mode: str | None = None) -> None:
        if k < 1:
            raise UsageError(f"k is {k}, a bandit needs at least one arm")
        self.render_mode = checked_render_mode(render_mode)
        self.k, self.mean = k, float(mean)
        self.observation_space = spaces.Discrete(1)
        self.action_space = spaces.Discrete(k)
        self.true_means = np.full(k, self.mean)
        self._last_action: int | None = None

    def dynamics(self) -> BanditDynamics:
        """The same for the compiled engine; the time limit is gymnasium's wrapper."""
        return BanditDynamics(self.k, self.mean, 0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """New true means."""
        super().reset(seed=seed)
        self._last_action = None
        self.true_means = self.mean + self.np_random.standard_normal(self.k)
        return 0, self._info()

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """One pull."""
        self._last_action = int(action)
        reward = self.true_means[self._last_action] + self.np_random.standard_normal()
        return 0, float(reward), False, False, self._info()

    def picture(self) -> Picture:
        """Bars of the true means, three deviations up and down, and the arm pulled last."""
        low, high = min(self.mean - 3.0, 0.0), max(self.mean + 3.0, 0.0)
        return bar_picture(self.true_means.tolist(), low, high, 12, self._last_action)

    def render(self) -> Any:
        """The picture, [H, W, 3] uint8, or text."""
        return rendered(self.picture, self.render_mode)

    def _info(self) -> dict[str, Any]:
        return {"optimal_action": int(np.argmax(self.true_means))}
