"""The control that sees the labels: an encoder trained from frames to all variables together, end to end.

It is the upper mark of Anand et al. 2019 (https://arxiv.org/abs/1906.08226, section 5, "supervised"). Deviations: their
code trains an encoder for each variable, here one serves all, as the encoder that is measured does; quantities.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rlkit.nn.flat import flatten_parameters, initialise_uniform
from rlkit.nn.optim import Adam
from rlkit.ops.prediction_scores import r_squared
from rlkit.perception.probing.features import Classes
from rlkit.perception.probing.frames import LabelledFrames, is_quantity
from rlkit.perception.probing.probe import Predictions
from rlkit.seeding import torch_generator
from rlkit.types import Array


@dataclass(frozen=True)
class SupervisedProbe:
    """An encoder and a linear head for each variable, learned together from frames.

    `encoder` maps frames [B, *O], in the type that they are stored in, to features [B, D]. A copy of it is trained.
    The loss is the mean over variables of the cross-entropy of classes and half the squared error of quantities, which
    are standardised. The epoch with the best mean over variables of accuracy and R² on validation is taken.
    """

    encoder: nn.Module
    learning_rate: float = 3e-4  # of Adam
    batch_size: int = 64
    max_epochs: int = 100
    patience: int = 5  # epochs without a better score before it stops
    seed: int = 0  # of the heads, and of the order of examples
    device: str = "cpu"

    def predictions(self, train: LabelledFrames, validation: LabelledFrames, inputs: Array) -> Predictions:
        """Every variable of `train` for frames [M, *O]."""
        generator = torch_generator(self.seed, "probe")
        targets = {name: _target_of(train, name) for name in train.labels}
        encoder = copy.deepcopy(self.encoder).to(self.device).eval()
        with torch.no_grad():
            width = encoder(self._frames(train.inputs[:1])).shape[1]
        head = nn.Linear(width, sum(target.size for target in targets.values()))
        initialise_uniform(head, generator)
        model = nn.Sequential(encoder, head).to(self.device)
        self._fit(model, train, validation, targets, generator)
        return {name: target.predicted(output) for (name, target), output in
                zip(targets.items(), self._outputs(model, inputs, targets), strict=True)}  # fmt: skip

    def _fit(
        self, model: nn.Module, train: LabelledFrames, validation: LabelledFrames, targets: dict[str, _Target],
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        parameters = list(model.requires_grad_(True).parameters())  # end to end, also what was frozen elsewhere
        optimiser = Adam(flatten_parameters(model), self.learning_rate)
        right = [target.numbers(train.labels[name]).to(self.device) for name, target in targets.items()]
        sizes = [target.size for target in targets.values()]
        best, most, stale = copy.deepcopy(model.state_dict()), -np.inf, 0
        for _ in range(self.max_epochs):
            model.train()
            for rows in torch.split(torch.randperm(len(train), generator=generator), self.batch_size):
                outputs = torch.split(model(self._frames(train.inputs[rows.numpy()])), sizes, dim=1)
                told = [numbers[rows.to(self.device)] for numbers in right]
                losses = [target.loss(*pair) for target, *pair in zip(targets.values(), outputs, told, strict=True)]
                loss = torch.stack(losses).mean()
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
                optimiser.step(torch.cat([gradient.reshape(-1) for gradient in gradients]))
            score = self._score(model, validation, targets)
            if score > most:
                best, most, stale = copy.deepcopy(model.state_dict()), score, 0
            else:
                stale += 1
            if stale == self.patience:
                break
        model.load_state_dict(best)

    def _score(self, model: nn.Module, frames: LabelledFrames, targets: dict[str, _Target]) -> float:
        outputs = self._outputs(model, frames.inputs, targets)
        scores = [_agreement(target.predicted(output), frames.labels[name])
                  for (name, target), output in zip(targets.items(), outputs, strict=True)]  # fmt: skip
        return float(np.mean(scores))

    def _outputs(self, model: nn.Module, inputs: Array, targets: dict[str, _Target]) -> tuple[Tensor, ...]:
        """What each head says of frames [M, *O], in evaluation mode."""
        model.eval()
        size = 4 * self.batch_size  # without gradients there is room for more
        with torch.no_grad():
            parts = [model(self._frames(inputs[start : start + size])) for start in range(0, len(inputs), size)]
        return torch.split(torch.cat(parts), [target.size for target in targets.values()], dim=1)

    def _frames(self, inputs: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(inputs)).to(self.device)


class _Target(Protocol):
    """What a head is to say of one variable."""

    @property
    def size(self) -> int:
        """Outputs of the head."""

    def numbers(self, labels: Array) -> Tensor:
        """Labels [M] as the loss takes them."""

    def loss(self, output: Tensor, numbers: Tensor) -> Tensor:
        """Of outputs [B, size], a scalar."""

    def predicted(self, output: Tensor) -> Array:
        """Labels [M] that outputs [M, size] stand for."""


class _ClassTarget(NamedTuple):
    classes: Classes

    @property
    def size(self) -> int:
        return len(self.classes.values)

    def numbers(self, labels: Array) -> Tensor:
        return torch.from_numpy(self.classes.numbers(labels))

    def loss(self, output: Tensor, numbers: Tensor) -> Tensor:
        return cross_entropy(output, numbers)

    def predicted(self, output: Tensor) -> Array:
        found: Array = self.classes.values[output.argmax(dim=1).cpu().numpy()]
        return found


class _QuantityTarget(NamedTuple):
    mean: float
    deviation: float

    @property
    def size(self) -> int:
        return 1

    def numbers(self, labels: Array) -> Tensor:
        return torch.from_numpy((labels - self.mean) / self.deviation).float()

    def loss(self, output: Tensor, numbers: Tensor) -> Tensor:
        return 0.5 * (output[:, 0] - numbers).square().mean()

    def predicted(self, output: Tensor) -> Array:
        return output[:, 0].double().cpu().numpy() * self.deviation + self.mean


def _target_of(train: LabelledFrames, name: str) -> _Target:
    labels = train.labels[name]
    if not is_quantity(labels):
        return _ClassTarget(Classes.of(train, name))
    labels = labels.astype(np.float64)
    return _QuantityTarget(float(labels.mean()), float(labels.std()) or 1.0)


def _agreement(predicted: Array, truth: Array) -> float:
    return r_squared(truth, predicted) if is_quantity(truth) else float((predicted == truth).mean())
