"""The Python API: make, train, load, evaluate. The command line is built on it and gives the same bits.

agent = rlkit.make("ddpg", "Pendulum-v1", seed=0, gamma=0.98)
result = rlkit.train(agent, "Pendulum-v1", total_steps=20_000)
rlkit.load(result.run_dir).predict(obs)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from rlkit import registry, seeding
from rlkit.assembly import (
    EnvLike,
    build_agent,
    build_envs,
    build_evaluation_envs,
    current_blas_kernels,
    current_matmul_backend,
    limited_threads,
    load_policy,
    restore_matmul_backend,
    task_of,
)
from rlkit.autotune import Tuned
from rlkit.checkpoint import Checkpoint, library_versions
from rlkit.config import RunConfig
from rlkit.data.datasets import DatasetWriter, EpisodeDataset
from rlkit.envs.make import make as make_env
from rlkit.errors import RlkitError, UsageError
from rlkit.evaluation import Evaluation, evaluation_limit
from rlkit.evaluation import evaluate as evaluate_actor
from rlkit.policy import Policy
from rlkit.resolve import resolve, stored_config
from rlkit.run_encoder import FOLDER, encoder_source, with_own_encoder
from rlkit.running import Running, RunResult
from rlkit.runs import NewRun, RunFolder, create_run, describe_process, open_run
from rlkit.types import Actor

__all__ = ["Policy", "RunResult", "evaluate", "export_dataset", "load", "make", "resume", "start", "train"]
_LOG = logging.getLogger(__name__)
_TIERS = {
    "exact": "exact, a resumed run continues unfinished episodes bit by bit",
    "reset": "reset, a resumed run loses the unfinished episodes (see `rlkit check-env`)",
}


def make(
    agent: str,
    env: EnvLike,
    *,
    seed: int = 0,
    total_steps: int = 100_000,
    num_envs: int = 1,
    device: str = "auto",
    **config: Any,
) -> Any:
    """An agent for the environment, untrained. `config` are fields of the agent's `Config`.

    Raises:
        ConfigError: every mistake in `config` at once.
        UnsupportedTaskError: the agent cannot serve the environment's spaces.
    """
    options = {"seed": seed, "total_steps": total_steps, "num_envs": num_envs, "device": device}
    resolved = resolve(agent, _env_name(env), preset="none", options=options, agent_config=config)
    envs = build_envs(env, resolved.options)
    try:
        return build_agent(resolved, task_of(resolved.options, envs, load_actor=_load_actor))
    finally:
        envs.close()


def train(
    agent: Any,
    env: EnvLike,
    *,
    total_steps: int | None = None,
    run_dir: str | Path | None = None,
    preset: str = "auto",
    agent_config: Mapping[str, Any] | None = None,
    **options: Any,
) -> RunResult:
    """Train and leave a run folder behind.

    Args:
        agent: a name, or an agent object (from `make` or your own), which goes on learning.
        env: see `EnvLike`.
        total_steps: env steps over all environments.
        run_dir: the run's folder; by default `runs/<env>/<agent>/…`.
        preset: see `resolve`; agent objects take none.
        agent_config: fields of the agent's `Config`, where `agent` is a name.
        options: further fields of `rlkit.config.RunOptions`, such as `seed`, `num_envs` or `eval_every`.
    """
    if total_steps is not None:
        options["total_steps"] = total_steps
    if isinstance(agent, str):
        config = resolve(agent, _env_name(env), preset=preset, options=options, agent_config=agent_config)
        return start(config, run_dir=run_dir, env=env)
    name = _agent_name(type(agent))
    values = agent.config.model_dump() if "config" in vars(agent) else {}
    config = resolve(name, _env_name(env), preset="none", options=options, agent_config=values)
    return start(config, run_dir=run_dir, env=env, agent=agent)


def start(
    config: RunConfig,
    *,
    run_dir: str | Path | None = None,
    env: EnvLike | None = None,
    agent: Any = None,
    tuned: Tuned | None = None,
) -> RunResult:
    """Begin the run that `config` describes. `env` and `agent` replace what it names, where they are objects.

    `tuned` is what `config` was tuned by (`rlkit train --autotune`), for `meta.json`.
    """
    config = RunConfig(config.agent_name, config.agent, config.options.with_cadence())
    registry.agent_class(config.agent_name)  # imports torch where the agent needs it, before it is seeded
    if any(text.startswith("detect-events") for text in config.options.wrap):
        from rlkit.detected import pinned_detectors  # and with it torch

        config = pinned_detectors(config)
    source = encoder_source(config)
    if source is None:
        return _begin(config, None, run_dir, env, agent, tuned)
    folder = _new_folder(config, run_dir)  # environments are built on the copy of the encoder in it
    try:
        return _begin(with_own_encoder(config, source, folder), folder, run_dir, env, agent, tuned)
    except RlkitError:
        if not folder.has_config:
            folder.give_up(FOLDER)
        raise


def _begin(
    config: RunConfig, folder: RunFolder | None, run_dir: str | Path | None, env: EnvLike | None, agent: Any,
    tuned: Tuned | None,
) -> RunResult:  # fmt: skip
    options = config.options
    env = options.env if env is None else env
    with limited_threads(options.threads):
        seeding.seed_global_generators(options.seed)
        envs = build_envs(env, options)
        task = task_of(options, envs, load_actor=_load_actor)
        if agent is None:
            agent = build_agent(config, task)
        folder = folder or _new_folder(config, run_dir)
        with folder.locked():
            folder.write_config(config)
            meta = describe_process() | {
                "device": task.device,
                "threads": options.threads,
                "env_restore_tier": envs.restore_tier,
                "schedule_steps": options.total_steps,
                "matmul_backend": current_matmul_backend(),
                "blas_kernels": current_blas_kernels(),
            }
            folder.write_meta(meta if tuned is None else meta | {"autotune": tuned.record()})
            _LOG.info("run folder %s", folder.path)
            _LOG.info("environment restore tier: %s", _TIERS[envs.restore_tier])
            return Running(folder, config, env, envs, task, agent).execute(None)


def _new_folder(config: RunConfig, run_dir: str | Path | None) -> NewRun:
    options = config.options
    return create_run(None if run_dir is None else Path(run_dir), config.agent_name, options.env, options.seed)


def resume(run_dir: str | Path, *, total_steps: int | None = None, env: EnvLike | None = None) -> RunResult:
    """Go on exactly where the run stopped; a larger `total_steps` extends it, schedules keep their first horizon.

    Raises:
        UsageError: there is no such run, or `total_steps` is below what was trained.
        CheckpointError: none of its checkpoints can be loaded.
    """
    folder = open_run(Path(run_dir))
    config = stored_config(folder)
    meta = folder.meta()
    if total_steps is not None:
        config = RunConfig(
            config.agent_name, config.agent, config.options.model_copy(update={"total_steps": total_steps})
        )
    options = config.options
    env = options.env if env is None else env
    registry.agent_class(config.agent_name)
    with limited_threads(options.threads), folder.locked():
        restore_matmul_backend(meta)
        checkpoint = (store := folder.checkpoints).load()
        _warn_about_versions(checkpoint)
        _warn_about_schedules(config, meta["schedule_steps"])
        if total_steps is not None and checkpoint.step > total_steps:
            raise UsageError(f"the run has {checkpoint.step} env steps already, more than {total_steps}")
        seeding.seed_global_generators(options.seed)
        envs = build_envs(env, options)
        task = task_of(options, envs, meta["schedule_steps"], _load_actor)
        agent = build_agent(config, task)
        folder.write_config(config)
        return Running(folder, config, env, envs, task, agent, store).execute(checkpoint)


def _warn_about_schedules(config: RunConfig, horizon: int) -> None:
    """Tell that what falls to zero at the end of the first horizon stays there in a longer run."""
    falling = [name for name in ("learning_rate_schedule", "clip_range_schedule") if _is_linear(config, name)]
    if falling and config.options.total_steps > horizon:
        _LOG.warning(
            "%s: linear over the first %s env steps, then zero, so nothing more is learned after them; for a longer "
            "run with its own schedule start anew with --total-steps %d",
            " and ".join(falling), f"{horizon:,}", config.options.total_steps,
        )  # fmt: skip


def _is_linear(config: RunConfig, name: str) -> bool:
    return config.agent.model_dump().get(name) == "linear"


def load(run: str | Path, *, env: EnvLike | None = None, checkpoint: str = "latest") -> Policy:
    """The policy of a run: its latest checkpoint, or the best one by evaluation (`checkpoint="best"`).

    Args:
        run: a run folder; its `config.yaml` is trusted like a script of yours, because it may name files with code.
        env: replaces the environment that the config names.
        checkpoint: `latest` or `best`.
    """
    if checkpoint not in ("latest", "best"):
        raise UsageError(f"checkpoint is {checkpoint!r}, allowed: latest, best")
    folder = open_run(Path(run))
    config = stored_config(folder)
    options = config.options.model_copy(update={"num_envs": 1, "vector": "serial"})
    stored = (folder.checkpoints if checkpoint == "latest" else folder.best).load(policy_only=True)
    envs = build_evaluation_envs(options.env if env is None else env, options)
    with limited_threads(options.threads):
        task = task_of(options, envs, schedule_steps=0, load_actor=_load_actor)
        agent = build_agent(RunConfig(config.agent_name, config.agent, options), task)
        load_policy(stored.policy, agent, envs)
    limit = evaluation_limit(options.eval_max_episode_steps, task)
    return Policy(agent, envs, options, stored.step, limit)


def evaluate(
    run_or_agent: Any,
    env: EnvLike | None = None,
    *,
    episodes: int = 100,
    seed: int | None = None,
    explore: bool = False,
    checkpoint: str = "latest",
) -> Evaluation:
    """Evaluate a run folder, or an agent object on `env`."""
    if isinstance(run_or_agent, (str, Path)):
        policy = load(run_or_agent, env=env, checkpoint=checkpoint)
        with limited_threads(policy.options.threads):
            return policy.evaluate(episodes=episodes, seed=seed, explore=explore)
    if env is None:
        raise UsageError("an agent object needs an environment: rlkit.evaluate(agent, env)")
    envs = make_env(env)
    try:
        return evaluate_actor(run_or_agent, envs, episodes=episodes, seed=seed or 0, explore=explore)
    finally:
        envs.close()


def export_dataset(
    run: str | Path,
    out: str | Path | None = None,
    *,
    episodes: int = 100,
    append: bool = False,
    seed: int | None = None,
    explore: bool = False,
    checkpoint: str = "latest",
) -> EpisodeDataset:
    """Play a run's policy on its own environment and write the episodes into a dataset, which is returned.

    Args:
        run: a run folder.
        out: the dataset's folder; by default `dataset` in the run folder.
        episodes: how many to play; those of `evaluate` with the same seed.
        append: add to a dataset that is there.
        seed: seed of the first episode; by default the run's own evaluation seed.
        explore: act as in training.
        checkpoint: `latest` or `best`.
    """
    policy = load(run, checkpoint=checkpoint)
    spaces = policy.raw_envs.single_observation_space, policy.raw_envs.single_action_space
    made_by = f"{checkpoint} policy of {run} at step {policy.step}{', exploring' if explore else ''}"
    with (
        closing(policy),
        limited_threads(policy.options.threads),
        DatasetWriter(
            Path(run) / "dataset" if out is None else out, *spaces, env=policy.options.env, made_by=made_by,
            append=append,
        ) as writer,
    ):  # fmt: skip
        for episode in policy.episodes(episodes, seed=seed, explore=explore):
            writer.add(episode)
    return EpisodeDataset(writer.folder)


def _load_actor(run: str) -> Actor:
    """The actor of a run's latest policy, for agents that follow or evaluate it.

    Raises:
        UsageError: it takes normalised observations, which those agents would not give it.
    """
    policy = load(run)
    if policy.is_normalizing:
        raise UsageError(
            f"the agent of {run} takes observations that the run normalises, here it would get others; for its "
            f"features use --wrap encode-observation:run={run} with --agent.features raw"
        )
    actor: Actor = policy.agent
    return actor


def _env_name(env: EnvLike) -> str:
    return env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)


def _agent_name(agent: type[Any]) -> str:
    target = f"{agent.__module__}:{agent.__qualname__}"
    registered = [name for name, entry in registry.AGENTS.items() if entry.target == target]
    return registered[0] if registered else target


def _warn_about_versions(checkpoint: Checkpoint) -> None:
    now = library_versions()
    changed = [
        f"{name} {then} → {now.get(name, 'not installed')}"
        for name, then in checkpoint.versions.items()
        if now.get(name) != then
    ]
    if changed:
        _LOG.warning(
            "library versions changed since the checkpoint (%s); the run goes on, but not bit by bit",
            ", ".join(changed),
        )
