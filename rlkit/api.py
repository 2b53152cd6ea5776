"""The Python API: make, train, load, evaluate. The command line is built on it and gives the same bits.

agent = rlkit.make("ddpg", "Pendulum-v1", seed=0, gamma=0.98)
result = rlkit.train(agent, "Pendulum-v1", total_steps=20_000)
rlkit.load(result.run_dir).predict(obs)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np

from rlkit import registry, seeding
from rlkit.checkpoint import Checkpoint, library_versions
from rlkit.config import ConfigTree, RunConfig, RunOptions, problems_of, read_yaml
from rlkit.envs.make import make as make_env
from rlkit.envs.normalize import NormalizeReward, normalizers
from rlkit.envs.wrapper_names import WrapperSpec, resolve_wrapper
from rlkit.errors import CheckpointError, ConfigError, UsageError
from rlkit.evaluation import Evaluation
from rlkit.evaluation import evaluate as evaluate_actor
from rlkit.hooks import INTERRUPTS, Checkpoints, Evaluate, Log, ProgressLine, StopConditions, stop_on_signals
from rlkit.loop import Hook, Session
from rlkit.loop import run as run_loop
from rlkit.runs import RunFolder, create_run, describe_process, open_run
from rlkit.types import Array, Obs, SelfDriven, State, Task, VectorEnv

EnvLike: TypeAlias = str | Callable[..., gym.Env[Any, Any]]
"""A gymnasium id, `module:EnvId-v0`, `path/to/file.py:ClassName`, or a class or function that builds an environment."""


@dataclass(frozen=True)
class RunResult:
    """What came of a run. `status` is done, stopped, SIGINT or SIGTERM; `final_return` None before any episode."""

    run_dir: Path
    final_return: float | None
    steps: int
    seconds: float
    status: str
    agent: Any

    @property
    def exit_code(self) -> int:
        """Exit code of the command line."""
        return INTERRUPTS.get(self.status, 0)


def resolve(
    agent: str,
    env: str | None,
    *,
    preset: str = "auto",
    config_file: Path | None = None,
    options: Mapping[str, Any] | None = None,
    agent_config: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The run's config: `options` and `agent_config` win over the file, which wins over the preset.

    Args:
        agent: registered name, `path/to/file.py:ClassName` or `module:ClassName`.
        env: environment, or None where the file or `preset` names it.
        preset: name of a preset, `auto` for the one of this agent and environment, `none` for none.
        config_file: YAML with the keys of a run's `config.yaml`.
        options: fields of `RunOptions`.
        agent_config: fields of the agent's `Config`.

    Raises:
        ConfigError: every mistake at once, with file and line where there is one.
    """
    path = None
    if preset == "auto":
        path = registry.preset_for(agent, env)
    elif preset != "none":
        path = registry.preset_named(preset)
    given = dict(options or {}) | ({} if env is None else {"env": env})
    trees = [read_yaml(file) for file in (path, config_file) if file is not None]
    return _merged([*trees, ConfigTree({**given, "agent": dict(agent_config or {})})], agent)


def _merged(trees: list[ConfigTree], agent_name: str) -> RunConfig:
    """Later trees win; each is checked by itself, so that a mistake is told with its own place."""
    agent_config = registry.config_class(registry.agent_class(agent_name))
    options: dict[str, Any] = {}
    agent: dict[str, Any] = {}
    problems: list[str] = []
    for tree in trees:
        own_options = {key: value for key, value in tree.data.items() if key not in ("agent", "envs")}
        own_agent = tree.data.get("agent", {})
        if not isinstance(own_agent, Mapping):
            problems.append(f"{tree.place('agent')}: must be a mapping with `name` and the agent's options")
            continue
        own_agent = {key: value for key, value in own_agent.items() if key != "name"}
        checkable = {"env": "?", **own_options}
        problems += problems_of(RunOptions, ConfigTree(checkable, tree.source, tree.lines))[1]
        problems += problems_of(agent_config, ConfigTree(own_agent, tree.source, tree.lines), "agent.")[1]
        options |= own_options
        agent |= own_agent
    if problems:
        raise ConfigError(problems)
    if "env" not in options:
        raise UsageError("which environment? Give --env with a gymnasium id (see `rlkit list envs`) or file.py:Class")
    return RunConfig(agent_name, agent_config.model_validate(agent), RunOptions.model_validate(options))


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
    envs = _build_envs(env, resolved.options)
    try:
        return _build_agent(resolved, _task(resolved.options, envs))
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
    config: RunConfig, *, run_dir: str | Path | None = None, env: EnvLike | None = None, agent: Any = None
) -> RunResult:
    """Begin the run that `config` describes. `env` and `agent` replace what it names, where they are objects."""
    config = RunConfig(config.agent_name, config.agent, config.options.with_cadence())
    options = config.options
    env = options.env if env is None else env
    registry.agent_class(config.agent_name)  # imports torch where the agent needs it, before it is seeded
    with _threads(options.threads):
        seeding.seed_global_generators(options.seed)
        envs = _build_envs(env, options)
        task = _task(options, envs)
        if agent is None:
            agent = _build_agent(config, task)
        folder = create_run(None if run_dir is None else Path(run_dir), config.agent_name, options.env, options.seed)
        with folder.locked():
            folder.write_config(config)
            meta = describe_process() | {
                "device": task.device,
                "threads": options.threads,
                "env_restore_tier": envs.restore_tier,
                "schedule_steps": options.total_steps,
                "matmul_backend": _matmul_backend(),
            }
            folder.write_meta(meta)
            return _Running(folder, config, env, envs, task, agent).execute(None)


