"""Actions as vectors of numbers that a network is told of."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from rlkit.errors import UnsupportedTaskError
from rlkit.spaces import Float64s


class ActionVectors(nn.Module):
    """Actions [B, *A] of a space as floats [B, size]: a choice is one-hot, a bounded number lies between -1 and 1.

    The parts of a MultiDiscrete action are one-hot one after the other, those of a MultiBinary one stay 0 and 1;
    numbers of a Box without bounds stay what they are. It has no parameters, and nothing of it is in a checkpoint.

    Args:
        space: Discrete, MultiDiscrete, MultiBinary or Box.

    Raises:
        UnsupportedTaskError: it is another space.

    >>> ActionVectors(spaces.Discrete(3, start=1))(torch.tensor([1, 3])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        super().__init__()
        self.choices: tuple[int, ...] = ()
        if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
            choices = space.n if isinstance(space, spaces.Discrete) else space.nvec
            self.choices = tuple(int(n) for n in np.ravel(choices))
            middle, reach = np.ravel(space.start), np.ones(len(self.choices))
            self.size = sum(self.choices)
        elif isinstance(space, (spaces.MultiBinary, spaces.Box)):
            self.size = int(np.prod(space.shape))
            middle, reach = np.zeros(self.size), np.ones(self.size)
            if isinstance(space, spaces.Box):
                middle, reach = _middle_and_reach(space)
        else:
            raise UnsupportedTaskError(
                f"actions are {space}, allowed: Discrete, MultiDiscrete, MultiBinary and Box; --wrap an environment so "
                "that it takes one of these"
            )
        self.register_buffer("middle", torch.from_numpy(np.asarray(middle, np.float64)), persistent=False)
        self.register_buffer("reach", torch.from_numpy(np.asarray(reach, np.float64)), persistent=False)

    def forward(self, actions: Tensor) -> Tensor:
        """Vectors [B, size], float32."""
        flat = actions.reshape(len(actions), -1)
        # in float64, in which every integer action and every bound of a Box is exact
        unit = (flat.double() - self.get_buffer("middle")) / self.get_buffer("reach")
        if not self.choices:
            return unit.float()
        parts = zip(unit.long().unbind(1), self.choices, strict=True)
        return torch.cat([functional.one_hot(part, choices) for part, choices in parts], dim=1).float()


def _middle_and_reach(space: spaces.Box) -> tuple[Float64s, Float64s]:
    """Of each number's range; 0 and 1 where it has none."""
    low, high = (np.ravel(bound).astype(np.float64) for bound in (space.low, space.high))
    bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
    low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    return 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
