"""Gymnasium's classic control, N rows stepped in one call of machine code: `--vector compiled`.

Row i draws its start states as gymnasium does, from a generator of its own that `row_seed(seed, i)` seeds. So a run is
that of `SerialVectorEnv`, but for rounding, and no row depends on N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlkit.envs import classic_motion as motion
from rlkit.envs.vector import Info, ResetStates, Space
from rlkit.envs.wrapper_names import WrapperSpec
from rlkit.errors import CheckpointError, EnvironmentFault, UsageError
from rlkit.seeding import row_seed
from rlkit.types import Array, Obs, State, VectorStep

_DRAWN_AHEAD = 16
"""Start states that a row draws in one call: one call for each episode would cost as much as the step."""


class _Classic(NamedTuple):
    """Kind of motion, numbers of its state, bounds between which start states are drawn evenly, and their precision."""

    kind: int
    state_size: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    start_dtype: type[np.floating[Any]] = np.float64


# Bounds as in gymnasium; the cars begin at rest, so only their position is drawn.
CLASSICS = {
    "Acrobot-v1": _Classic(motion.ACROBOT, 4, (-0.1,) * 4, (0.1,) * 4, np.float32),
    "CartPole-v1": _Classic(motion.CART_POLE, 4, (-0.05,) * 4, (0.05,) * 4),
    "MountainCar-v0": _Classic(motion.MOUNTAIN_CAR, 2, (-0.6,), (-0.4,)),
    "MountainCarContinuous-v0": _Classic(motion.MOUNTAIN_CAR_CONTINUOUS, 2, (-0.6,), (-0.4,)),
    "Pendulum-v1": _Classic(motion.PENDULUM, 2, (-np.pi, -1.0), (np.pi, 1.0)),
}
"""Environments that can be stepped in machine code, by gymnasium's id."""


