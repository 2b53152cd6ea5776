"""`check_env`: what is wrong with an environment, in sentences, never as a traceback."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from rlkit.envs.contract import OLD_GYM_HINT, CheckedEnv, Env, describe, lacks_reset_arguments
from rlkit.envs.locate import EnvRef
from rlkit.envs.make import EnvFactory, Wrapper
from rlkit.envs.masks import ACTION_MASK, MaskReader, WrongMask, sampled
from rlkit.envs.restore import explain_restore, layers, same
from rlkit.envs.vector import Space
from rlkit.envs.wrapper_names import WrapperSpec
from rlkit.errors import RlkitError
from rlkit.types import Array, Bools

Level: TypeAlias = Literal["error", "warning", "info"]

_MIN_STEPS = 200
_MAX_STEPS = 10_000
_EPISODES = 3
_WALK_SECONDS = 20.0
_SAME_SEED_STEPS = 50
_SPEED_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about an environment. An error stops training or makes it wrong."""

    level: Level
    text: str


@dataclass
class _Report:
    """Findings in the order of discovery, each kind once, however many steps show it."""

    findings: list[Finding] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def add(self, level: Level, text: str, kind: str = "") -> None:
        if (kind or text) not in self._seen:
            self._seen.add(kind or text)
            self.findings.append(Finding(level, text))


class _Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the raw result of the last step, before rlkit coerces anything."""

    last_step: Any = None

    def step(self, action: Any) -> Any:
        """The environment's own result."""
        self.last_step = self.env.step(action)
        return self.last_step


def check_env(
    env_ref: EnvRef, wrappers: tuple[Wrapper | WrapperSpec, ...] = (), env_kwargs: dict[str, Any] | None = None
) -> list[Finding]:
    """Findings about the environment, errors first within what was discovered together.

    Takes about a second for a cheap environment: some episodes of random actions, twice the same 50 steps, and the
    restore probe.
    """
    report = _Report()
    factory = EnvFactory(env_ref, tuple(wrappers), env_kwargs or {})
    try:
        _check(factory, report)
    except RlkitError as error:
        report.add("error", str(error))
    except Exception as error:  # an unknown environment may raise anything; the user gets a sentence
        report.add("error", f"the check could not go on: {describe(error)}")
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(report.findings, key=lambda finding: order[finding.level])


def _check(factory: EnvFactory, report: _Report) -> None:
    env = factory()
    try:
        report.add("info", f"observation space {env.observation_space}, action space {env.action_space}")
        _check_action_space(env.action_space, report)
        _check_time_limits(env, report)
        missing = lacks_reset_arguments(env)
        if missing:
            report.add("error", f"reset does not take {' and '.join(missing)}. {OLD_GYM_HINT}")
            return
        _Walk(env, report).run()
    finally:
        _close(env, report)
    _check_same_seed(factory, report)
    _check_restore(factory, report)
    _check_speed(factory, report)


def _check_action_space(space: Space, report: _Report) -> None:
    if not isinstance(space, spaces.Box):
        return
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        report.add(
            "error",
            f"the action space has infinite bounds ({space}). Give it real limits, e.g. "
            f"gymnasium.spaces.Box(-1.0, 1.0, {space.shape}), and scale inside step.",
        )
    elif not ((space.low == -1).all() and (space.high == 1).all()):
        report.add("info", f"action bounds are {space.low} to {space.high}; rlkit's agents rescale from [-1, 1]")


def _check_time_limits(env: Env, report: _Report) -> None:
    limits = [limit for layer in layers(env) if (limit := _time_limit(layer)) is not None]
    if len(limits) > 1:
        report.add(
            "warning", f"{len(limits)} time limits are wrapped around each other: {limits}; the smallest one acts"
        )


def _time_limit(layer: Env) -> str | None:
    return str(layer) if isinstance(layer, TimeLimit) else None


