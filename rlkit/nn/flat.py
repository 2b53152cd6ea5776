"""All parameters of a module as one vector: an optimiser step, a copy and a Polyak average are one call each."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def flatten_parameters(module: nn.Module) -> Tensor:
    """Move the parameters of `module` into one new vector and return it: changing either changes both.

    Call it after the module has reached its device, and not again.

    >>> layer = nn.Linear(2, 1)
    >>> flat = flatten_parameters(layer)
    >>> _ = flat.zero_()
    >>> float(layer(torch.ones(1, 2)))
    0.0
    """
    parameters = list(module.parameters())
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    start = 0
    for parameter in parameters:
        stop = start + parameter.numel()
        parameter.data = flat[start:stop].view_as(parameter)
        start = stop
    return flat


def flat_gradient(output: Tensor, module: nn.Module, gradient: Tensor) -> Tensor:
    """Gradient in the layout of `flatten_parameters`, given the gradient by the module's `output`."""
    parts = torch.autograd.grad(output, list(module.parameters()), gradient)
    return torch.cat([part.reshape(-1) for part in parts])


def initialise_uniform(module: nn.Module, generator: torch.Generator, gain: float = 1.0) -> None:
    """Draw weights of linear and convolutional layers within gain/sqrt(fan_in), biases within 1/sqrt(fan_in).

    A gain of 1 is PyTorch's own choice; √6 keeps the variance through layers with ReLU (He et al. 2015,
    https://arxiv.org/abs/1502.01852, section 2.2).
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            with torch.no_grad():
                layer.weight.uniform_(-gain * bound, gain * bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=generator)