def resume(run_dir: str | Path, *, total_steps: int | None = None, env: EnvLike | None = None) -> RunResult:
    """Go on exactly where the run stopped; a larger `total_steps` extends it, schedules keep their first horizon.

    Raises:
        UsageError: there is no such run, or `total_steps` is below what was trained.
        CheckpointError: none of its checkpoints can be loaded.
    """
    folder = open_run(Path(run_dir))
    config = _stored_config(folder)
    meta = folder.meta()
    if total_steps is not None:
        config = RunConfig(
            config.agent_name, config.agent, config.options.model_copy(update={"total_steps": total_steps})
        )
    options = config.options
    env = options.env if env is None else env
    registry.agent_class(config.agent_name)
    with _threads(options.threads), folder.locked():
        _restore_matmul_backend(meta)
        checkpoint = (store := folder.checkpoints).load()
        _warn_about_versions(checkpoint)
        if checkpoint.step > options.total_steps:
            raise UsageError(f"the run has {checkpoint.step} env steps already, more than {options.total_steps}")
        seeding.seed_global_generators(options.seed)
        envs = _build_envs(env, options)
        task = _task(options, envs, meta["schedule_steps"])
        agent = _build_agent(config, task)
        folder.write_config(config)
        return _Running(folder, config, env, envs, task, agent, store).execute(checkpoint)


class _Running:
    """One run in this process: agent, environments, session and hooks, put together."""

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        env: EnvLike,
        envs: VectorEnv,
        task: Task,
        agent: Any,
        store: Any = None,
    ) -> None:
        options = config.options
        self.folder, self.config, self.envs, self.agent = folder, config, envs, agent
        self._eval_envs: VectorEnv | None = None
        self._env = env
        self._self_driven = isinstance(agent, SelfDriven)
        self.evaluation = Evaluate(options.eval_every or 0, self._evaluate, self._policy_state, folder.best)
        evaluation = self.evaluation if options.eval_every else None
        self.checkpoints = Checkpoints(options.checkpoint_every or 1, store or folder.checkpoints, self._state)
        hooks: list[Hook] = [
            self.evaluation,
            Log(options.log_every or 1, folder.path),
            StopConditions(evaluation, options.stop_at_return, options.max_seconds),
            self.checkpoints,
            ProgressLine(f"{config.agent_name} on {options.env}", evaluation),
        ]
        self.session = Session(task, options.total_steps, hooks, seeding.generator(options.seed, "act"))

    def execute(self, checkpoint: Checkpoint | None) -> RunResult:
        """Train to the end or to the next interrupt; close everything whatever happens."""
        session = self.session
        status = "failed"
        try:
            with stop_on_signals(session):
                if checkpoint is not None:
                    self._load(checkpoint)
                session.start()
                run_loop(self.agent, self.envs, session, lambda: self.envs)
                self.checkpoints.save_if_new(session)
            status = session.stop_reason or "done"
        finally:
            session.stop()
            self.envs.close()
            if self._eval_envs is not None:
                self._eval_envs.close()
            result = self._result(status)
            self.folder.write_result(
                {
                    "final_return": result.final_return,
                    "steps": result.steps,
                    "seconds": round(result.seconds, 3),
                    "status": result.status,
                }
            )
        return result

    def _result(self, status: str) -> RunResult:
        session = self.session
        evaluated = self.evaluation.last_return
        final_return = session.mean_return() if evaluated is None else evaluated
        return RunResult(self.folder.path, final_return, session.step, session.seconds, status, self.agent)

    def _policy_state(self) -> State:
        states = [normalizer.normalizer_state() for normalizer in normalizers(self.envs)]
        return {"agent": self.agent.policy_state(), "normalizers": states}

    def _state(self) -> tuple[State, State]:
        training = {
            "agent": self.agent.training_state(),
            "session": self.session.state(),
            # an agent that owns its loop owns the environments' state too
            "envs": None if self._self_driven or self.session.obs is None else self.envs.get_state(),
            "global_generators": seeding.global_generators_state(),
        }
        return self._policy_state(), training

    def _load(self, checkpoint: Checkpoint) -> None:
        training = checkpoint.training
        if training is None:
            raise CheckpointError(f"{checkpoint.path} holds only a policy; it cannot be trained on")
        _load_policy(checkpoint.policy, self.agent, self.envs)
        self.agent.load_training_state(training["agent"])
        self.session.load_state(training["session"])
        self.session.last_checkpoint = checkpoint.path
        if training["envs"] is not None:
            fresh_obs = self.envs.set_state(training["envs"])
            if fresh_obs is not None:
                self._begin_new_episodes(fresh_obs)
        seeding.load_global_generators_state(training["global_generators"])

    def _begin_new_episodes(self, obs: Obs) -> None:
        session = self.session
        session.obs = obs
        session.carry = self.agent.initial_carry(self.envs.num_envs)
        session.running_return[:] = 0.0
        session.running_length[:] = 0

    def _evaluate(self) -> Evaluation:
        options = self.config.options
        if self._eval_envs is None:
            self._eval_envs = _build_evaluation_envs(self._env, options)
        _copy_normalizers(_policy_normalizers(self.envs), self._eval_envs)
        seed = seeding.integer_seed(options.seed, "evaluation")
        return evaluate_actor(self.agent, self._eval_envs, episodes=options.eval_episodes, seed=seed)


