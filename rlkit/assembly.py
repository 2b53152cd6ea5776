"""Environments and agents built from a run's options, in the same way for training, evaluation and `predict`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import gymnasium as gym

from rlkit import registry
from rlkit.config import RunConfig, RunOptions
from rlkit.envs.make import make as make_env
from rlkit.envs.models import goal_reward_of, of_vector_env
from rlkit.envs.normalize import NormalizeReward, normalizers
from rlkit.envs.wrapper_names import WrapperSpec, env_arguments, resolve_wrapper
from rlkit.errors import CheckpointError, UsageError
from rlkit.types import Actor, State, Task, VectorEnv

_LOG = logging.getLogger(__name__)

EnvLike: TypeAlias = str | Callable[..., gym.Env[Any, Any]]
"""A gymnasium id, `module:EnvId-v0`, `path/to/file.py:ClassName`, or a class or function that builds an environment."""

_ONLY_FOR_LEARNING = ("normalize-reward", "clip-reward")
"""Wrappers of rewards that help to learn: an evaluation counts the environment's own."""


def build_envs(env: EnvLike, options: RunOptions) -> VectorEnv:
    """The training environments, wrapped."""
    arguments = env_arguments(options.env_args)
    return make_env(env, options.num_envs, vector=options.vector, wrappers=_wrappers(options), env_kwargs=arguments)


def build_evaluation_envs(env: EnvLike, options: RunOptions) -> VectorEnv:
    """One environment with its own rewards and frozen observation statistics."""
    wrappers = [wrapper for wrapper in _wrappers(options) if wrapper.name not in _ONLY_FOR_LEARNING]
    envs = make_env(env, 1, wrappers=wrappers, env_kwargs=env_arguments(options.env_args))
    for normalizer in normalizers(envs):
        normalizer.frozen = True
    return envs


def _wrappers(options: RunOptions) -> list[WrapperSpec]:
    return [resolve_wrapper(text) for text in options.wrap]


def task_of(
    options: RunOptions,
    envs: VectorEnv,
    schedule_steps: int | None = None,
    load_actor: Callable[[str], Actor] | None = None,
) -> Task:
    """What the agent is told; `schedule_steps` is the first horizon of a run that was extended."""
    model, dynamics = of_vector_env(envs)
    encoder = None
    if options.encoder is not None:
        from rlkit.pretrained import PretrainedEncoder  # and with it torch

        encoder = PretrainedEncoder(options.encoder)
        encoder.require_space(envs.single_observation_space)
    return Task(
        observation_space=envs.single_observation_space,
        action_space=envs.single_action_space,
        num_envs=envs.num_envs,
        total_steps=options.total_steps if schedule_steps is None else schedule_steps,
        seed=options.seed,
        device=device_of(options.device),
        model=model,
        dynamics=dynamics,
        load_actor=load_actor,
        frame_stack=envs.frame_stack,
        compute_reward=goal_reward_of(envs),
        encoder=None if encoder is None else encoder.backbone,
        auxiliary=None if options.aux is None else registry.auxiliary(options.aux, options.aux_weight),
    )


def device_of(name: str) -> str:
    """The device that `--device` names: cpu or cuda.

    Raises:
        UsageError: cuda is asked for and not there.
    """
    torch = sys.modules.get("torch")
    has_cuda = torch is not None and torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu, or a CUDA build of torch")
    return "cuda" if name != "cpu" and has_cuda else "cpu"


def build_agent(config: RunConfig, task: Task) -> Any:
    """The untrained agent. Raises UnsupportedTaskError where it cannot serve the task."""
    agent = registry.agent_class(config.agent_name)
    registry.require_support(config.agent_name, agent, task)
    return agent(config.agent, task)


def load_policy(policy: State, agent: Any, envs: VectorEnv) -> None:
    """Put a checkpoint's policy into the agent and its observation statistics into the environments' normalisers.

    Raises:
        CheckpointError: the agent is made otherwise than the one that was saved.
    """
    try:
        agent.load_policy_state(policy["agent"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the policy of the checkpoint does not fit the agent ({' '.join(str(error).split())[:200]}); config.yaml "
            "was changed since, or another version of rlkit made the run (meta.json tells which): put that back, or "
            "train anew"
        ) from error
    own = _policy_normalizers(envs)
    # evaluation environments have no reward normaliser; those that remain are matched by what they hold
    stored = [state for state in policy["normalizers"] if "leaves" in state]
    for normalizer, state in zip(own, stored, strict=True):
        normalizer.load_normalizer_state(state)


def _policy_normalizers(envs: VectorEnv) -> list[Any]:
    return [normalizer for normalizer in normalizers(envs) if not isinstance(normalizer, NormalizeReward)]


def copy_normalizers(source: VectorEnv, target: VectorEnv) -> None:
    """Give `target` the observation statistics of `source`."""
    for own, other in zip(_policy_normalizers(target), _policy_normalizers(source), strict=True):
        own.load_normalizer_state(other.normalizer_state())


def current_matmul_backend() -> str | None:
    """Which library multiplies matrices, for agents with networks of ours; part of what makes a run repeat its bits."""
    if "rlkit.nn.linear" not in sys.modules:
        return None
    from rlkit.nn.linear import matmul_backend

    return matmul_backend()


def current_blas_kernels() -> str | None:
    """Processors that the loaded BLAS libraries have kernels for, where networks of ours act or learn with them."""
    if "rlkit.nn.compiled_mlp" not in sys.modules:
        return None
    from threadpoolctl import threadpool_info

    return " ".join(sorted({library["architecture"] for library in threadpool_info() if "architecture" in library}))


def restore_matmul_backend(meta: Mapping[str, Any]) -> None:
    """Multiply with the library that the run began with; warn where BLAS has other kernels."""
    backend = meta["matmul_backend"]
    if backend == "onednn+openblas":  # of runs from before 2026-11-29
        _LOG.warning("the run began with %s, where now openblas computes: results will differ by rounding", backend)
        backend = "openblas"
    if backend is not None:
        from rlkit.nn.linear import set_matmul_backend

        set_matmul_backend(backend)
    before, now = meta.get("blas_kernels"), current_blas_kernels()  # runs of rlkit 0.1.0 have none
    if before is not None and now is not None and before != now:  # None: nothing multiplies with them
        _LOG.warning(
            "the run began with BLAS kernels for %s, here they are for %s: results will differ by rounding. "
            "Resume on the same kind of processor, or set OPENBLAS_CORETYPE.",
            before, now,
        )  # fmt: skip


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Limit the threads of BLAS and torch; both are set back afterwards."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    with threadpool_limits(count, user_api="blas"):
        if torch is not None:
            torch.set_num_threads(count)
        try:
            yield
        finally:
            if torch is not None and before is not None:
                torch.set_num_threads(before)