class _Walk:
    """Episodes of random actions, every step looked at from all sides."""

    def __init__(self, env: Env, report: _Report) -> None:
        self._recorder = _Recorder(env)
        self._env = CheckedEnv(self._recorder, index=0)
        self._space = env.observation_space
        self._actions = copy.deepcopy(env.action_space)
        self._actions.seed(0)
        self._report = report
        self._steps = 0
        self._terminated = 0
        self._truncated = 0
        self._reader = MaskReader(env.observation_space, env.action_space)
        self._mask: Bools | None = None
        self._masked = 0

    def run(self) -> None:
        """Walk until some episodes have ended."""
        stop_at = time.monotonic() + _WALK_SECONDS
        obs, info = self._env.reset(seed=0)
        self._look_at_observation(obs, "reset")
        self._look_at_mask(obs, info, "reset")
        while self._steps < _MAX_STEPS and time.monotonic() < stop_at:
            if self._steps >= _MIN_STEPS and self._terminated + self._truncated >= _EPISODES:
                break
            obs = self._step(obs)
        self._look_at_ends()
        self._tell_of_masks()

    def _step(self, obs: Any) -> Any:
        action = sampled(self._actions, self._mask)
        sent, kept = copy.deepcopy(action), copy.deepcopy(obs)
        next_obs, reward, terminated, truncated, info = self._env.step(sent)
        self._steps += 1
        if not same(sent, action):
            self._report.add(
                "warning", "step changes the action it is given; rlkit passes a copy, other libraries do not", "action"
            )
        self._look_at_aliasing(obs, kept, next_obs)
        self._look_at_observation(next_obs, f"step {self._steps}")
        self._look_at_result(reward)
        where = f"step {self._steps}"
        if terminated or truncated:
            self._terminated += terminated
            self._truncated += truncated
            if truncated:  # learners ask what could be done next
                self._look_at_mask(next_obs, info, where)
            next_obs, info = self._env.reset()
            where = "reset"
            self._look_at_observation(next_obs, where)
        self._look_at_mask(next_obs, info, where)
        return next_obs

    def _look_at_observation(self, obs: Any, where: str) -> None:
        for level, kind, text in observation_problems(self._space, obs, "the observation"):
            self._report.add(level, f"{text} (first seen in {where})", kind)

    def _look_at_mask(self, obs: Any, info: dict[str, Any], where: str) -> None:
        if ACTION_MASK in info and not self._reader.choices:
            self._report.add(
                "warning", "the info has an action_mask, but only Discrete and MultiDiscrete actions have masks", "mask"
            )
        try:
            self._mask = self._reader.read_one(obs, info)
        except WrongMask as error:
            self._mask = None
            self._report.add("error", f"{error} (first seen in {where})", "mask")
        except (KeyError, TypeError):  # an observation that lacks its mask, which was told of already
            self._mask = None
        self._masked += self._mask is not None

    def _tell_of_masks(self) -> None:
        if not self._masked:
            return
        looks = self._steps + 1 + self._truncated  # every step, the first reset, and both ends of a cut
        told = f"gives action masks of {self._reader.size} entries"
        if self._masked < looks:
            told += f", in {self._masked} of {looks} observations; where there is none, everything counts as allowed"
        self._report.add("info", told)

    def _look_at_aliasing(self, obs: Any, kept: Any, next_obs: Any) -> None:
        before, after = _arrays(obs), _arrays(next_obs)
        shared = any(np.shares_memory(a, b) for a in before for b in after)
        if shared or not same(obs, kept):
            self._report.add(
                "warning",
                "step returns the same array again and changes it in place; rlkit copies it, but return a copy "
                "(self.state.copy()) for other libraries",
                "aliasing",
            )

    def _look_at_result(self, reward: float) -> None:
        _, raw_reward, raw_terminated, raw_truncated, _ = self._recorder.last_step
        if np.ndim(raw_reward) > 0:
            self._report.add(
                "warning", f"the reward is an array of shape {np.shape(raw_reward)}; return a float", "reward"
            )
        if not np.isfinite(reward):
            self._report.add("error", f"the reward is {reward} in step {self._steps}", "reward-nan")
        for name, value in (("terminated", raw_terminated), ("truncated", raw_truncated)):
            if not isinstance(value, (bool, np.bool_)):
                self._report.add("warning", f"{name} is {type(value).__name__}, expected bool; write bool(...)", name)
        if raw_terminated and raw_truncated:
            self._report.add(
                "info", "terminated and truncated are true together; rlkit counts that as terminated", "both"
            )

    def _look_at_ends(self) -> None:
        if self._terminated + self._truncated == 0:
            self._report.add(
                "warning",
                f"no episode ended in {self._steps} steps; returns are reported at episode ends, so add a time limit "
                "(--wrap time-limit:max_episode_steps=1000)",
            )
        elif self._terminated == 0:
            self._report.add("info", f"episodes end by truncation only ({self._truncated} in {self._steps} steps)")
        else:
            self._report.add(
                "info",
                f"{self._terminated} episodes terminated and {self._truncated} were truncated in {self._steps} steps",
            )


def observation_problems(space: Space, value: Any, path: str) -> list[tuple[Level, str, str]]:
    """Level, kind and sentence of everything in which `value` differs from its space."""
    if isinstance(space, spaces.Dict):
        return _dict_problems(space, value, path)
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, (tuple, list)) or len(value) != len(space.spaces):
            return [("error", f"{path} shape", f"{path} is {value!r:.60}, its space is a Tuple of {len(space.spaces)}")]
        pairs = enumerate(zip(space.spaces, value, strict=True))
        return [p for i, (child, part) in pairs for p in observation_problems(child, part, f"{path}[{i}]")]
    if isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        return _array_problems(space, value, path)
    return [] if space.contains(value) else [("error", f"{path} space", f"{path} is {value!r:.60}, not in {space}")]


def _dict_problems(space: spaces.Dict, value: Any, path: str) -> list[tuple[Level, str, str]]:
    if not isinstance(value, dict):
        return [("error", f"{path} type", f"{path} is {type(value).__name__}, its space is a Dict")]
    found: list[tuple[Level, str, str]] = []
    for key, child in space.spaces.items():
        if key in value:
            found += observation_problems(child, value[key], f"{path}[{key!r}]")
        else:
            found.append(("error", f"{path} {key}", f"{path} misses the key {key!r}; it has {sorted(map(str, value))}"))
    extra = sorted(str(key) for key in value if key not in space.spaces)
    if extra:
        found.append(
            ("warning", f"{path} extra", f"{path} has the keys {extra} that its space lacks; they are dropped")
        )
    return found


