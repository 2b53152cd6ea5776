"""The probe without training: the weighted vote of the nearest training features (Wu et al. 2018, section 3.4).

https://arxiv.org/abs/1805.01978. Nearest by cosine, weights exp(s / τ), 200 neighbours and τ = 0.07 as there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from rlkit.errors import UsageError
from rlkit.ops.nearest_neighbours import class_votes, mean_vote, vote_weights
from rlkit.perception.probing.features import Classes, matrix
from rlkit.perception.probing.frames import LabelledFrames, is_quantity
from rlkit.perception.probing.probe import Predictions
from rlkit.types import Array


@dataclass(frozen=True)
class NeighbourProbe:
    """Predicts the class with the most votes, the least of several, and the weighted mean of a quantity.

    Features are taken as they are: neither standardised nor centred, as where the numbers of papers come from.
    """

    neighbours: int = 200
    temperature: float = 0.07
    batch_size: int = 512  # queries at once
    device: str = "cpu"

    def predictions(self, train: LabelledFrames, validation: LabelledFrames, inputs: Array) -> Predictions:
        """Every variable of `train` for features [M, …].

        Raises:
            UsageError: there are fewer training features than neighbours.
        """
        if not 1 <= self.neighbours <= len(train):
            raise UsageError(f"neighbours is {self.neighbours}, allowed: 1 … {len(train)}, the frames to train")
        known = normalize(matrix(train.inputs, self.device), dim=1)
        labels = {name: self._numbers(train, name) for name in train.labels}
        parts: dict[str, list[Tensor]] = {name: [] for name in labels}
        for queries in torch.split(normalize(matrix(inputs, self.device), dim=1), self.batch_size):
            similarity, nearest = (queries @ known.T).topk(self.neighbours, dim=1)  # [B, k]
            weight = vote_weights(similarity, self.temperature)
            for name, numbers in labels.items():
                parts[name].append(_vote(weight, numbers[nearest]))
        found = {name: torch.cat(part).cpu().numpy() for name, part in parts.items()}
        return {
            name: values if is_quantity(train.labels[name]) else Classes.of(train, name).values[values]
            for name, values in found.items()
        }

    def _numbers(self, train: LabelledFrames, name: str) -> Tensor:
        """Quantities, float64 [M], or numbers of classes, int64 [M]."""
        labels = train.labels[name]
        if is_quantity(labels):
            return torch.from_numpy(labels).double().to(self.device)
        return torch.from_numpy(Classes.of(train, name).numbers(labels)).to(self.device)


def _vote(weight: Tensor, told: Tensor) -> Tensor:
    """What neighbours who tell `told` [B, k] agree on, [B]."""
    if told.is_floating_point():
        return mean_vote(weight.double(), told)
    return class_votes(weight, told, int(told.max()) + 1).argmax(dim=1)