class Policy:
    """A trained policy, ready to act: `rlkit.load(run)`."""

    def __init__(self, agent: Any, envs: VectorEnv, options: RunOptions, step: int) -> None:
        self.agent = agent
        self.step = step
        self.options = options
        self._envs = envs
        self._normalizers = normalizers(envs)
        self._carry: Any = None
        self._rng = seeding.generator(options.seed, "predict")
        inner = self._normalizers[0].env if self._normalizers else envs
        self._space = inner.single_observation_space

    def predict(self, obs: Obs, *, explore: bool = False) -> Array:
        """Actions [N, *A] for observations [N, *O]; one action [*A] for one observation [*O].

        A policy with memory remembers from call to call; `reset` begins a new episode.
        """
        single = self._is_single(obs)
        batched = _add_axis(obs) if single else obs
        for normalizer in self._normalizers:
            batched = normalizer.apply(batched)
        count = len(_first_leaf(batched))
        if self._carry is None or self._carry[0] != count:
            self._carry = (count, self.agent.initial_carry(count))
        action, carry, _ = self.agent.act(batched, self._carry[1], explore=explore, rng=self._rng)
        self._carry = (count, carry)
        result: Array = action[0] if single else action
        return result

    def reset(self) -> None:
        """Forget what the policy remembers of the episode."""
        self._carry = None

    def evaluate(self, *, episodes: int = 100, seed: int | None = None, explore: bool = False) -> Evaluation:
        """Evaluation on the run's own environment."""
        chosen = seeding.integer_seed(self.options.seed, "evaluation") if seed is None else seed
        return evaluate_actor(self.agent, self._envs, episodes=episodes, seed=chosen, explore=explore)

    def _is_single(self, obs: Obs) -> bool:
        return _first_leaf(obs).ndim == len(_first_leaf_space(self._space).shape or ())


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
    config = _stored_config(folder)
    options = config.options.model_copy(update={"num_envs": 1, "vector": "serial"})
    stored = (folder.checkpoints if checkpoint == "latest" else folder.best).load(policy_only=True)
    envs = _build_evaluation_envs(options.env if env is None else env, options)
    with _threads(options.threads):
        agent = _build_agent(RunConfig(config.agent_name, config.agent, options), _task(options, envs))
        _load_policy(stored.policy, agent, envs)
    return Policy(agent, envs, options, stored.step)


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
        with _threads(policy.options.threads):
            return policy.evaluate(episodes=episodes, seed=seed, explore=explore)
    if env is None:
        raise UsageError("an agent object needs an environment: rlkit.evaluate(agent, env)")
    envs = make_env(env)
    try:
        return evaluate_actor(run_or_agent, envs, episodes=episodes, seed=seed or 0, explore=explore)
    finally:
        envs.close()


