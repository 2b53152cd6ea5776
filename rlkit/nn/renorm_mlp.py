"""Multilayer perceptron with batch renormalisation before every layer (Ioffe 2017, https://arxiv.org/abs/1702.03275).

While training, a layer's input is normalised by the statistics of its batch, after a warm-up corrected towards their
running means; while acting, by the running means alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from rlkit.nn.flat import initialise_uniform
from rlkit.types import Floats

LARGEST_SCALE, LARGEST_SHIFT = 3.0, 5.0  # r_max and d_max of Ioffe 2017, section 4
EPSILON = 1e-3  # of Ioffe's experiments and of Bhatt et al. 2024


class RenormMLP(nn.Module):
    """Fully connected layers with ReLU between them, each after a batch renormalisation; linear output.

    `statistics` and `batches` are no parameters, but as much a part of what was learned.

    Args:
        in_features: Width of the input.
        hidden: Width of each hidden layer.
        out_features: Width of the output.
        generator: Source of the initial weights, on the CPU.
        momentum: Weight of a new batch in the running statistics.
        warm_up: Training batches normalised by their own statistics alone.

    >>> net = RenormMLP(3, (16,), 2, generator=torch.Generator().manual_seed(0), momentum=0.01, warm_up=100)
    >>> net(torch.zeros(5, 3), trains=False).shape
    torch.Size([5, 2])
    """

    statistics: Tensor
    batches: Tensor

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        *,
        generator: torch.Generator,
        momentum: float,
        warm_up: int,
    ) -> None:
        super().__init__()
        widths = (in_features, *hidden, out_features)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.scales = nn.ParameterList(torch.ones(width) for width in widths[:-1])
        self.shifts = nn.ParameterList(torch.zeros(width) for width in widths[:-1])
        self.register_buffer("statistics", torch.stack([torch.zeros(sum(widths[:-1])), torch.ones(sum(widths[:-1]))]))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self._widths = widths[:-1]
        self._momentum, self._warm_up = momentum, warm_up
        initialise_uniform(self, generator)

    def forward(self, x: Tensor, *, trains: bool) -> Tensor:
        """Outputs [B, out] of rows [B, in]; `trains`: by the batch's statistics, which the running ones then follow."""
        corrects = trains and int(self.batches) > self._warm_up
        for index, (layer, running) in enumerate(self._layers_and_running()):
            x = torch.relu(x) if index else x
            x = self._normalised_by_batch(x, running, corrects) if trains else _normalised(x, running)
            x = layer(x * self.scales[index] + self.shifts[index])
        if trains:
            self.batches += 1
        return x

    def _layers_and_running(self) -> Iterator[tuple[nn.Linear, Tensor]]:
        """Each layer with the running mean and variance [2, width] of its input."""
        running = self.statistics.split_with_sizes(self._widths, dim=1)
        return zip((cast(nn.Linear, layer) for layer in self.layers), running, strict=True)

    def _normalised_by_batch(self, x: Tensor, running: Tensor, corrects: bool) -> Tensor:
        """Ioffe 2017, algorithm 1; the variance is the unbiased one, as in sb3-contrib."""
        variance, mean = torch.var_mean(x, dim=0)
        deviation = (variance + EPSILON).sqrt()
        normalised = (x - mean) / deviation
        with torch.no_grad():
            if corrects:
                running_deviation = (running[1] + EPSILON).sqrt()
                scale = (deviation / running_deviation).clamp_(1 / LARGEST_SCALE, LARGEST_SCALE)
                shift = ((mean - running[0]) / running_deviation).clamp_(-LARGEST_SHIFT, LARGEST_SHIFT)
            running.lerp_(torch.stack((mean, variance)), self._momentum)
        return normalised * scale + shift if corrects else normalised

    def numpy_forward(self, x: Floats) -> Floats:
        """Outputs [N, out] for inputs [N, in] by the running statistics, without torch's dispatcher, for acting."""
        if not self.statistics.is_cpu:
            with torch.no_grad():
                outputs: Floats = self(torch.from_numpy(x).to(self.statistics.device), trains=False).cpu().numpy()
            return outputs
        for index, (layer, running) in enumerate(self._layers_and_running()):
            x = np.maximum(x, 0.0) if index else x
            mean, variance = running.numpy()
            scale = self.scales[index].detach().numpy() / np.sqrt(variance + np.float32(EPSILON))
            x = (x - mean) * scale + self.shifts[index].detach().numpy()
            x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        return x


def _normalised(x: Tensor, running: Tensor) -> Tensor:
    return (x - running[0]) / (running[1] + EPSILON).sqrt()
