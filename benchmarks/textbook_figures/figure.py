"""What a figure is: a function that measures, checks against expected numbers, and draws.

@figure("7.2", "n-step TD on the 19-state walk")
def n_step_td(scale: Scale) -> Result: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rlkit.assembly import build_envs, task_of
from rlkit.config import RunOptions
from rlkit.types import Task

Floats: TypeAlias = npt.NDArray[np.float64]
Draw: TypeAlias = Callable[[Any], None]
"""Draws on a matplotlib figure."""


@dataclass(frozen=True)
class Scale:
    """How much to run: `runs(1000)` is 1000 independent runs, fewer with `--scale 0.1`."""

    factor: float = 1.0
    threads: int = 2

    def runs(self, full: int, least: int = 2) -> range:
        """Seeds of the runs that stand for `full` ones."""
        return range(max(least, round(full * self.factor)))


@dataclass(frozen=True)
class Check:
    """A number and where it should lie. `expected` says so in words, with its source."""

    what: str
    expected: str
    measured: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the number lies where it should."""
        return bool(self.low <= self.measured <= self.high)


@dataclass(frozen=True)
class Result:
    """What a figure gave. `settings` are the seeds and options worth writing down; `curves` small tables of numbers."""

    checks: list[Check]
    draw: Draw
    settings: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A registered figure."""

    name: str
    title: str
    measure: Callable[[Scale], Result]


FIGURES: dict[str, Figure] = {}


def figure(name: str, title: str) -> Callable[[Callable[[Scale], Result]], Callable[[Scale], Result]]:
    """Register a figure under its number in the book."""

    def register(measure: Callable[[Scale], Result]) -> Callable[[Scale], Result]:
        FIGURES[name] = Figure(name, title, measure)
        return measure

    return register


def near(what: str, expected: float, measured: float, tolerance: float, source: str = "") -> Check:
    """A check that `measured` is within `tolerance` of `expected`."""
    told = f"{expected:g} ± {tolerance:g}" + (f" ({source})" if source else "")
    return Check(what, told, float(measured), expected - tolerance, expected + tolerance)


def between(what: str, low: float, high: float, measured: float, source: str = "") -> Check:
    """A check that `measured` lies in [low, high]."""
    told = f"{low:g} … {high:g}" + (f" ({source})" if source else "")
    return Check(what, told, float(measured), low, high)


def task_for(env: str, total_steps: int = 100_000, **arguments: Any) -> Task:
    """The task of a registered environment, for `rlkit.tabular.seeds.run_seeds` and for agents by themselves."""
    from functools import partial

    import gymnasium as gym

    import rlkit.envs.registration  # noqa: F401

    options = RunOptions(env=env, total_steps=total_steps)
    envs = build_envs(partial(gym.make, env, **arguments) if arguments else env, options)
    try:
        return task_of(options, envs)
    finally:
        envs.close()


def confidence(runs: Floats) -> tuple[Floats, Floats]:
    """Mean over runs (axis 0) and the half width of its 95 % interval (normal approximation)."""
    mean = np.nanmean(runs, axis=0)
    half = 1.96 * np.nanstd(runs, axis=0, ddof=1) / np.sqrt(np.maximum((~np.isnan(runs)).sum(axis=0), 1))
    return mean, half


def band(axes: Any, x: Any, runs: Floats, label: str, colour: str | None = None) -> None:
    """A mean curve with its confidence band; `runs` [K, X]."""
    mean, half = confidence(runs)
    (line,) = axes.plot(x, mean, label=label, color=colour, linewidth=1.4)
    axes.fill_between(x, mean - half, mean + half, color=line.get_color(), alpha=0.2, linewidth=0)


def tidy(axes: Any, title: str, xlabel: str, ylabel: str, legend: bool = True) -> None:
    """Labels, no box, a light grid."""
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if legend:
        axes.legend(frameon=False, fontsize=8)
