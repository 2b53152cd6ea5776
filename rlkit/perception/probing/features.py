"""Features and labels as probes take them: standardised matrices, and classes by number."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlkit.errors import NonFiniteError
from rlkit.perception.probing.frames import LabelledFrames
from rlkit.types import Array


def matrix(inputs: Array, device: str) -> Tensor:
    """Features [M, …] as float32 [M, D].

    Raises:
        NonFiniteError: one is NaN or infinite.
    """
    features = torch.from_numpy(np.ascontiguousarray(inputs)).to(device).reshape(len(inputs), -1).float()
    if not torch.isfinite(features).all():
        raise NonFiniteError(
            "features are NaN or infinite; an encoder like that cannot be probed, look at its training"
        )
    return features


class Standardiser(NamedTuple):
    """Mean 0 and variance 1 of each feature in training; a feature that never changes there becomes 0."""

    mean: Tensor  # [D]
    scale: Tensor  # [D]

    @classmethod
    def of(cls, features: Tensor) -> Standardiser:
        """From features [M, D] of training."""
        deviation, mean = torch.std_mean(features.double(), dim=0, correction=0)
        # below rounding of float32 there is nothing but noise, which would be blown up
        is_still = deviation <= 1e-6 * mean.abs()
        return cls(mean.float(), torch.where(is_still, 0.0, 1 / deviation).float())

    def __call__(self, features: Tensor) -> Tensor:
        """Standardised features, [M, D]."""
        return (features - self.mean) * self.scale


class Classes(NamedTuple):
    """The classes that occur in training, in order."""

    values: Array  # [C]

    @classmethod
    def of(cls, train: LabelledFrames, name: str) -> Classes:
        """Those of a variable."""
        return cls(np.unique(train.labels[name]))

    def numbers(self, labels: Array) -> Array:
        """Number of the class of each label, int64 [M]; -1 where it does not occur in training."""
        found = np.searchsorted(self.values, labels).clip(max=len(self.values) - 1)
        return np.where(self.values[found] == labels, found, -1)
