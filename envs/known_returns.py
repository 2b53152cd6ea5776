"""What is known of the returns of environments that test memory: the best, and the best without memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class KnownReturns:
    """Expected undiscounted returns of an episode.

    A memoryless policy draws its action from a distribution that depends on the current observation alone, not on
    earlier ones and not on the time.

    Attributes:
        best: of any policy.
        memoryless: the best of any memoryless policy.
        random: of even random actions; None where it is not known.
        derivation: how `best` and `memoryless` are known, in a sentence or two.
    """

    best: float
    memoryless: float
    random: float | None
    derivation: str


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
}  # fmt: skip

KNOWN_RETURNS: Mapping[str, KnownReturns] = MappingProxyType(_TABLE)
"""By id, for the default arguments; rlkit's own classes have `known_returns` for the arguments they were given."""