def _first_leaf(obs: Obs) -> Array:
    while isinstance(obs, (dict, tuple)):
        obs = next(iter(obs.values())) if isinstance(obs, dict) else obs[0]
    return np.asarray(obs)


def _first_leaf_space(space: gym.Space[Any]) -> gym.Space[Any]:
    while isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple)):
        space = next(iter(space.spaces.values())) if isinstance(space, gym.spaces.Dict) else space.spaces[0]
    return space


def _add_axis(obs: Obs) -> Obs:
    if isinstance(obs, dict):
        return {key: _add_axis(value) for key, value in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_add_axis(value) for value in obs)
    return np.asarray(obs)[None]


def _stored_config(folder: RunFolder) -> RunConfig:
    tree = folder.config_tree()
    name = tree.data.get("agent", {}).get("name")
    if not isinstance(name, str):
        raise UsageError(f"{folder.path}/config.yaml names no agent (agent.name)")
    return _merged([tree], name)


def _build_envs(env: EnvLike, options: RunOptions) -> VectorEnv:
    return make_env(env, options.num_envs, vector=options.vector, wrappers=_wrappers(options))


def _build_evaluation_envs(env: EnvLike, options: RunOptions) -> VectorEnv:
    """One environment with its own rewards and frozen observation statistics."""
    wrappers = [wrapper for wrapper in _wrappers(options) if wrapper.name != "normalize-reward"]
    envs = make_env(env, 1, wrappers=wrappers)
    for normalizer in normalizers(envs):
        normalizer.frozen = True
    return envs


def _wrappers(options: RunOptions) -> list[WrapperSpec]:
    return [resolve_wrapper(text) for text in options.wrap]


def _task(options: RunOptions, envs: VectorEnv, schedule_steps: int | None = None) -> Task:
    return Task(
        observation_space=envs.single_observation_space,
        action_space=envs.single_action_space,
        num_envs=envs.num_envs,
        total_steps=schedule_steps or options.total_steps,
        seed=options.seed,
        device=_device(options.device),
        frame_stack=envs.frame_stack,
    )


def _device(name: str) -> str:
    torch = sys.modules.get("torch")
    has_cuda = torch is not None and torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu, or a CUDA build of torch")
    return "cuda" if name != "cpu" and has_cuda else "cpu"


def _build_agent(config: RunConfig, task: Task) -> Any:
    agent = registry.agent_class(config.agent_name)
    registry.require_support(config.agent_name, agent, task)
    return agent(config.agent, task)


def _load_policy(policy: State, agent: Any, envs: VectorEnv) -> None:
    agent.load_policy_state(policy["agent"])
    own = _policy_normalizers(envs)
    # evaluation environments have no reward normaliser; those that remain are matched by what they hold
    stored = [state for state in policy["normalizers"] if "leaves" in state]
    for normalizer, state in zip(own, stored, strict=True):
        normalizer.load_normalizer_state(state)


def _policy_normalizers(envs: VectorEnv) -> list[Any]:
    return [normalizer for normalizer in normalizers(envs) if not isinstance(normalizer, NormalizeReward)]


def _copy_normalizers(source: list[Any], envs: VectorEnv) -> None:
    for own, other in zip(_policy_normalizers(envs), source, strict=True):
        own.load_normalizer_state(other.normalizer_state())


def _env_name(env: EnvLike) -> str:
    return env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)


def _agent_name(agent: type[Any]) -> str:
    target = f"{agent.__module__}:{agent.__qualname__}"
    registered = [name for name, entry in registry.AGENTS.items() if entry.target == target]
    return registered[0] if registered else target


def _matmul_backend() -> str | None:
    if "rlkit.nn.linear" not in sys.modules:
        return None
    from rlkit.nn.linear import matmul_backend

    return matmul_backend()


def _restore_matmul_backend(meta: Mapping[str, Any]) -> None:
    if meta["matmul_backend"] is not None:
        from rlkit.nn.linear import set_matmul_backend

        set_matmul_backend(meta["matmul_backend"])


def _warn_about_versions(checkpoint: Checkpoint) -> None:
    import logging

    now = library_versions()
    changed = [
        f"{name} {then} → {now.get(name, 'not installed')}"
        for name, then in checkpoint.versions.items()
        if now.get(name) != then
    ]
    if changed:
        logging.getLogger(__name__).warning(
            "library versions changed since the checkpoint (%s); the run goes on, but not bit by bit",
            ", ".join(changed),
        )


@contextmanager
def _threads(count: int) -> Iterator[None]:
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
