"""`rlkit train --autotune`: the threads, the vectorisation and the device that train fastest on this machine.

What is measured: env steps per second of short real training runs, act, step, observe and update together, of the very
agent and environments that are to be trained. The clock starts with the end of the first update and stops with the end
of the last, so that whole cycles are timed, and imports, compilation and random warm-up are not. Two things are
shortened so that some updates come within a second, neither of which changes the cost of a step: warm-up ends as soon
as a batch is there, and a rollout has four minibatches. Schedules stand at their end, where no exploration at random
makes acting cheaper than it will be. Logging, evaluation and checkpoints are left out; they cost the same in every
setting. An agent that does not update in that time is timed by its steps, which the table says; one that owns its loop
(stable-baselines3's) is stopped when it next reports, which may be later.

Compiled environments, devices, numbers of threads and environments in processes of their own (last, because they take
seconds to start) are tried one after the other, each with the best of those before: vectorisation changes only how
environments are stepped, threads and device only what networks cost. A setting further down the table must be 5 %
faster to be taken; less is noise.

Nothing of the algorithm changes: number of environments, batches, seeds and random streams stay as they are. Results
differ as they do between devices and numbers of threads, by rounding.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from rlkit import registry, seeding
from rlkit.assembly import build_agent, build_envs, limited_threads, task_of
from rlkit.config import AgentConfig, RunConfig, RunOptions
from rlkit.errors import RlkitError, UsageError
from rlkit.finite import FiniteOnly
from rlkit.loop import Session, run
from rlkit.types import Actor, Progress, Task

TUNED = ("vector", "device", "threads")
"""Options that are chosen."""
MEASURED_SECONDS = 8.0
"""For all settings after the first, whose way to its first update may compile machine code."""
_LONGEST_EACH = 0.8
_NO_UPDATE_SECONDS = 1.5  # without an update until then, stepping alone is timed
_CLEARLY_FASTER = 1.05
_MINIBATCHES = 4  # of a shortened rollout
_ENDLESS = 1 << 40  # env steps


class Setting(NamedTuple):
    """Where and how a run is computed."""

    vector: Literal["serial", "process", "compiled"]
    device: Literal["auto", "cpu", "cuda"]
    threads: int


@dataclass(frozen=True)
class Timing:
    """What came of one setting."""

    setting: Setting
    steps_per_second: float  # 0 where it could not be measured
    note: str = ""


Measure = Callable[[RunConfig, float], Timing]
"""Times a configuration for so many seconds."""


@dataclass(frozen=True)
class Tuned:
    """The settings in the order in which they were tried, and the one to train with."""

    timings: tuple[Timing, ...]
    chosen: Setting

    def applied(self, config: RunConfig) -> RunConfig:
        """The same run in the chosen setting."""
        return with_setting(config, self.chosen)

    def table(self) -> str:
        """The timings, one line each.

        >>> slow, fast = Setting("serial", "cpu", 1), Setting("compiled", "cpu", 1)
        >>> print(Tuned((Timing(slow, 900.0), Timing(fast, 12_000.0)), fast).table())
          vector    device  threads     steps/s
          serial    cpu           1         900
          compiled  cpu           1      12,000  <- chosen
        """
        lines = ["  vector    device  threads     steps/s"]
        for timing in self.timings:
            vector, device, threads = timing.setting
            speed = f"{timing.steps_per_second:,.0f}" if timing.steps_per_second else "-"
            marks = [timing.note] * bool(timing.note) + ["<- chosen"] * (timing.setting == self.chosen)
            lines.append(f"  {vector:<8}  {device:<6}  {threads:>7}  {speed:>10}  {'; '.join(marks)}".rstrip())
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """What `meta.json` keeps."""
        found = [
            {**timing.setting._asdict(), "steps_per_second": round(timing.steps_per_second, 1), "note": timing.note}
            for timing in self.timings
        ]
        return {"chosen": self.chosen._asdict(), "measured": found}


def autotune(
    config: RunConfig,
    *,
    fixed: Collection[str] = (),
    load_actor: Callable[[str], Actor] | None = None,
    measure: Measure | None = None,
) -> Tuned:
    """Measure the settings that this machine, agent and environment allow, in about ten seconds.

    Args:
        config: the run.
        fixed: names of `TUNED` that stay as they are in `config`.
        load_actor: see `Task.load_actor`.
        measure: replaces the measurement.

    Raises:
        RlkitError: the first setting cannot be trained at all; the training would say the same.
    """
    registry.agent_class(config.agent_name)  # imports torch where the agent needs it
    measure = measure or (lambda given, seconds: time_training(given, seconds, load_actor))
    options = config.options
    devices = [options.device] if "device" in fixed else _devices()
    vectors = [options.vector] if "vector" in fixed else list(_vectors(options))
    threads = [options.threads] if "threads" in fixed else _thread_counts(_cores())
    seconds = min(MEASURED_SECONDS / (2 * (len(devices) + len(vectors) + len(threads))), _LONGEST_EACH)

    best = measure(with_setting(config, Setting(vectors[0], devices[0], threads[0])), seconds)
    timings = [best]
    budget = _Budget(seconds)
    variations: tuple[Callable[[Setting], list[Setting]], ...] = (
        lambda setting: [setting._replace(vector=vector) for vector in vectors[1:] if vector != "process"],
        lambda setting: [setting._replace(device=device) for device in devices[1:]],
        lambda setting: [setting._replace(threads=count) for count in threads[1:]],
        lambda setting: [setting._replace(vector=vector) for vector in vectors[1:] if vector == "process"],
    )
    for variation in variations:
        found = list(_measured(config, variation(best.setting), measure, budget))
        timings += found
        best = fastest([best, *found])
    return Tuned(tuple(timings), best.setting)


def fastest(timings: Iterable[Timing]) -> Timing:
    """The fastest; one that stands later must be 5 % faster than those before.

    >>> serial, compiled = Setting("serial", "cpu", 1), Setting("compiled", "cpu", 1)
    >>> fastest([Timing(serial, 100.0), Timing(compiled, 104.0)]).setting.vector
    'serial'
    """
    first, *others = timings
    best = first
    for timing in others:
        if timing.steps_per_second > _CLEARLY_FASTER * best.steps_per_second:
            best = timing
    return best


def with_setting(config: RunConfig, setting: Setting) -> RunConfig:
    """The same run computed in another way."""
    options = config.options.model_copy(update=setting._asdict())
    return RunConfig(config.agent_name, config.agent, options)


def time_training(config: RunConfig, seconds: float, load_actor: Callable[[str], Actor] | None = None) -> Timing:
    """Train for about so many seconds after the first update, see the module's docstring."""
    options = config.options
    with limited_threads(options.threads), _quiet():
        seeding.seed_global_generators(options.seed)
        envs = build_envs(options.env, options)
        try:
            shortened = RunConfig(config.agent_name, _shortened(config.agent, options.num_envs), options)
            task = task_of(options, envs, schedule_steps=1, load_actor=load_actor)
            stopwatch = _Stopwatch(task, seconds)
            run(build_agent(shortened, task), FiniteOnly(envs, stopwatch.last_good), stopwatch)
        finally:
            envs.close()
    setting = Setting(options.vector, options.device, options.threads)
    return Timing(setting, stopwatch.steps_per_second(), "" if stopwatch.has_learned else "no update in this time")


