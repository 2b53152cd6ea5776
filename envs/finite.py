"""Environments that are finite MDPs: stepping draws from the very arrays that `transition_model()` returns."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlkit.envs.pictures import METADATA, Picture, checked_render_mode, rendered
from rlkit.errors import UsageError
from rlkit.mdp import FiniteMDP, Integers, TableDynamics, table_dynamics


class FiniteMDPEnv(gym.Env[Any, Any]):
    """A finite MDP as a gymnasium environment, with `rgb_array` and `ansi` pictures.

    `reset(options={"state": s})` begins in state s (exploring starts). One uniform number is drawn for each first
    state and each step, as gymnasium's toy text environments do.

    Args:
        model: its transitions.
        render_mode: None, `rgb_array` or `ansi`.
        observation: [S] what agents see of each state; the state itself by default.
        first_action: number of action 0 (`Discrete(A, start=first_action)`).
        shape: what agents see comes apart into digits below these numbers, the last of which varies fastest, and is
            observed as MultiDiscrete; as one number by default.
    """

    metadata = METADATA

    def __init__(
        self,
        model: FiniteMDP,
        render_mode: str | None = None,
        *,
        observation: Integers | None = None,
        first_action: int = 0,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.render_mode = checked_render_mode(render_mode)
        self._model = model
        self._dynamics = table_dynamics(model, observation)
        self._first_action = first_action
        self._digits = None if shape is None else _digits(self._dynamics.observation, shape)
        self.observation_space: spaces.Space[Any] = (
            spaces.Discrete(int(self._dynamics.observation.max()) + 1)
            if shape is None
            else spaces.MultiDiscrete(np.array(shape))
        )
        self.action_space = spaces.Discrete(model.num_actions, start=first_action)
        self.state = 0
        self._last_action: int | None = None

    def transition_model(self) -> FiniteMDP:
        """The transitions that stepping follows."""
        return self._model

    def dynamics(self) -> TableDynamics:
        """The same for the compiled engine, with what agents see of each state."""
        return self._dynamics

    def sees_state(self) -> bool:
        """Whether every state is observed as itself."""
        return bool((self._dynamics.observation == np.arange(self._model.num_states)).all())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A first state, drawn or as `options={"state": s}` says.

        Raises:
            UsageError: there is no such state.
        """
        super().reset(seed=seed)
        self._last_action = None
        if options is not None and options.get("state") is not None:
            self.state = self._checked(options["state"])
        else:
            self.state = _first_above(self._dynamics.start, self.np_random.random())
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One transition; the time limit is gymnasium's wrapper."""
        dynamics, pair = self._dynamics, self.state * self._model.num_actions + int(action) - self._first_action
        begin, end = dynamics.first[pair], dynamics.first[pair + 1]
        outcome = begin + _first_above(dynamics.cumulative[begin:end], self.np_random.random())
        self.state, self._last_action = int(dynamics.next_state[outcome]), int(action)
        return self._observe(), float(dynamics.reward[outcome]), bool(dynamics.terminated[outcome]), False, {}

    def picture(self) -> Picture:
        """What there is to see; subclasses draw a grid or a chain."""
        raise NotImplementedError

    def render(self) -> Any:
        """The picture, [H, W, 3] uint8, or text."""
        return rendered(self.picture, self.render_mode)

    def _observe(self) -> int | Integers:
        return int(self._dynamics.observation[self.state]) if self._digits is None else self._digits[self.state].copy()

    def _checked(self, state: Any) -> int:
        if not 0 <= int(state) < self._model.num_states:
            raise UsageError(f"there is no state {state}; states are 0 … {self._model.num_states - 1}")
        return int(state)


def _digits(numbers: Integers, shape: tuple[int, ...]) -> Integers:
    """Digits of each number, [S, len(shape)]; read-only, as what restoring leaves alone."""
    digits = np.stack(np.unravel_index(numbers, shape), axis=1)
    digits.flags.writeable = False
    return digits


def _first_above(cumulative: Any, drawn: float) -> int:
    """First index whose running sum exceeds `drawn`; rounding can leave the last sum just below 1, as in gymnasium."""
    return int(np.argmax(cumulative > drawn))
