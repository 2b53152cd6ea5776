"""What waiting and declaring cost where a change or an event is to be told, and what a step's `info` says of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlkit.envs.events import EVENTS
from rlkit.errors import UsageError

WAIT = 0
"""The first action; k from 1 on declares the k-th class."""


@dataclass(frozen=True, slots=True)
class DecisionCosts:
    """What a decision costs; a cost is at least 0, and a reward is minus its cost.

    Attributes:
        false_alarm: of a declaration before anything has begun.
        delay: of each wait from the beginning on.
        wrong_class: of a declaration of another class than what has begun.
        miss: of an end without any declaration, after something has begun.
        correct: reward of a right declaration.

    Raises:
        UsageError: one of them is negative or not finite.
    """

    false_alarm: float
    delay: float
    wrong_class: float
    miss: float = 0.0
    correct: float = 0.0

    def __post_init__(self) -> None:
        values = {
            "false_alarm_cost": self.false_alarm,
            "delay_cost": self.delay,
            "wrong_class_cost": self.wrong_class,
            "miss_cost": self.miss,
            "correct_reward": self.correct,
        }
        for name, value in values.items():
            if not (math.isfinite(value) and value >= 0.0):
                raise UsageError(f"{name} is {value}, it must be a finite number of at least 0")

    def reward(self, declares: bool, has_begun: bool, is_right: bool) -> float:
        """Of one step: a wait or a declaration, right or not, before or after the beginning."""
        if not declares:
            return -self.delay if has_begun else 0.0
        if not has_begun:
            return -self.false_alarm
        return self.correct if is_right else -self.wrong_class


@dataclass(frozen=True, slots=True)
class Decision:
    """Where an episode stands: the time when something begins (None: never), the present, and what was declared."""

    begins: int | None
    time: int
    declares: bool = False
    is_right: bool = False

    @property
    def has_begun(self) -> bool:
        """Whether it has begun by now."""
        return self.begins is not None and self.time >= self.begins

    def told(self, going_on: Mapping[str, bool]) -> dict[str, Any]:
        """The keys of `info`, the same in every step; `going_on` by class is what the present observation shows."""
        begins = -1 if self.begins is None else self.begins
        return {
            "change_time": np.int64(begins),
            "delay": np.int64(self.time - begins if self.has_begun else 0),
            "false_alarm": np.bool_(self.declares and not self.has_begun),
            "correct": np.bool_(self.declares and self.has_begun and self.is_right),
            **{EVENTS + name: np.bool_(is_on) for name, is_on in going_on.items()},
        }


def checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """The same class names.

    Raises:
        UsageError: there are none, or two are the same.
    """
    found = tuple(names)
    if not found or len(set(found)) != len(found):
        raise UsageError(f"the classes are {list(found)}; there must be at least one, each with a name of its own")
    return found