class _Stopwatch(Session):
    """A run that ends when enough of it has been timed."""

    def __init__(self, task: Task, seconds: float) -> None:
        super().__init__(task, _ENDLESS, (), seeding.generator(task.seed, "act"))
        self._wanted = seconds
        self._begun: tuple[float, int] | None = None  # time and env step of the first step's end
        self._latest = (0.0, 0)
        self._updates: list[tuple[float, int]] = []  # of the first update's end and the latest's

    @property
    def has_learned(self) -> bool:
        """Whether a whole cycle from update to update was timed."""
        return len(self._updates) > 1

    def advance(self, progress: Progress) -> bool:
        """Count, note the time of updates, and end the run when its time is over."""
        super().advance(progress)
        now = (time.perf_counter(), self.step)
        self._latest = now
        if self._begun is None:
            self._begun = now
        if progress.metrics:
            self._updates = [*self._updates[:1], now]
        if now[0] > self._deadline(self._begun[0]):
            self.stop_reason = self.stop_reason or "timed"
        return not self.is_over

    def _deadline(self, begun: float) -> float:
        if not self._updates:
            return begun + max(_NO_UPDATE_SECONDS, self._wanted)
        first = self._updates[0][0]
        return first + (self._wanted if self.has_learned else max(_NO_UPDATE_SECONDS, self._wanted))

    def steps_per_second(self) -> float:
        """Between the first update and the last; without two of them since the first step; 0 where nothing happened."""
        if self._begun is None:
            return 0.0
        (start, first), (stop, last) = self._updates if self.has_learned else (self._begun, self._latest)
        return (last - first) / (stop - start) if stop > start else 0.0


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave the training itself to say how much memory it takes, and the like."""
    logger = logging.getLogger("rlkit")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Budget:
    """Time for measurements: each is given so many seconds, but may take longer than it was given."""

    def __init__(self, seconds: float) -> None:
        self.seconds = self._longest = seconds
        self._deadline = time.perf_counter() + MEASURED_SECONDS

    def allows_another(self) -> bool:
        """Whether one as long as the longest would end in time."""
        return time.perf_counter() + self._longest <= self._deadline

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Note how long the body takes."""
        began = time.perf_counter()
        yield
        self._longest = max(self._longest, time.perf_counter() - began)


