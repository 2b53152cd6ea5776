"""Quickest change detection as a decision: a stream of independent samples whose law changes at an unknown time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlkit.envs.decision_costs import WAIT, Decision, DecisionCosts
from rlkit.envs.pictures import METADATA, Picture, bar_picture, checked_render_mode, rendered
from rlkit.errors import UsageError
from rlkit.types import Array

Law: TypeAlias = Literal["gaussian", "bernoulli"]
Observation: TypeAlias = Literal["posterior", "sample", "window"]
_PICTURE_LEVELS = 12


class ChangeDetection(gym.Env[Any, Any]):
    """Wait, or declare that the law of the samples has changed, and to which of K others.

    Sample t, x_0 with the reset and one more with every wait, is of the law `before` for t < ν and of law k of `after`
    from ν on. P(ν = t) = hazard (1 - hazard)^t; k is one of K, evenly. Action 0 waits: that costs `delay_cost` if
    ν ≤ t, else nothing. Action k declares the change to law k and terminates the episode: it costs
    `false_alarm_cost` if t < ν, nothing if k is right, else `wrong_class_cost`. Rewards are minus the costs. Nothing
    else ends an episode; `rlkit/ChangeDetection-v0` truncates it after 1,000 steps.

    Observations, float32:

    - `posterior` [K]: for each law the probability, given all samples so far, that the last one is of it. This is a
      sufficient statistic: no policy is better than the best one that sees it
    - `sample` [1]: the last sample
    - `window` [window]: the last samples, oldest first; before the first one, the expectation of the law `before`

    `info` tells, of reset and of every step: `change_time` ν, `delay` t - ν (0 before the change), `false_alarm` and
    `correct` of the declaration, and for each class `events/<class>`, whether the present sample is of its law. Classes
    are `change`, or `change_1` … `change_K`. `reset(options={"change_time": 7, "class": 1})` fixes either.

    For K = 1 the expected cost of an episode has a known least value, Shiryaev's (1963,
    https://doi.org/10.1137/1108002): declare when the posterior is at least a threshold.
    `rlkit.ops.change_detection.optimal_stopping` computes both; with the default arguments they are 0.3292 and 0.8209.

    Args:
        hazard: probability of the change before each sample, in (0, 1).
        law: `gaussian` with the given means and standard deviation 1, or `bernoulli` with the given probabilities of 1.
        before: mean or probability before the change.
        after: mean or probability of each law after it.
        false_alarm_cost: of a declaration before the change.
        delay_cost: of each wait from the change on.
        wrong_class_cost: of declaring another law after the change; None: as a false alarm.
        observation: `posterior`, `sample` or `window`.
        window: samples in a window.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: an argument is out of these ranges, or `options` names what does not exist.
    """

    metadata = METADATA

    def __init__(
        self,
        *,
        hazard: float = 0.05,
        law: Law = "gaussian",
        before: float = 0.0,
        after: float | Sequence[float] = 1.0,
        false_alarm_cost: float = 1.0,
        delay_cost: float = 0.05,
        wrong_class_cost: float | None = None,
        observation: Observation = "posterior",
        window: int = 10,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = checked_render_mode(render_mode)
        self.hazard, self.law = _checked_hazard(hazard), _checked_law(law)
        self.laws = _checked_parameters(self.law, before, after)
        wrong = false_alarm_cost if wrong_class_cost is None else wrong_class_cost
        self.costs = DecisionCosts(false_alarm_cost, delay_cost, wrong)
        count = len(self.laws) - 1
        self.classes = ("change",) if count == 1 else tuple(f"change_{k + 1}" for k in range(count))
        self.observation, self.window = observation, window
        self.observation_space = _observation_space(observation, self.law, count, window)
        self.action_space = spaces.Discrete(1 + count)
        self.change_time, self.new_law = 0, 1
        self.posterior = [1.0] + [0.0] * count  # of no change so far, and of each class
        self._time = 0
        self._samples = deque([self.laws[0]] * window, maxlen=window)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """The first sample, which is of a new law with probability `hazard`.

        Raises:
            UsageError: `options` names a time below 0 or a class that does not exist.
        """
        super().reset(seed=seed)
        given, count = options or {}, len(self.classes)
        drawn = int(self.np_random.geometric(self.hazard)) - 1, 1 + int(self.np_random.integers(count))
        self.change_time, self.new_law = int(given.get("change_time", drawn[0])), int(given.get("class", drawn[1]))
        if self.change_time < 0 or not 1 <= self.new_law <= count:
            raise UsageError(
                f"change_time is {self.change_time}, class is {self.new_law}; allowed: from 0 on, and 1 … {count}"
            )
        self.posterior = [1.0] + [0.0] * count
        self._samples.extend([self.laws[0]] * self.window)
        self._time = 0
        self._draw()
        return self._observe(), self._told(WAIT)

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """The next sample after a wait; after a declaration the last one again."""
        assert self.action_space.contains(action), f"{action!r} ({type(action)}) invalid"
        declares = bool(action != WAIT)
        reward = self.costs.reward(declares, self._time >= self.change_time, bool(action == self.new_law))
        if not declares:
            self._time += 1
            self._draw()
        return self._observe(), reward, declares, False, self._told(action)

    def picture(self) -> Picture:
        """Bars of the posterior of each class."""
        now = f"changed at {self.change_time}" if self._time >= self.change_time else "not changed"
        bars = bar_picture(self.posterior[1:], 0.0, 1.0, _PICTURE_LEVELS, None)
        caption = f"sample {self._time}: {self._samples[-1]:+.2f}, {now}; posterior {bars.caption}"
        return Picture(bars.cells, bars.colours, caption=caption)

    def render(self) -> Any:
        """The picture, [H, W, 3] uint8, or text."""
        return rendered(self.picture, self.render_mode)

    def _draw(self) -> None:
        """One sample more, and the posterior after it: `rlkit.ops.change_detection.posterior_step` without arrays."""
        parameter = self.laws[self.new_law if self._time >= self.change_time else 0]
        if self.law == "gaussian":
            sample = parameter + float(self.np_random.standard_normal())
            logs = [-0.5 * (sample - mean) ** 2 for mean in self.laws]
        else:
            sample = float(self.np_random.random() < parameter)
            logs = [math.log(p if sample else 1.0 - p) for p in self.laws]
        self._samples.append(sample)
        same, largest, share = self.posterior[0], max(logs), self.hazard / len(self.classes)
        prior = [same * (1.0 - self.hazard), *(changed + same * share for changed in self.posterior[1:])]
        joint = [p * math.exp(log - largest) for p, log in zip(prior, logs, strict=True)]
        total = sum(joint)
        self.posterior = [p / total for p in joint]

    def _observe(self) -> Array:
        if self.observation == "posterior":
            return np.array(self.posterior[1:], np.float32)
        return np.array(self._samples if self.observation == "window" else [self._samples[-1]], np.float32)

    def _told(self, action: Any) -> dict[str, Any]:
        decision = Decision(self.change_time, self._time, bool(action != WAIT), bool(action == self.new_law))
        of = self.new_law - 1 if decision.has_begun else None
        return decision.told({name: place == of for place, name in enumerate(self.classes)})


def _checked_hazard(hazard: float) -> float:
    if not 0.0 < hazard < 1.0:
        raise UsageError(
            f"hazard is {hazard}, it must be above 0 and below 1: a probability of the change at each sample"
        )
    return float(hazard)


def _checked_law(law: Law) -> Law:
    if law not in ("gaussian", "bernoulli"):
        raise UsageError(f"law is {law!r}, allowed: 'gaussian', 'bernoulli'")
    return law


def _checked_parameters(law: Law, before: float, after: float | Sequence[float]) -> tuple[float, ...]:
    """Mean or probability before the change, then of each law after it."""
    laws = (float(before), *np.atleast_1d(np.asarray(after, np.float64)).tolist())
    if len(laws) < 2 or not all(map(math.isfinite, laws)) or len(set(laws)) < len(laws):
        raise UsageError(
            f"before is {before}, after is {after}; they must be finite numbers, all different, after not empty"
        )
    if law == "bernoulli" and not all(0.0 < p < 1.0 for p in laws):
        raise UsageError(f"before is {before}, after is {after}; probabilities of 1 must be above 0 and below 1")
    return laws


def _observation_space(observation: Observation, law: Law, classes: int, window: int) -> spaces.Box:
    if window < 1:
        raise UsageError(f"window is {window}, it must hold at least one sample")
    sizes = {"posterior": classes, "sample": 1, "window": window}
    if observation not in sizes:
        raise UsageError(f"observation is {observation!r}, allowed: {', '.join(map(repr, sizes))}")
    low, high = (0.0, 1.0) if observation == "posterior" or law == "bernoulli" else (-np.inf, np.inf)
    return spaces.Box(low, high, (sizes[observation],), np.float32)
