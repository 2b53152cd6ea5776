"""One run in this process: agent, environments, session and hooks, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkit import seeding
from rlkit.assembly import EnvLike, build_evaluation_envs, copy_normalizers, load_policy
from rlkit.checkpoint import Checkpoint, CheckpointStore
from rlkit.config import RunConfig
from rlkit.envs.masks import first_mask
from rlkit.envs.normalize import normalizers
from rlkit.errors import CheckpointError
from rlkit.evaluation import Evaluation, evaluation_limit, warn_about_cuts
from rlkit.evaluation import evaluate as evaluate_actor
from rlkit.finite import FiniteOnly
from rlkit.hooks import INTERRUPTS, Checkpoints, Evaluate, Log, ProgressLine, StopConditions, stop_on_signals
from rlkit.loop import Hook, Session
from rlkit.loop import run as run_loop
from rlkit.runs import RunFolder
from rlkit.types import Metrics, Obs, SelfDriven, State, Task, VectorEnv


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    `status` is `done`, the stop condition that was met, `SIGINT` or `SIGTERM`. `final_return` is the last evaluation's
    mean, without evaluations that of the last 100 episodes, and None before any; `evaluated_step` is the env step of
    that evaluation.
    """

    run_dir: Path
    final_return: float | None
    steps: int
    seconds: float
    status: str
    agent: Any
    evaluated_step: int | None = None

    @property
    def exit_code(self) -> int:
        """Exit code of the command line."""
        return INTERRUPTS.get(self.status, 0)


class Running:
    """One run in this process: agent, environments, session and hooks, put together."""

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        env: EnvLike,
        envs: VectorEnv,
        task: Task,
        agent: Any,
        store: CheckpointStore | None = None,
    ) -> None:
        options = config.options
        self.folder, self.config, self.envs, self.agent = folder, config, envs, agent
        self._eval_envs: VectorEnv | None = None
        self._env = env
        self._has_warned_of_cuts = False
        self._self_driven = isinstance(agent, SelfDriven)
        truth = _truth_about(agent, task)
        self.evaluation = Evaluate(options.eval_every or 0, self._evaluate, self._policy_state, folder.best, truth)
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
        self._checked = FiniteOnly(envs, self.session.last_good)

    def execute(self, checkpoint: Checkpoint | None) -> RunResult:
        """Train to the end or to the next interrupt; close everything whatever happens."""
        session = self.session
        self.folder.forget_result()
        status = "failed"
        try:
            with stop_on_signals(session):
                if checkpoint is not None:
                    self._load(checkpoint)
                session.start()
                run_loop(self.agent, self._checked, session)
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
        step = self.evaluation.last_step
        return RunResult(self.folder.path, final_return, session.step, session.seconds, status, self.agent, step)

    def _policy_state(self) -> State:
        states = [normalizer.normalizer_state() for normalizer in normalizers(self.envs)]
        return {"agent": self.agent.policy_state(), "normalizers": states}

    def _state(self) -> tuple[State, State]:
        training = {
            "agent": self.agent.training_state(),
            "session": self.session.state(),
            # an agent that owns its loop owns the environments' state too
            "envs": None if self._self_driven or self.session.obs is None else self._checked.get_state(),
            "global_generators": seeding.global_generators_state(),
        }
        return self._policy_state(), training

    def _load(self, checkpoint: Checkpoint) -> None:
        training = checkpoint.training
        if training is None:
            raise CheckpointError(f"{checkpoint.path} holds only a policy; it cannot be trained on")
        load_policy(checkpoint.policy, self.agent, self.envs)
        self.agent.load_training_state(training["agent"])
        self.session.load_state(training["session"])
        self.session.last_checkpoint = checkpoint.path
        if training["envs"] is not None:
            fresh = self._checked.set_state(training["envs"])
            if fresh is not None:
                self._begin_new_episodes(*fresh)
        seeding.load_global_generators_state(training["global_generators"])

    def _begin_new_episodes(self, obs: Obs, infos: tuple[dict[str, Any], ...]) -> None:
        session = self.session
        session.obs, session.action_mask = obs, first_mask(self.envs, obs, infos)
        session.carry = self.agent.initial_carry(self.envs.num_envs)
        session.running_return[:] = 0.0
        session.began[:] = session.step

    def _evaluate(self) -> Evaluation:
        options = self.config.options
        if self._eval_envs is None:
            self._eval_envs = build_evaluation_envs(self._env, options)
        copy_normalizers(self.envs, self._eval_envs)
        seed = seeding.integer_seed(options.seed, "evaluation")
        limit = evaluation_limit(options.eval_max_episode_steps, self.session.task)
        result = evaluate_actor(
            self.agent, self._eval_envs, episodes=options.eval_episodes, seed=seed, max_episode_steps=limit
        )
        if not self._has_warned_of_cuts:
            warn_about_cuts(result)
        self._has_warned_of_cuts |= result.cut > 0
        return result


def _truth_about(agent: Any, task: Task) -> Callable[[], Metrics]:
    """What to log of a table of values where the model is known."""
    if task.model is None:
        return dict
    from rlkit.tabular.truth import Truth, ValueTable

    if not isinstance(agent, ValueTable):
        return dict
    truth = Truth(task.model, agent.gamma)
    return lambda: truth.metrics(agent)
