"""Linear probes: multinomial logistic regression for classes, ridge regression for quantities, on frozen features.

The protocol is that of Anand et al. 2019 (https://arxiv.org/abs/1906.08226, section 4; `atariari/benchmark/probe.py` at
https://github.com/mila-iqia/atari-representation-learning): a probe of its own for each variable, Adam, the learning
rate cut where validation accuracy rises no more, and the weights of the best epoch. Deviations: features are
standardised, batches and steps are larger (512 and 0.03 instead of 64 and 0.0003), so that it takes seconds, which
`LinearProbe.as_published` undoes; a probe has the classes that occur in training instead of 256; quantities, which
AtariARI has none of, have R².
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlkit.nn.optim import Adam
from rlkit.ops.categorical import log_prob_gradient, log_probabilities
from rlkit.ops.ridge import ridge_weights
from rlkit.perception.probing.features import Classes, Standardiser, matrix
from rlkit.perception.probing.frames import LabelledFrames, is_quantity
from rlkit.perception.probing.probe import Predictions
from rlkit.seeding import torch_generator
from rlkit.types import Array


@dataclass(frozen=True)
class LinearProbe:
    """A linear map from features to each variable, none of which depends on the others."""

    learning_rate: float = 0.03  # of Adam, at first
    batch_size: int = 512
    max_epochs: int = 50
    cut: float = 0.3  # factor of the learning rate after an epoch that was not better
    patience: int = 2  # such epochs in a row before it stops
    better: float = 0.001  # how much validation accuracy must rise to count
    penalties: tuple[float, ...] = tuple(10.0**power for power in range(-6, 3))  # of ridge, the best is taken
    seed: int = 0  # of the order of examples
    device: str = "cpu"
    standardise: bool = True  # off as in the published code, where features of a small deviation are learned slowly

    @classmethod
    def as_published(cls, *, seed: int = 0, device: str = "cpu") -> LinearProbe:
        """With the settings of the published code: features as they are, and its batches, steps and patience.

        It favours features of a large deviation: those of an untrained network, 0.01, hardly move it within 100 epochs.
        """
        cut = 0.2 ** (1 / 6)  # of each epoch that is not better; theirs is a fifth after six
        return cls(0.0003, 64, 100, cut, 15, 0.0, seed=seed, device=device, standardise=False)

    def predictions(self, train: LabelledFrames, validation: LabelledFrames, inputs: Array) -> Predictions:
        """Every variable of `train` for features [M, …]."""
        features = matrix(train.inputs, self.device)
        parts = [features, matrix(validation.inputs, self.device), matrix(inputs, self.device)]
        if self.standardise:
            standardise = Standardiser.of(features)
            parts = [standardise(x) for x in parts]
        quantities = [name for name, labels in train.labels.items() if is_quantity(labels)]
        found = self._quantities(quantities, train, validation, parts) if quantities else {}
        with_one = [torch.cat((x, x.new_ones(len(x), 1)), dim=1) for x in parts]  # the last weight is the intercept
        for name in train.labels.keys() - set(quantities):
            found[name] = self._classes(name, train, validation, with_one)
        return found

    def _classes(self, name: str, train: LabelledFrames, validation: LabelledFrames, parts: list[Tensor]) -> Array:
        classes = Classes.of(train, name)
        features, validated, asked = parts
        right = torch.from_numpy(classes.numbers(train.labels[name])).to(self.device)
        expected = torch.from_numpy(classes.numbers(validation.labels[name])).to(self.device)
        weights = self._fit(features, right, validated, expected, len(classes.values))
        found: Array = classes.values[(asked @ weights).argmax(dim=1).cpu().numpy()]
        return found

    def _fit(self, features: Tensor, right: Tensor, validated: Tensor, expected: Tensor, num_classes: int) -> Tensor:
        """Weights [D + 1, C] of the epoch that is best on validation, where classes unknown to training are missed."""
        flat = features.new_zeros(features.shape[1] * num_classes)
        weights = flat.view(-1, num_classes)
        best, most, stale = weights.clone(), -1.0, 0
        optimiser = Adam(flat, self.learning_rate)
        generator = torch_generator(self.seed, "probe")
        for _ in range(self.max_epochs):
            order = torch.randperm(len(features), generator=generator).to(self.device)
            for rows in torch.split(order, self.batch_size):
                batch = features[rows]
                gradient = log_prob_gradient(log_probabilities(batch @ weights), right[rows])  # [B, C], to climb
                optimiser.step((batch.T @ gradient).div_(-len(rows)).view(-1))
            accuracy = float(((validated @ weights).argmax(dim=1) == expected).float().mean())
            if accuracy > most + self.better:
                most, stale = accuracy, 0
                best.copy_(weights)
            else:
                stale += 1
                optimiser.learning_rate *= self.cut
            if stale == self.patience:
                break
        return best

    def _quantities(
        self, names: list[str], train: LabelledFrames, validation: LabelledFrames, parts: list[Tensor]
    ) -> Predictions:
        """Ridge regression with the penalty whose squared error on validation is least for each quantity."""
        features, validated, asked = (x.double() for x in parts)
        features_mean = features.mean(dim=0)  # what float32 left of it
        targets, expected = (
            torch.from_numpy(np.stack([part.labels[name].astype(np.float64) for name in names], axis=1)).to(self.device)
            for part in (train, validation)
        )
        mean, scale = targets.mean(dim=0), targets.std(dim=0, correction=0)
        scale = torch.where(scale > 0, scale, 1.0)
        penalties = torch.tensor(self.penalties, dtype=torch.float64, device=self.device)
        weights = ridge_weights(features - features_mean, (targets - mean) / scale, penalties)  # [P, D, T]
        error = ((validated - features_mean) @ weights - (expected - mean) / scale).square().mean(dim=1)  # [P, T]
        chosen = weights[error.argmin(dim=0), :, torch.arange(len(names), device=self.device)]  # [T, D]
        found = ((asked - features_mean) @ chosen.T * scale + mean).cpu().numpy()
        return {name: found[:, number] for number, name in enumerate(names)}
