"""What is known of the returns of environments that test memory or attention: the best, and the best without memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class KnownReturns:
    """Expected undiscounted returns of an episode.

    A memoryless policy draws its action from a distribution that depends on the current observation alone, not on
    earlier ones and not on the time. What a search found is a lower bound, within its measurement's error.

    Attributes:
        best: of any policy; None where it is not known.
        memoryless: the best of any memoryless policy; None where it is not known.
        random: of even random actions; None where it is not known.
        derivation: how `best` and `memoryless` are known, in a sentence or two.
        best_found: where `best` is not known, the best that a search found.
        memoryless_found: where `memoryless` is not known, the best that a search found.
    """

    best: float | None
    memoryless: float | None
    random: float | None
    derivation: str
    best_found: float | None = None
    memoryless_found: float | None = None


_RECALL = "All answers right pay 1 in all; without memory an answer is right with probability 1 / symbols."

_TABLE = {
    "rlkit/TMaze-v0": KnownReturns(
        1.0, 0.5, -3.059999,
        "The right turn pays 1 and nothing else pays; without memory it is right for one cue of two.",
    ),
    "rlkit/RepeatPrevious-v0": KnownReturns(1.0, -0.5, -0.5, _RECALL),
    "rlkit/Autoencode-v0": KnownReturns(1.0, -0.5, -0.5, _RECALL),
    "rlkit/KeyToDoor-v0": KnownReturns(
        1.5, 1.0, None, "All apples and the right door; without memory the one door tried is right for one colour of c."
    ),
    "rlkit/CartPoleNoVelocity-v0": KnownReturns(
        500.0, None, None,
        "1 a step up to the time limit, which a policy that infers the velocities reaches; memoryless: a search.",
        memoryless_found=42.9,
    ),
    "rlkit/PendulumNoVelocity-v0": KnownReturns(
        None, None, None,
        "Best: value iteration on Pendulum-v1 with the velocity in sight; memoryless: a search.",
        best_found=-138.8, memoryless_found=-1033.0,
    ),
    "rlkit/NearestMatch-v0": KnownReturns(
        1.0, 1.0, 0.125, "All directions right pay 1 in all, and each can be read from what is seen; chance is 1/8."
    ),
}  # fmt: skip

KNOWN_RETURNS: Mapping[str, KnownReturns] = MappingProxyType(_TABLE)
"""By id, for the default arguments; rlkit's own classes have `known_returns` for the arguments they were given.

What was found comes from `benchmarks/no_velocity_returns.py`, with standard errors of 0.2 (CartPole), 10 (Pendulum,
memoryless) and 1.7 (Pendulum, best).
"""
