"""The loops: act, step, observe, update, or just learn, and then whatever hangs on it as hooks.

    while steps are left:
        action = agent.act(obs);  step the environments;  agent.observe(transition);  agent.update()
        hooks: log, evaluate, checkpoint, show progress

`fit` is the same for what learns from given batches, without environments: a step is an update there.

Cadence lives inside the agent, so the loop has one `isinstance` (does the agent own its loop or not) and no other.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlkit.checkpoint import crash_point
from rlkit.envs.masks import first_mask
from rlkit.errors import NonFiniteError
from rlkit.types import (
    Agent,
    Array,
    Bools,
    Carry,
    Episode,
    Learner,
    Metrics,
    Obs,
    Progress,
    RewardAware,
    SelfDriven,
    State,
    Task,
    Transition,
    VectorEnv,
    VectorStep,
)

CONVERGED = "converged"
"""Stop reason where an agent that owns its loop has nothing left to learn."""

ADVICE = (
    "Usual causes: a learning rate too high, or rewards or observations of a very large scale: try "
    "--agent.learning-rate ten times smaller, or --wrap normalize-observation."
)
"""What to do where a loss is not finite."""

_GLANCE_SECONDS = 0.05


class Hook(Protocol):
    """Something that hangs on the loop. `name` is its key in checkpoints.

    `after_step` is called after the steps that cross a multiple of any hook's `every` (0: none of its own), after those
    that end an episode, and otherwise every 0.05 seconds.
    """

    name: str
    every: int

    def start(self, session: Session) -> None:
        """Called once before the first step, also after a resume."""

    def after_step(self, session: Session) -> None:
        """Do what is due."""

    def stop(self, session: Session) -> None:
        """Called once at the end, also after an error or an interrupt."""

    def state(self) -> State:
        """What must survive a resume; `{}` for most."""

    def load_state(self, state: State) -> None:
        """Restore what `state` returned."""


class MeanMetrics:
    """Running means of the metrics since the last logged point."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Metrics) -> None:
        """Count one update's metrics."""
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted since the last point."""
        return not self._sums

    def mean(self, name: str) -> float | None:
        """The mean of one metric so far; None where it was not counted."""
        return self._sums[name] / self._counts[name] if name in self._sums else None

    def take(self) -> dict[str, float]:
        """The means, and start again."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state(self) -> State:
        """Sums and counts, exactly."""
        return {"sums": self._sums, "counts": self._counts}

    def load_state(self, state: State) -> None:
        """Restore `state`."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])


class Session:
    """One run in progress: what hooks read, and what a checkpoint stores besides agent and environments."""

    def __init__(
        self, task: Task, total_steps: int, hooks: Sequence[Hook], rng: np.random.Generator, *,
        unit: str = "env step", advice: str = ADVICE,
    ) -> None:  # fmt: skip
        self.task = task
        self.unit, self._advice = unit, advice  # what a step is, and what to do where a metric is not finite
        self.total_steps = total_steps
        self.hooks = hooks
        self.rng = rng  # the generator handed to `act`
        self.step = self.previous_step = 0
        self.obs: Obs | None = None  # what to act on next; None before the first reset
        self.action_mask: Bools | None = None  # what is allowed there; None where the environment gives no masks
        self.carry: Carry = None
        self.running_return = np.zeros(task.num_envs)
        self.began = np.zeros(task.num_envs, dtype=np.int64)  # env step at which each running episode began
        self.episodes: deque[Episode] = deque(maxlen=100)
        self.episode_count = 0
        self.metrics = MeanMetrics()
        self.evaluated: dict[str, float] = {}  # results of an evaluation at this step, to be logged with it
        self.stop_reason: str | None = None
        self.last_checkpoint: Path | None = None
        self._due = 0  # env step at which the hooks must be called
        self._next_glance = 0.0
        self._seconds_before = 0.0
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training, over all resumes."""
        return self._seconds_before + time.perf_counter() - self._started

    @property
    def is_over(self) -> bool:
        """Whether no further step is to be taken."""
        return self.step >= self.total_steps or self.stop_reason is not None

    @property
    def is_done(self) -> bool:
        """Whether every step was taken."""
        return self.step >= self.total_steps

    def crossed(self, every: int | None) -> bool:
        """Whether this step passed a multiple of `every` (never for None and 0)."""
        return bool(every) and self.step // every > self.previous_step // every  # type: ignore[operator]

    def mean_return(self) -> float | None:
        """Mean return of the last 100 training episodes; None before the first."""
        return sum(value for value, _ in self.episodes) / len(self.episodes) if self.episodes else None

    def start(self) -> None:
        """Let every hook set up."""
        self._started = time.perf_counter()
        for hook in self.hooks:
            hook.start(self)

    def advance(self, progress: Progress) -> bool:
        """Count what happened, run the hooks; False when the run is over."""
        self.previous_step, self.step = self.step, progress.step
        for name, value in progress.metrics.items():
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"{name} became {value} at {self.unit} {self.step}; {self.last_good()}\n{self._advice}"
                )
        if progress.metrics:
            self.metrics.add(progress.metrics)
        if progress.episodes:
            self.episodes.extend(progress.episodes[-100:])
            self.episode_count += len(progress.episodes)
        if progress.has_converged:
            self.stop_reason = CONVERGED
        crash_point("after-update")
        if self.is_over or self.step >= self._due or progress.episodes or time.perf_counter() >= self._next_glance:
            self._run_hooks()
        return not self.is_over

    def _run_hooks(self) -> None:
        for hook in self.hooks:
            hook.after_step(self)
        multiples = [(self.step // hook.every + 1) * hook.every for hook in self.hooks if hook.every]
        self._due = min(multiples, default=self.total_steps)
        self._next_glance = time.perf_counter() + _GLANCE_SECONDS

    def stop(self) -> None:
        """Let every hook finish, also where one of them fails."""
        for hook in self.hooks:
            hook.stop(self)

    def last_good(self) -> str:
        """Where the last good checkpoint is, for error messages."""
        return f"the last good checkpoint is {self.last_checkpoint or 'not written yet'}"

    def state(self) -> State:
        """Everything of the session that a resumed run needs."""
        return {
            "step": self.step,
            "obs": self.obs,
            "action_mask": self.action_mask,
            "carry": self.carry,
            "rng": self.rng.bit_generator.state,
            "running_return": self.running_return,
            "began": self.began,
            "episodes": [list(episode) for episode in self.episodes],
            "episode_count": self.episode_count,
            "metrics": self.metrics.state(),
            "seconds": self.seconds,
            "hooks": {hook.name: hook.state() for hook in self.hooks},
        }

    def load_state(self, state: State) -> None:
        """Restore `state`; the hooks' states too."""
        self.step = self.previous_step = state["step"]
        self.obs, self.carry = state["obs"], state["carry"]
        self.action_mask = state.get("action_mask")  # checkpoints of rlkit 0.1.0 have none
        self.rng.bit_generator.state = state["rng"]
        self.running_return, self.began = state["running_return"], state["began"]
        self.episodes.extend((value, length) for value, length in state["episodes"])
        self.episode_count = state["episode_count"]
        self.metrics.load_state(state["metrics"])
        self._seconds_before = state["seconds"]
        for hook in self.hooks:
            if hook.name in state["hooks"]:
                hook.load_state(state["hooks"][hook.name])

    def count_episodes(self, step: VectorStep, ended: Bools) -> Sequence[Episode]:
        """Add one step to the running returns; the episodes that ended in it."""
        self.running_return += step.env_reward
        if step.obs is step.next_obs:  # no row ended
            return ()
        now = self.step + self.task.num_envs
        lengths = (now - self.began) // self.task.num_envs
        finished = [(float(self.running_return[row]), int(lengths[row])) for row in np.flatnonzero(ended)]
        self.running_return[ended] = 0.0
        self.began[ended] = now
        return finished


def run(agent: Agent | SelfDriven, envs: VectorEnv, session: Session) -> None:
    """Train on `envs` until `session` is over."""
    if isinstance(agent, SelfDriven):
        agent.train_on(session.task, lambda: envs, session.total_steps, session.advance)
    else:
        drive(agent, envs, session)


def drive(agent: Agent, envs: VectorEnv, session: Session) -> None:
    """Act, step, observe, update, until the session is over."""
    if session.obs is None:
        session.obs, infos = envs.reset(session.task.seed)
        session.action_mask = first_mask(envs, session.obs, infos)
        session.carry = agent.initial_carry(envs.num_envs)
    rewarded = agent.rewarded if isinstance(agent, RewardAware) else None
    while not session.is_over:
        obs, mask = session.obs, session.action_mask
        action, carry, extras = agent.act(obs, session.carry, explore=True, rng=session.rng, action_mask=mask)
        step = envs.step(action, _reset_states(extras))
        ended = step.ended
        if rewarded is not None:
            carry = rewarded(carry, step.env_reward)
        if step.obs is not step.next_obs:  # some row ended
            carry = agent.reset_carry(carry, ended)
        reward = step.reward.astype(np.float32)
        agent.observe(
            Transition(
                obs,
                action,
                reward,
                step.next_obs,
                step.terminated,
                step.truncated,
                mask,
                step.next_action_mask,
                extras,
            ),
            carry,
        )
        metrics = agent.update()
        session.obs, session.action_mask, session.carry = step.obs, step.action_mask, carry
        episodes = session.count_episodes(step, ended)
        session.advance(Progress(session.step + envs.num_envs, episodes, metrics))


def fit(learner: Learner, batches: Iterator[Any], session: Session) -> None:
    """Learn from batch after batch, an update a step, until the session is over."""
    while not session.is_over:
        metrics = learner.learn(next(batches))
        session.advance(Progress(session.step + 1, metrics=metrics))


def _reset_states(extras: Mapping[str, Array]) -> Sequence[object] | None:
    """States in which rows whose episode ends are to start again (exploring starts)."""
    states = extras.get("reset_state")
    return None if states is None else list(states)