def _array_problems(space: Space, value: Any, path: str) -> list[tuple[Level, str, str]]:
    array = np.asarray(value)
    if array.shape != (space.shape or ()):
        return [("error", f"{path} shape", f"{path} has shape {array.shape}, its space says {space.shape}")]
    if array.dtype.kind not in "biuf":
        return [("error", f"{path} dtype", f"{path} is {type(value).__name__} {value!r:.60}, expected {space.dtype}")]
    found: list[tuple[Level, str, str]] = []
    if array.dtype != space.dtype and isinstance(value, (np.ndarray, float, np.floating)):
        lossless = np.can_cast(array.dtype, np.dtype(space.dtype), "same_kind")
        told = f"{path} has dtype {array.dtype}, its space says {space.dtype}"
        if lossless:
            found.append(("warning", f"{path} dtype", f"{told}; rlkit casts it, write .astype(np.{space.dtype})"))
        else:
            found.append(("error", f"{path} dtype", f"{told}, and a cast would lose information"))
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array)).tolist()
        found.append(("error", f"{path} nan", f"{path} has NaN or infinite values at {bad[:5]}"))
    elif isinstance(space, spaces.Box):
        cast = array.astype(space.dtype)
        outside = np.argwhere((cast < space.low) | (cast > space.high)).tolist()
        if outside:
            first = tuple(outside[0])
            told = f"{array[first]} at {list(first)}, bounds {space.low[first]} to {space.high[first]}"
            found.append(("error", f"{path} bounds", f"{path} is outside its space: {told}"))
    elif not space.contains(array.astype(space.dtype)[()]):
        found.append(("error", f"{path} bounds", f"{path} is {value!r:.60}, outside {space}"))
    return found


def _arrays(obs: Any) -> list[Array]:
    if isinstance(obs, dict):
        return [array for value in obs.values() for array in _arrays(value)]
    if isinstance(obs, (tuple, list)):
        return [array for value in obs for array in _arrays(value)]
    return [obs] if isinstance(obs, np.ndarray) else []


def _check_same_seed(factory: EnvFactory, report: _Report) -> None:
    first, second = (_seeded_steps(factory) for _ in range(2))
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        if not same(one, other):
            where = "the first observation differs" if number == 0 else f"step {number} differs"
            report.add(
                "warning",
                f"two environments with the same seed and actions do not agree: {where}. Draw every random number from "
                "self.np_random, after super().reset(seed=seed); otherwise runs cannot be repeated or resumed exactly.",
            )
            return


def _seeded_steps(factory: EnvFactory) -> list[Any]:
    env = factory()
    try:
        actions = copy.deepcopy(env.action_space)
        actions.seed(0)
        reader = MaskReader(env.observation_space, env.action_space)
        obs, info = env.reset(seed=0)
        seen: list[Any] = [copy.deepcopy(obs)]
        for _ in range(_SAME_SEED_STEPS):
            obs, reward, terminated, truncated, info = env.step(sampled(actions, reader.read_one(obs, info)))
            seen.append((copy.deepcopy(obs), float(np.asarray(reward).item()), bool(terminated), bool(truncated)))
            if terminated or truncated:
                obs, info = env.reset()
        return seen
    finally:
        env.close()


def _check_restore(factory: EnvFactory, report: _Report) -> None:
    probe = explain_restore(factory)
    if probe.tier == "exact":
        report.add("info", "restore tier exact: a resumed run continues unfinished episodes bit by bit")
    else:
        report.add(
            "warning",
            f"restore tier reset ({probe.reason}): a resumed run starts new episodes. Keep the state in numbers and "
            "arrays, or give the environment get_state() and set_state(state).",
        )


def _check_speed(factory: EnvFactory, report: _Report) -> None:
    env = factory()
    try:
        step = _stepper(env)
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < _SPEED_SECONDS:
            step()
            steps += 1
        rate = steps / (time.perf_counter() - start)
        report.add("info", f"{rate:,.0f} steps per second in one process")
    finally:
        env.close()


def _stepper(env: Env) -> Callable[[], None]:
    reader = MaskReader(env.observation_space, env.action_space)
    actions = copy.deepcopy(env.action_space)
    action, latest = actions.sample(), env.reset(seed=0)

    def step() -> None:
        nonlocal latest
        mask = reader.read_one(*latest)
        chosen = copy.copy(action) if mask is None else sampled(actions, mask)
        obs, _, terminated, truncated, info = env.step(chosen)
        latest = env.reset() if terminated or truncated else (obs, info)

    return step


def _close(env: Env, report: _Report) -> None:
    try:
        env.close()
    except Exception as error:
        report.add("warning", f"close fails: {describe(error)}")
