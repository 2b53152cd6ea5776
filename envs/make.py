"""`make`: environments by name, wrapped, N at a time, in this process or in N others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import gymnasium as gym

from rlkit.envs.autoreset import AnyVectorEnv, TrueTransitions
from rlkit.envs.contract import Env, describe, require_spaces
from rlkit.envs.locate import EnvRef, locate
from rlkit.envs.process import ProcessVectorEnv
from rlkit.envs.vector import SerialVectorEnv
from rlkit.envs.wrapper_names import WrapperSpec
from rlkit.errors import EnvironmentFault, RlkitError, UsageError
from rlkit.types import VectorEnv

Wrapper: TypeAlias = Callable[[Env], Env]


@dataclass(frozen=True)
class EnvFactory:
    """Builds one wrapped environment; picklable if its parts are, so that a worker process can build it too."""

    env: EnvRef
    wrappers: tuple[Wrapper | WrapperSpec, ...] = ()
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Env:
        """A new environment.

        Raises:
            EnvironmentFault: Its constructor fails, or it is not a gymnasium environment.
        """
        build = locate(self.env)
        try:
            env = build(**self._arguments())
        except RlkitError:
            raise
        except Exception as error:
            raise EnvironmentFault(f"{_name(self.env)} could not be built: {describe(error)}") from error
        require_spaces(env)
        for wrap in self.wrappers:
            env = wrap(env)
        return env

    def _arguments(self) -> Mapping[str, Any]:
        """The constructor's; an ALE game skips no frames itself where atari-preprocessing does, which refuses it."""
        is_game = isinstance(self.env, str) and self.env.rpartition(":")[2].startswith("ALE/")
        skips = any(isinstance(wrap, WrapperSpec) and wrap.name == "atari-preprocessing" for wrap in self.wrappers)
        return {"frameskip": 1, **self.env_kwargs} if is_game and skips else self.env_kwargs


def make(
    env: EnvRef | AnyVectorEnv,
    num_envs: int = 1,
    *,
    vector: Literal["serial", "process", "compiled"] = "serial",
    wrappers: Sequence[Wrapper | WrapperSpec] = (),
    env_kwargs: Mapping[str, Any] | None = None,
    timeout: float = 60.0,
) -> VectorEnv:
    """Vector environment of `num_envs` environments.

    Args:
        env: Gymnasium id, `module:EnvId-v0`, `path/to/file.py:ClassName`, a class or function that builds an
            environment, or a gymnasium vector environment.
        num_envs: Parallel environments; 1 or its own number for a vector environment.
        vector: `serial` in this process; `process`, which pays off only for steps slower than about 1 ms; or
            `compiled`, all rows in one call of machine code, for `rlkit.envs.classic_vector.CLASSICS` alone.
        wrappers: Innermost first; those of level `vector` come last.
        env_kwargs: Arguments of the environment's constructor.
        timeout: Seconds one step may take in a process.

    Raises:
        UsageError: A name or an argument is wrong.
        EnvironmentFault: The environment does not follow the gymnasium API.

    >>> make("Pendulum-v1", 3).reset(seed=0)[0].shape
    (3, 3)
    """
    inner, outer = _by_level(wrappers)
    made: VectorEnv
    if isinstance(env, gym.vector.VectorEnv):
        made = _around_vector_env(env, num_envs, inner, env_kwargs)
    else:
        if num_envs < 1:
            raise UsageError(f"num_envs is {num_envs}, it must be at least 1")
        if vector == "compiled":
            made = _in_machine_code(env, num_envs, inner, env_kwargs)
        else:
            factories = [EnvFactory(env, inner, dict(env_kwargs or {}))] * num_envs
            made = _built(factories, vector, timeout)
    for wrap in outer:
        made = wrap(made)
    return made


def make_single(
    env: EnvRef, wrappers: Sequence[Wrapper | WrapperSpec] = (), env_kwargs: Mapping[str, Any] | None = None
) -> Env:
    """One environment with wrappers of level `env`, for playing and recording."""
    inner, outer = _by_level(wrappers)
    if outer:
        raise UsageError(f"the wrapper {outer[0].name} works on vector environments; use make")
    return EnvFactory(env, inner, dict(env_kwargs or {}))()


def _built(factories: Sequence[EnvFactory], vector: str, timeout: float) -> VectorEnv:
    if vector == "serial":
        return SerialVectorEnv(factories)
    if vector == "process":
        return ProcessVectorEnv(factories, timeout)
    raise UsageError(f"vector is {vector!r}, allowed: serial, process, compiled")


def _in_machine_code(
    env: EnvRef, num_envs: int, inner: Sequence[object], env_kwargs: Mapping[str, Any] | None
) -> VectorEnv:
    from rlkit.envs.classic_vector import ClassicVectorEnv, classic_id  # with numba, which takes a moment

    return ClassicVectorEnv(classic_id(env, inner, env_kwargs), num_envs)


def _around_vector_env(
    env: AnyVectorEnv, num_envs: int, inner: Sequence[object], env_kwargs: Mapping[str, Any] | None
) -> VectorEnv:
    if num_envs not in (1, env.num_envs):
        raise UsageError(f"num_envs is {num_envs}, but the vector environment has {env.num_envs}")
    if inner or env_kwargs:
        raise UsageError("wrappers and env_kwargs belong into a vector environment before it is passed to make")
    return TrueTransitions(env)


def _by_level(
    wrappers: Sequence[Wrapper | WrapperSpec],
) -> tuple[tuple[Wrapper | WrapperSpec, ...], tuple[WrapperSpec, ...]]:
    inner: list[Wrapper | WrapperSpec] = []
    outer: list[WrapperSpec] = []
    for wrap in wrappers:
        if isinstance(wrap, WrapperSpec) and wrap.level == "vector":
            outer.append(wrap)
        elif outer:
            raise UsageError(f"{outer[-1].name} wraps all environments together; put it after the other wrappers")
        else:
            inner.append(wrap)
    return tuple(inner), tuple(outer)


def _name(env: EnvRef) -> str:
    return env if isinstance(env, str) else env.__qualname__ if isinstance(env, type) else repr(env)
