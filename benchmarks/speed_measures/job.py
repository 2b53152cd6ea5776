"""One measurement, and the clock inside the environment that times training in every library alike."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

WARM_UP = 1_000  # random env steps before learning, or calls before the clock starts
# Env steps; dqn: when everything has been compiled that will be; ppo: of each environment, eight rollouts.
CLOCK_STARTS_AFTER = {"ddpg": WARM_UP, "td3": WARM_UP, "sac": WARM_UP, "dqn": 2_000, "ppo": 1_024}


@dataclass(frozen=True)
class Job:
    """One measurement: `steps` env steps of training, or `steps` calls."""

    work: str
    library: str
    env: str
    steps: int
    seed: int
    core: int
    cleanrl: str | None = None
    python: str | None = None  # interpreter of a peer that has an environment of its own

    @property
    def untimed_steps(self) -> int:
        """Env steps of a training run before the clock starts."""
        return CLOCK_STARTS_AFTER[self.work]

    @property
    def total_steps(self) -> int:
        """Env steps of a training run; the last one only shows that the update before it has ended."""
        return self.untimed_steps + self.steps + 1


class StepClock(gym.Wrapper[Any, Any, Any, Any]):
    """Notes when env step `first` and env step `last` begin, counted from 1 over all episodes."""

    marks: dict[int, float] = {}  # noqa: RUF012 - of the process, because the library builds the environment

    def __init__(self, env: gym.Env[Any, Any], first: int, last: int) -> None:
        super().__init__(env)
        self._steps = 0
        self._noted = (first, last)

    @property
    def spec(self) -> Any:
        """The wrapped environment's, so that `gym.make` does not look for this wrapper in it."""
        return self.env.spec

    def step(self, action: Any) -> Any:
        """Count, note the time, step."""
        self._steps += 1
        if self._steps == self._noted[0]:
            StepClock.marks.clear()  # rlkit's restore probe may have stepped another instance this far before training
        if self._steps in self._noted:
            StepClock.marks[self._steps] = time.perf_counter()
        return self.env.step(action)


def register_clocked_env(job: Job) -> str:
    """Id of the job's environment inside a `StepClock`, made by `gym.make` in any library."""
    name = f"Clocked/{job.env}"

    def build(**kwargs: Any) -> gym.Env[Any, Any]:
        return StepClock(gym.make(job.env, **kwargs), job.untimed_steps + 1, job.total_steps)

    gym.register(name, build, order_enforce=False, disable_env_checker=True)
    return name


def clocked_seconds(job: Job) -> float:
    """Seconds between the two marks."""
    return StepClock.marks[job.total_steps] - StepClock.marks[job.untimed_steps + 1]
