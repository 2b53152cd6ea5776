"""One environment behind the checks of the gymnasium API: every fault becomes an error that names it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np

from rlkit.errors import EnvironmentFault, RlkitError

Env: TypeAlias = gym.Env[Any, Any]
EnvFn: TypeAlias = Callable[[], Env]

RESET_SIGNATURE = "def reset(self, *, seed=None, options=None): ...; return observation, info"
STEP_SIGNATURE = "def step(self, action): ...; return observation, reward, terminated, truncated, info"
OLD_GYM_HINT = (
    "It follows the old `gym` API. Write `import gymnasium as gym`, and\n"
    f"  {RESET_SIGNATURE}\n"
    f"  {STEP_SIGNATURE}\n"
    "where terminated = the task itself ended, truncated = a time limit cut it."
)


def describe(error: BaseException) -> str:
    """Type and message of an exception in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def as_reward(value: Any) -> float:
    """Reward as a float; arrays and tensors of one element are accepted.

    Raises:
        ValueError: `value` is not one number.
    """
    if isinstance(value, (float, int, np.floating, np.integer, np.bool_)):
        return float(value)
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biufO" or array.item() is None or isinstance(array.item(), str):
        raise ValueError(f"the reward is {type(value).__name__} {value!r:.60}, expected one number")
    return float(array.item())


def as_flag(value: Any, name: str) -> bool:
    """`terminated` or `truncated` as a bool; 0, 1 and arrays of one element are accepted.

    Raises:
        ValueError: `value` is not a truth value.
    """
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biu" or array.item() not in (0, 1):
        raise ValueError(f"{name} is {type(value).__name__} {value!r:.60}, expected True or False")
    return bool(array.item())


def lacks_reset_arguments(env: Env) -> tuple[str, ...]:
    """Names among `seed` and `options` that the unwrapped environment's `reset` does not take."""
    parameters = inspect.signature(env.unwrapped.reset).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return ()
    return tuple(name for name in ("seed", "options") if name not in parameters)


def build_env(env_fn: EnvFn, index: int) -> Env:
    """`env_fn()`, with every failure told as a fault of environment `index`."""
    try:
        env = env_fn()
    except RlkitError:
        raise
    except Exception as error:
        raise EnvironmentFault(f"environment {index} could not be built: {describe(error)}") from error
    require_spaces(env)
    return env


def require_spaces(env: object) -> None:
    """Check that `env` is a gymnasium environment with both spaces.

    Raises:
        EnvironmentFault: It is not; says what to write.
    """
    if not isinstance(env, gym.Env):
        old = any(base.__module__.split(".")[0] == "gym" for base in type(env).__mro__)
        told = OLD_GYM_HINT if old else "Derive its class from gymnasium.Env."
        raise EnvironmentFault(f"{type(env).__name__} is not a gymnasium.Env. {told}")
    for name, read in (("observation_space", _observation_space), ("action_space", _action_space)):
        try:
            space = read(env)
        except AttributeError:
            space = None
        if not isinstance(space, gym.Space):
            raise EnvironmentFault(
                f"{type(env).__name__} has no {name}. Set self.{name} in __init__ to a gymnasium.spaces "
                f"object, e.g. gymnasium.spaces.Box(-1.0, 1.0, (3,)); got {space!r}"
            )


def _observation_space(env: Env) -> object:
    return env.observation_space


def _action_space(env: Env) -> object:
    return env.action_space


class CheckedEnv:
    """One environment whose `reset` and `step` either return what gymnasium promises or raise `EnvironmentFault`."""

    __slots__ = ("_step", "env", "episode_step", "index")

    def __init__(self, env: Env, index: int) -> None:
        self.env = env
        self.index = index
        self.episode_step = 0
        self._step = env.step

    def reset(self, seed: int | None = None, state: object | None = None) -> tuple[Any, dict[str, Any]]:
        """First observation and info; `state` is passed as `options={"state": state}`, or set in toy text."""
        options = None if state is None else {"state": state}
        result: Any  # of an unknown environment, so not what gymnasium's types promise
        self.episode_step = 0
        try:
            result = self.env.reset(seed=seed, options=options)
        except RlkitError:
            raise
        except Exception as error:
            raise self._reset_fault(error) from error
        if type(result) is not tuple or len(result) != 2 or not isinstance(result[1], dict):
            raise EnvironmentFault(
                f"environment {self.index}: reset returned {_shape_of_result(result)}, "
                f"expected the pair (observation, info dict).\n{OLD_GYM_HINT}"
            )
        if state is not None and _ignores_start(self.env):
            self.env.unwrapped.s = int(state)  # type: ignore[attr-defined, call-overload]
            return int(state), {}  # type: ignore[call-overload]  # the info is of another state
        return result[0], dict(result[1])

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Observation, reward, terminated, truncated and info; both ends at once count as terminated."""
        self.episode_step += 1
        result: Any
        try:
            result = self._step(action)
        except RlkitError:
            raise
        except Exception as error:
            raise self.fault(describe(error), action) from error
        if type(result) is not tuple or len(result) != 5 or not isinstance(result[4], dict):
            raise self.fault(
                f"step returned {_shape_of_result(result)}, expected (observation, reward, terminated, truncated, "
                f"info dict).\n{OLD_GYM_HINT}",
                action,
            )
        obs, reward, terminated, truncated, info = result
        try:
            if type(reward) is not float:
                reward = as_reward(reward)
            if type(terminated) is not bool:
                terminated = as_flag(terminated, "terminated")
            if type(truncated) is not bool:
                truncated = as_flag(truncated, "truncated")
        except (TypeError, ValueError) as error:
            raise self.fault(str(error), action) from error
        return obs, reward, terminated, truncated and not terminated, dict(info)

    def fault(self, reason: str, action: Any = None) -> EnvironmentFault:
        """Error that names this environment, its episode step and the action."""
        told = "" if action is None else f"\n  action: {action!r:.200}"
        place = f"step {self.episode_step}" if self.episode_step else "reset"
        return EnvironmentFault(f"environment {self.index} failed in {place}: {reason}{told}")

    def _reset_fault(self, error: Exception) -> EnvironmentFault:
        missing = lacks_reset_arguments(self.env)
        if isinstance(error, TypeError) and missing:
            return EnvironmentFault(
                f"environment {self.index}: reset does not take {' and '.join(missing)}. Write\n  {RESET_SIGNATURE}"
            )
        return EnvironmentFault(f"environment {self.index} failed in reset: {describe(error)}")


def _ignores_start(env: Env) -> bool:
    """Gymnasium's finite toy text environments keep their state in `s` and know no option to begin in one."""
    inner = type(env.unwrapped)
    return inner.__module__.startswith("gymnasium.envs.toy_text.") and "P" in vars(env.unwrapped)


def _shape_of_result(result: Any) -> str:
    if isinstance(result, (tuple, list)):
        inner = ", ".join(type(element).__name__ for element in result)
        return f"{type(result).__name__} of {len(result)} values ({inner})"
    return type(result).__name__
