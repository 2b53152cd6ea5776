"""Noisy networks: perceptrons whose weights carry learned noise, for exploration (Fortunato et al. 2018).

https://arxiv.org/abs/1706.10295, section 3, factorised Gaussian noise. The noise is an argument, so that acting and
learning say where it comes from, and the same noise gives the same output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from rlkit.nn.mlp import perceptron


class NoisyMLP(nn.Module):
    """Fully connected layers with ReLU between them, whose parameters are μ + σ ⊙ ε.

    Args:
        widths: Width of the input, of each hidden layer and of the output.
        sigma: Initial σ times the root of a layer's fan-in (σ₀; the paper's 0.5).
        generator: Source of the initial weights.
    """

    def __init__(self, widths: Sequence[int], *, sigma: float, generator: torch.Generator) -> None:
        super().__init__()
        self.widths = tuple(widths)
        means, sigmas = [], []
        for fan_in, fan_out in pairwise(widths):
            bound = 1 / math.sqrt(fan_in)
            size = fan_out * (fan_in + 1)
            means.append(torch.empty(size).uniform_(-bound, bound, generator=generator))
            sigmas.append(torch.full((size,), sigma * bound))
        self.mean = nn.Parameter(torch.cat(means))
        self.sigma = nn.Parameter(torch.cat(sigmas))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """Outputs [B, out] for inputs [B, in]; `noise` is ε of every parameter, without it the means act."""
        flat = self.mean if noise is None else torch.addcmul(self.mean, self.sigma, noise)
        return perceptron(x, flat, self.widths)


def draw_noise(widths: Sequence[int], rng: np.random.Generator, device: torch.device) -> Tensor:
    """ε of every parameter of a `NoisyMLP` of these widths, layer by layer weights, then biases.

    Factorised: ε of a weight is f(ε_out) f(ε_in), of a bias f(ε_out), with f(x) = sign(x) √|x| (equations 10 and 11).
    """
    parts = []
    for fan_in, fan_out in pairwise(widths):
        inputs, outputs = _signed_roots(fan_in, rng), _signed_roots(fan_out, rng)
        parts += [torch.outer(outputs, inputs).reshape(-1), outputs]
    return torch.cat(parts).to(device)


def _signed_roots(size: int, rng: np.random.Generator) -> Tensor:
    normal = rng.standard_normal(size, dtype=np.float32)
    return torch.from_numpy(np.sign(normal) * np.sqrt(np.abs(normal)))