def _measured(config: RunConfig, candidates: Iterable[Setting], measure: Measure, budget: _Budget) -> Iterator[Timing]:
    """Timings of those for which there is time; what cannot be trained counts as infinitely slow."""
    for setting in candidates:
        if not budget.allows_another():
            yield Timing(setting, 0.0, "not tried, the time is over")
            continue
        try:
            with budget.spent():
                timing = measure(with_setting(config, setting), budget.seconds)
        except (RlkitError, RuntimeError) as error:  # RuntimeError: torch, where a GPU's memory is full
            reason = str(error).strip().splitlines() or [type(error).__name__]
            timing = Timing(setting, 0.0, f"failed: {reason[0]:.60}")
        yield timing


def _shortened(agent: AgentConfig, num_envs: int) -> AgentConfig:
    """The agent's configuration with its first updates sooner."""
    values: Mapping[str, Any] = agent.model_dump()
    sooner = {}
    if "learning_starts" in values:
        sooner["learning_starts"] = min(values["learning_starts"], values.get("batch_size", 256))
    if {"n_steps", "epochs", "batch_size"} <= set(values):
        enough = math.ceil(_MINIBATCHES * values["batch_size"] / num_envs)
        sooner["n_steps"] = min(values["n_steps"], enough)
    return agent.model_copy(update=sooner)


def _vectors(options: RunOptions) -> Iterator[Literal["serial", "process", "compiled"]]:
    """What the environments can be stepped by; for one environment a process of its own never pays."""
    yield "serial"
    try:
        envs = build_envs(options.env, options.model_copy(update={"vector": "compiled"}))
    except UsageError:
        pass  # there is no machine code for them
    else:
        envs.reset(options.seed)  # compiles, before the clock starts
        envs.step(np.array([envs.single_action_space.sample() for _ in range(envs.num_envs)]))
        yield "compiled"
    if options.num_envs > 1:
        yield "process"


def _devices() -> list[Literal["auto", "cpu", "cuda"]]:
    torch = sys.modules.get("torch")
    return ["cpu", "cuda"] if torch is not None and torch.cuda.is_available() else ["cpu"]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _thread_counts(cores: int) -> list[int]:
    """1, 2, 4 … and all cores."""
    return sorted({1 << power for power in range(cores.bit_length())} | {cores})
