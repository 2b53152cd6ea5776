"""The control that looks at nothing: the most frequent class, the mean of a quantity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlkit.perception.probing.frames import LabelledFrames, is_quantity
from rlkit.perception.probing.probe import Predictions
from rlkit.types import Array


@dataclass(frozen=True)
class MajorityProbe:
    """Predicts what is most frequent in training: what F1 without any feature is, and an R² of about 0."""

    def predictions(self, train: LabelledFrames, validation: LabelledFrames, inputs: Array) -> Predictions:
        """The same class (the least of several) or mean for each of the inputs [M, …]."""
        return {name: np.full(len(inputs), _usual(labels)) for name, labels in train.labels.items()}


def _usual(labels: Array) -> np.generic:
    if is_quantity(labels):
        return np.float64(labels.mean(dtype=np.float64))
    classes, counts = np.unique(labels, return_counts=True)
    usual: np.generic = classes[counts.argmax()]
    return usual
