"""Policies given by name as probabilities [P, A]: P is 1 for those that are the same everywhere, or S."""

from __future__ import annotations

import re

import numpy as np
from gymnasium import spaces

from rlkit.errors import UsageError
from rlkit.linear.observations import Observations
from rlkit.mdp import Floats64
from rlkit.tabular.given import policy_table
from rlkit.types import Task


def policy_rows(name: str, task: Task, observations: Observations, gamma: float) -> Floats64:
    """Probabilities of the policy called `name`: uniform, always-K, or A numbers such as 0.25,0.75.

    For finite observations also whatever tables allow (`rlkit.tabular.given`).

    Raises:
        UsageError: there is none of this name, or it does not fit the environment.
    """
    assert isinstance(task.action_space, spaces.Discrete)
    count, start = int(task.action_space.n), int(task.action_space.start)
    if name == "uniform":
        return np.full((1, count), 1.0 / count)
    always = re.fullmatch(r"always-(-?\d+)", name)
    if always is not None:
        action = int(always.group(1)) - start
        if not 0 <= action < count:
            raise UsageError(f"the policy {name!r}: actions are {start} … {start + count - 1}")
        return np.eye(count)[action : action + 1]
    if re.fullmatch(r"[\d.eE+\-]+(,[\d.eE+\-]+)+", name):
        return _numbers(name, count)
    if observations.is_finite:
        return policy_table(name, task, gamma)
    raise UsageError(
        f"unknown policy {name!r}; where observations are no finite set, allowed are uniform, always-K, and {count} "
        "probabilities such as 0.25,0.75"
    )


def require_coverage(evaluated: Floats64, followed: Floats64) -> None:
    """Raise UsageError if the evaluated policy [P, A] does what the followed one never does (assumption of coverage).

    Sutton and Barto (2018), section 5.5: what is never tried cannot be learned, however it is weighted.
    """
    missing = (evaluated > 0.0) & (followed == 0.0)
    if missing.any():
        action = int(missing.any(axis=0).argmax())
        raise UsageError(
            f"the evaluated policy (--agent.policy) takes action {action} (counted from 0) where the followed one "
            "(--agent.behaviour) never does, so its values cannot be learned; follow one that tries every action, such "
            "as uniform"
        )


def _numbers(name: str, count: int) -> Floats64:
    """Probabilities that are written out; a sum off by rounding is set right."""
    try:
        numbers = np.array([float(part) for part in name.split(",")])
    except ValueError as error:
        raise UsageError(f"the policy {name!r} is no list of probabilities: {error}") from error
    if len(numbers) != count or (numbers < 0).any() or not abs(numbers.sum() - 1.0) < 1e-6:
        raise UsageError(f"the policy {name!r} must be {count} probabilities, at least 0, that sum to 1")
    probabilities: Floats64 = numbers / numbers.sum()
    return probabilities[None]
