"""First and last layers of detectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlkit.perception.detection.detector import Detections


class Embedding(nn.Sequential):
    """Features [..., width] of one frame's [..., C]: linear, normalised, ReLU, dropout (An et al. 2023)."""

    def __init__(self, inputs: int, width: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__(drawn_linear(inputs, width, generator), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout))


class ClassHead(nn.Module):
    """Logits of the present and of H frames to come, each by a linear layer on the same features.

    Args:
        width: Of the features.
        classes: K.
        horizon: H.
        generator: Source of the first weights.
    """

    def __init__(self, width: int, classes: int, horizon: int, generator: torch.Generator) -> None:
        super().__init__()
        self.classes, self.horizon = classes, horizon
        self.now = drawn_linear(width, classes, generator)
        self.future = drawn_linear(width, horizon * classes, generator) if horizon else None

    def forward(self, x: Tensor) -> Detections:
        """Logits [..., K] and [..., H, K] of features [..., width]."""
        shape = (*x.shape[:-1], self.horizon, self.classes)
        future = x.new_zeros(shape) if self.future is None else self.future(x).view(shape)
        return Detections(self.now(x), future)


def drawn_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with weights uniform within 1/sqrt(inputs), as torch draws them, and biases zero."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator)
        layer.bias.zero_()
    return layer
