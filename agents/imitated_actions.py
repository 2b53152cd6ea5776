"""Actions that a network learns to repeat: what it is told of them, what it is to give for them, how far it is off."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlkit.data.flatten import ObservationFlattener
from rlkit.nn.action_heads import CategoricalHead
from rlkit.spaces import from_unit, to_unit
from rlkit.types import Array, Bools, Floats, Obs


class ImitatedActions(Protocol):
    """One action space."""

    outputs: int
    """Numbers that it takes of a network."""
    size: int
    """Numbers of an action, as a network is told of it."""

    def told(self, actions: Obs) -> Floats:
        """Actions [B, *A] as a network is told of them, [B, size]."""

    def loss(self, outputs: Tensor, told: Tensor) -> Tensor:
        """How far outputs [B, outputs] are from the actions that were taken, one number."""

    def chosen(self, outputs: Floats, rng: np.random.Generator | None, mask: Bools | None) -> Array:
        """Actions [N, *A] for outputs [N, outputs]; drawn where there is a generator and something to draw."""


class ImitatedChoices:
    """Discrete and MultiDiscrete actions: one-hot, a categorical distribution for each component, cross-entropy."""

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        self._head = CategoricalHead(space)
        self.outputs = self.size = self._head.size
        self.told = ObservationFlattener(space)
        self._sizes = np.diff(self._head.ends).tolist()

    def loss(self, outputs: Tensor, told: Tensor) -> Tensor:
        """Mean of the cross-entropy in nats, added up over the components."""
        log_p = torch.cat([torch.log_softmax(part, 1) for part in torch.split(outputs, self._sizes, 1)], 1)
        return -(told * log_p).sum(1).mean()

    def chosen(self, outputs: Floats, rng: np.random.Generator | None, mask: Bools | None) -> Array:
        """The most probable ones that are allowed, or drawn."""
        if rng is None:
            return self._head.to_environment(self._head.mode(outputs, mask))
        return self._head.to_environment(self._head.draw(outputs, np.empty(0, np.float32), rng, mask).raw)


class ImitatedBox:
    """Bounded Box actions, in [-1, 1] for the network: tanh of its outputs, mean squared error. Nothing is drawn."""

    def __init__(self, space: spaces.Box) -> None:
        self._space = space
        self.outputs = self.size = int(np.prod(space.shape))

    def told(self, actions: Obs) -> Floats:
        """The actions, their bounds at -1 and 1."""
        unit = to_unit(np.asarray(actions), self._space.low, self._space.high)
        return unit.reshape(-1, self.size).astype(np.float32)

    def loss(self, outputs: Tensor, told: Tensor) -> Tensor:
        """Mean squared error, half the range of each component as the unit."""
        return torch.square(torch.tanh(outputs) - told).mean()

    def chosen(self, outputs: Floats, rng: np.random.Generator | None, mask: Bools | None) -> Array:
        """The outputs, between the bounds."""
        unit = np.tanh(outputs).reshape(len(outputs), *self._space.shape)
        actions = from_unit(unit, self._space.low, self._space.high).astype(self._space.dtype)
        return np.clip(actions, self._space.low, self._space.high)  # rounding to float32 may leave them by a bit


def imitated_actions(space: gymnasium.Space[Any]) -> ImitatedActions:
    """The way to imitate actions of a space that `imitation_reason` has nothing against."""
    if isinstance(space, spaces.Box):
        return ImitatedBox(space)
    assert isinstance(space, (spaces.Discrete, spaces.MultiDiscrete))
    return ImitatedChoices(space)


def imitation_reason(space: gymnasium.Space[Any]) -> str | None:
    """Why a space's actions cannot be imitated; None if they can."""
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return None
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        return f"it needs Discrete, MultiDiscrete or continuous (float Box) actions, these are {space}"
    if not space.is_bounded("both") or (space.low >= space.high).any():
        return f"it needs finite action bounds with low < high, these are {space}; give the Box finite low and high"
    return None
