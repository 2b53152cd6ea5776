"""Runs that learn from given batches: what pretraining an encoder and training a detector have in common.

A step is an update. A run folder, checkpoints, logs and exact resume are those of `rlkit train`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import yaml
from gymnasium import spaces
from pydantic import Field

from rlkit import seeding
from rlkit.assembly import limited_threads
from rlkit.checkpoint import Checkpoint
from rlkit.config import ConfigTree, Options, problems_of
from rlkit.errors import CheckpointError, ConfigError
from rlkit.hooks import INTERRUPTS, Checkpoints, Log, ProgressLine, StopConditions, stop_on_signals
from rlkit.loop import Hook, Session, fit
from rlkit.nn.ranks import rank_and_ranks
from rlkit.runs import RunFolder
from rlkit.types import Learner, Metrics, State, Task

_NOTHING = spaces.Discrete(1)
"""The space of what a session of the loop has and a fit has not: observations and actions."""


class FitOptions(Options):
    """What every run that learns from given batches is told."""

    updates: int = Field(10_000, ge=1)
    """updates of the whole run"""
    seed: int = Field(0, ge=0)
    """seed of every random stream of the run"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where networks live; auto: cuda where there is one"""
    threads: int = Field(1, ge=1)
    """threads of one matrix product or convolution"""
    log_every: int | None = Field(None, ge=1)
    """updates between two logged points; by default about 200 points a run"""
    eval_every: int | None = Field(None, ge=0)
    """updates between two evaluations on what is kept aside; 0: never; by default 20 a run"""
    checkpoint_every: int | None = Field(None, ge=1)
    """updates between two checkpoints; by default 10 a run"""
    max_seconds: float | None = Field(None, gt=0)
    """stop after this many seconds in this process, with a checkpoint"""

    def with_cadence(self) -> Self:
        """The same options with the defaults that depend on `updates` filled in."""
        return self.model_copy(
            update={
                "log_every": self.log_every or max(self.updates // 200, 1),
                "eval_every": max(self.updates // 20, 1) if self.eval_every is None else self.eval_every,
                "checkpoint_every": self.checkpoint_every or max(self.updates // 10, 1),
            }
        )


@dataclass(frozen=True)
class Parsed:
    """What a tree says of a run: the name of what learns, its own config, and the run's options."""

    name: str
    config: Any
    options: Any


def parsed_config(
    tree: ConfigTree, part: str, config_of: Callable[[str], type[Options]], options: type[FitOptions]
) -> Parsed:
    """What a tree says, where `part` names what learns, such as `method`.

    Raises:
        ConfigError: every mistake at once.
        UnknownNameError: `config_of` knows no such name.
    """
    own = dict(tree.data.get(part, {}))
    name = str(own.pop("name", None))
    config_class = config_of(name)
    others = {key: value for key, value in tree.data.items() if key != part}
    found, problems = problems_of(options, ConfigTree(others, tree.source, tree.lines))
    config, of_part = problems_of(config_class, ConfigTree(own, tree.source, tree.lines), f"{part}.")
    if found is None or config is None:
        raise ConfigError([*problems, *of_part])
    return Parsed(name, config, found)


def config_text(part: str, parsed: Parsed) -> str:
    """`config.yaml` as text, from which `parsed_config` reads the same."""
    tree = {part: {"name": parsed.name, **parsed.config.model_dump(mode="json")}}
    return yaml.safe_dump(tree | parsed.options.model_dump(mode="json"), sort_keys=False, default_flow_style=False)


@dataclass(frozen=True)
class FitResult:
    """What came of a run; `evaluated` is its last evaluation."""

    run_dir: Path
    updates: int
    seconds: float
    status: str
    evaluated: Mapping[str, float]

    @property
    def exit_code(self) -> int:
        """Exit code of the command line."""
        return INTERRUPTS.get(self.status, 0)


class Batches(Protocol):
    """Batches without end, which go on from a state."""

    def __iter__(self) -> Batches:
        """Itself."""

    def __next__(self) -> Any:
        """The next batch."""

    def state(self) -> State:
        """Where it is."""

    def load_state(self, state: State) -> None:
        """Go on after `state`."""


class Evaluator(Hook, Protocol):
    """The hook that judges what is learned."""

    last: Metrics
    """What it found last."""


class FitRun:
    """One run in this process: learner, batches, session and hooks, put together.

    Of several ranks, which all have the same state, the first alone writes.

    Args:
        folder: where everything lies.
        options: with their cadence filled in.
        title: of the progress line.
        learner: what learns.
        batches: what it learns from.
        evaluator: the hook that judges it.
        advice: what to do where a metric is not finite.
    """

    def __init__(
        self, folder: RunFolder, options: FitOptions, title: str, learner: Learner,
        batches: Batches, evaluator: Evaluator, advice: str,
    ) -> None:  # fmt: skip
        self.folder, self.options = folder, options
        self.learner, self.batches, self.evaluator = learner, batches, evaluator
        self.checkpoints = Checkpoints(options.checkpoint_every or 1, folder.checkpoints, self._state)
        hooks: Sequence[Hook] = (
            evaluator,
            Log(options.log_every or 1, folder.path),
            StopConditions(None, None, options.max_seconds),
            self.checkpoints,
            ProgressLine(title, None),
        )
        rank, ranks = rank_and_ranks()
        self._is_first, self._is_alone = rank == 0, ranks == 1
        self.session = Session(
            Task(_NOTHING, _NOTHING, seed=options.seed), options.updates, hooks if self._is_first else (),
            seeding.generator(options.seed, "session"), unit="update", advice=advice,
        )  # fmt: skip

    def execute(
        self, checkpoint: Checkpoint | None, begin: Callable[[Session], None] = lambda session: None
    ) -> FitResult:
        """Learn to the end or to the next interrupt; close everything whatever happens.

        Args:
            checkpoint: to go on from; None for the beginning.
            begin: what the first rank does before the first step, also after a resume.
        """
        session = self.session
        if self._is_first:
            self.folder.forget_result()
        status = "failed"
        with limited_threads(self.options.threads):
            seeding.seed_global_generators(self.options.seed)
            try:
                with stop_on_signals(session) if self._is_alone else nullcontext():  # ranks stop together or not at all
                    if checkpoint is not None:
                        self._load(checkpoint)
                    session.start()
                    if self._is_first:
                        begin(session)
                    fit(self.learner, self.batches, session)
                    if self._is_first:
                        self.checkpoints.save_if_new(session)
                status = session.stop_reason or "done"
            finally:
                session.stop()
                result = FitResult(self.folder.path, session.step, session.seconds, status, self.evaluator.last)
                if self._is_first:
                    seconds = round(result.seconds, 3)
                    self.folder.write_result(
                        {"steps": result.updates, "seconds": seconds, "status": status, **result.evaluated}
                    )
        return result

    def _state(self) -> tuple[State, State]:
        training = {
            "learner": self.learner.training_state(),
            "sampler": self.batches.state(),
            "session": self.session.state(),
            "global_generators": seeding.global_generators_state(),
        }
        return self.learner.policy_state(), training

    def _load(self, checkpoint: Checkpoint) -> None:
        training = checkpoint.training
        if training is None:
            raise CheckpointError(f"{checkpoint.path} holds only what acting needs; it cannot be trained on")
        self.learner.load_policy_state(checkpoint.policy)
        self.learner.load_training_state(training["learner"])
        self.batches.load_state(training["sampler"])
        self.session.load_state(training["session"])
        self.session.last_checkpoint = checkpoint.path
        seeding.load_global_generators_state(training["global_generators"])