class ClassicVectorEnv:
    """N rows of one of gymnasium's classic control environments; see `rlkit.types.VectorEnv`.

    Spaces and time limit are gymnasium's. Continuous actions beyond their bounds are clipped, as gymnasium does. The
    infos are empty, always the same ones: write nothing into them.
    """

    restore_tier = "exact"
    frame_stack = 1

    def __init__(self, env_id: str, num_envs: int) -> None:
        """Build `num_envs` rows of the environment `env_id`, one of `CLASSICS`; `reset` begins their episodes."""
        self._classic = classic = CLASSICS[env_id]
        self._env_id = env_id
        self.num_envs = num_envs
        single = gym.make(env_id)
        self.single_observation_space: Space = single.observation_space
        self.single_action_space: Space = single.action_space
        single.close()
        self._choices = int(single.action_space.n) if isinstance(single.action_space, spaces.Discrete) else 0
        limit = gym.spec(env_id).max_episode_steps
        assert limit is not None
        self._limit = limit
        self._action_dtype = np.dtype(np.int64 if self._choices else np.float32)
        self._action_shape = (num_envs, *(single.action_space.shape or ()))
        self._obs_shape = (num_envs, *(single.observation_space.shape or ()))
        self._generators: list[np.random.Generator] = []
        self._state = np.zeros((num_envs, classic.state_size))
        self._elapsed = np.zeros(num_envs, np.int64)
        self._starts = np.zeros((num_envs, _DRAWN_AHEAD, len(classic.low)))
        self._used = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.int64)
        self._obs = np.zeros(self._obs_shape, np.float32)
        self._infos: tuple[Info, ...] = tuple({} for _ in range(num_envs))
        self._no_reset_infos: tuple[Info | None, ...] = (None,) * num_envs

    def reset(self, seed: int) -> tuple[Obs, tuple[Info, ...]]:
        """Start new episodes; row i is seeded by `row_seed(seed, i)`."""
        self._generators = [np.random.default_rng(row_seed(seed, row)) for row in range(self.num_envs)]
        for row in range(self.num_envs):
            self._draw_starts(row)
        motion.begin_rows(self._classic.kind, self._state, self._elapsed, self._starts, self._used, self._obs)
        return self._obs.copy(), self._infos

    def step(self, action: Any, reset_states: ResetStates | None = None) -> VectorStep:
        """Step every row, then begin anew those that ended.

        Raises:
            EnvironmentFault: An action is outside the action space or not finite; nothing was stepped.
            UsageError: A start state is asked for, which these environments cannot take.
        """
        if (
            type(action) is not np.ndarray
            or action.dtype != self._action_dtype
            or action.shape != self._action_shape
            or not action.flags.c_contiguous
        ):
            action = self._converted(action)
        if reset_states is not None or not self._generators:
            self._require_steppable(reset_states)
        number = self.num_envs
        next_obs = np.empty(self._obs_shape, np.float32)
        reward = np.empty(number)
        terminated, truncated = np.empty(number, np.bool_), np.empty(number, np.bool_)
        ended, is_used_up = motion.step_rows(
            self._classic.kind, self._choices, self._limit, action,
            self._state, self._elapsed, self._starts, self._used,
            next_obs, self._obs, reward, terminated, truncated, self._ended,
        )  # fmt: skip
        if ended < 0:
            raise self._wrong_action(action, -1 - ended)
        obs, reset_infos = next_obs, self._no_reset_infos
        if ended > 0:
            obs, reset_infos = self._obs.copy(), self._reset_infos(self._ended[:ended].tolist())
        if is_used_up:
            for row in np.flatnonzero(self._used == _DRAWN_AHEAD).tolist():
                self._draw_starts(row)
        return VectorStep(obs, next_obs, reward, terminated, truncated, self._infos, reset_infos, None, None, None)

    def get_state(self) -> State:
        """Everything: states and steps of the running episodes, start states drawn ahead, generators."""
        arrays = {name: array.copy() for name, array in self._arrays().items()}
        return {"env": self._env_id, **arrays, "generators": [g.bit_generator.state for g in self._generators]}

    def set_state(self, state: State) -> None:
        """Continue; see `VectorEnv.set_state`.

        Raises:
            CheckpointError: The state is of another environment, or of another number of them.
        """
        shapes = {name: np.shape(state.get(name, ())) for name in self._arrays()}
        expected = {name: array.shape for name, array in self._arrays().items()}
        if (state.get("env"), shapes) != (self._env_id, expected):
            raise CheckpointError(
                f"the state is of {state.get('env', 'other environments')}, arrays {shapes}; "
                f"this run has {self._env_id} in machine code, {expected}"
            )
        if not ((state["used"] >= 0) & (state["used"] < _DRAWN_AHEAD)).all():  # machine code does not look
            raise CheckpointError(f"damaged state: of {_DRAWN_AHEAD} start states {state['used']} are used")
        for name, array in self._arrays().items():
            array[:] = state[name]
        self._generators = [np.random.default_rng() for _ in state["generators"]]
        for generator, tree in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = tree

    def close(self) -> None:
        """Nothing is open."""

    def _arrays(self) -> dict[str, Array]:
        return {"state": self._state, "elapsed": self._elapsed, "starts": self._starts, "used": self._used}

    def _draw_starts(self, row: int) -> None:
        classic = self._classic
        drawn = self._generators[row].uniform(classic.low, classic.high, (_DRAWN_AHEAD, len(classic.low)))
        self._starts[row] = drawn.astype(classic.start_dtype)
        self._used[row] = 0

    def _reset_infos(self, rows: list[int]) -> tuple[Info | None, ...]:
        infos = list(self._no_reset_infos)
        for row in rows:
            infos[row] = self._infos[row]
        return tuple(infos)

    def _converted(self, action: Any) -> Array:
        """The actions in the dtype that compiled code takes; no float becomes an integer."""
        array = np.asarray(action)
        kinds = "iub" if self._choices else "iubf"
        if array.shape != self._action_shape or array.dtype.kind not in kinds:
            raise EnvironmentFault(
                f"{self._env_id}: the actions have shape {array.shape} and dtype {array.dtype}, "
                f"expected {self._action_shape} and {self._action_dtype}, one of {self.single_action_space} a row"
            )
        return np.ascontiguousarray(array, self._action_dtype)

    def _require_steppable(self, reset_states: ResetStates | None) -> None:
        if not self._generators:
            raise EnvironmentFault(f"{self._env_id}: step was called before reset")
        if reset_states is not None:
            raise UsageError(f"{self._env_id} in machine code takes no start states; an agent asked for some")

    def _wrong_action(self, action: Array, row: int) -> EnvironmentFault:
        allowed = f"0 to {self._choices - 1}" if self._choices else "finite numbers"
        step = int(self._elapsed[row]) + 1
        return EnvironmentFault(
            f"environment {row} failed in step {step}: {self._env_id} has no such action, allowed: {allowed}\n"
            f"  action: {action[row]!r:.200}"
        )


def classic_id(env: object, wrappers: Sequence[object] = (), env_kwargs: Mapping[str, Any] | None = None) -> str:
    """The id of an environment that can be stepped in machine code, one of `CLASSICS`.

    Args:
        env: What `rlkit.envs.make` was asked for.
        wrappers: Those of single environments.
        env_kwargs: Arguments of the environment's constructor.

    Raises:
        UsageError: It cannot; says what can, and what else to do.
    """
    if isinstance(env, str) and env in CLASSICS and not wrappers and not env_kwargs:
        return env
    if not isinstance(env, str) or env not in CLASSICS:
        problem = f"not {env}"
    elif wrappers:
        problem = f"without wrappers of single environments (got {', '.join(map(_name, wrappers))})"
    else:
        problem = f"without arguments of their constructors (got {env_kwargs})"
    raise UsageError(
        f"--vector compiled steps {', '.join(CLASSICS)} in machine code, {problem}; use --vector serial.\n"
        "Wrappers of all environments together, such as normalize-observation, work with both."
    )


def _name(wrapper: object) -> str:
    return wrapper.name if isinstance(wrapper, WrapperSpec) else repr(wrapper)
