"""Encoders of one observation: pictures through convolutions, vectors through fully connected layers.

Nature CNN: Mnih et al. 2015 (methods, "Model architecture"). IMPALA CNN: Espeholt et al. 2018 (https://arxiv.org/abs/
1802.01561, figure 3, the deep one without its LSTM).
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlkit.errors import UnsupportedTaskError
from rlkit.nn.flat import initialise_uniform

ImageEncoder: TypeAlias = Literal["nature", "impala"]
SMALLEST_NATURE = 36
"""Pixels a side from which on the Nature CNN has an output."""


def is_image(space: gymnasium.Space[Any]) -> bool:
    """Whether observations are pictures: uint8 from 0 to 255, [H, W], [C, H, W], [H, W, C], or a stack of these."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or not 2 <= len(space.shape) <= 4:
        return False
    return bool((space.low == 0).all() and (space.high == 255).all())


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width of pictures of this shape, as `to_channels` lays them out.

    Channels are last where that is the shortest axis, else first; a stack of frames becomes more channels.

    >>> image_shape((4, 84, 84)), image_shape((48, 48, 3)), image_shape((4, 48, 48, 3)), image_shape((48, 48))
    ((4, 84, 84), (3, 48, 48), (12, 48, 48), (1, 48, 48))
    """
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) == 4:
        channels, height, width = image_shape(shape[1:])
        return (shape[0] * channels, height, width)
    if _colours_last(shape):
        return (shape[2], shape[0], shape[1])
    return (shape[0], shape[1], shape[2])


def to_channels(images: Tensor) -> Tensor:
    """Pictures [B, *shape] as [B, C, H, W], the same type."""
    shape = tuple(images.shape[1:])
    if len(shape) == 3 and _colours_last(shape):
        images = images.permute(0, 3, 1, 2)
    elif len(shape) == 4 and _colours_last(shape[1:]):
        images = images.permute(0, 1, 4, 2, 3)
    return images.reshape(len(images), *image_shape(shape))


def _colours_last(shape: tuple[int, ...]) -> bool:
    return shape[2] < min(shape[:2])


class ConvolutionEncoder(nn.Module):
    """Features [B, feature_size] of uint8 pictures [B, *shape], through the layers of `build`."""

    def __init__(self, kind: ImageEncoder, shape: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        channels, height, width = image_shape(shape)
        if kind == "nature" and min(height, width) < SMALLEST_NATURE:
            raise UnsupportedTaskError(
                f"the nature encoder needs pictures of at least {SMALLEST_NATURE} x {SMALLEST_NATURE} pixels, these "
                f"are {height} x {width}; use --agent.encoder impala, or --wrap resize-observation"
            )
        self.layers = nature_layers(channels) if kind == "nature" else impala_layers(channels)
        # With PyTorch's narrower weights a ball of a few pixels hardly reaches the output: on frames of Pong the values
        # of DQN begin to depend on what is shown after 4,000 updates instead of 2,000.
        initialise_uniform(self.layers, generator, gain=math.sqrt(6) if kind == "nature" else 1.0)
        with torch.no_grad():
            self.feature_size = self.layers(torch.zeros(1, channels, height, width)).shape[1]

    def forward(self, obs: Tensor) -> Tensor:
        """Features [B, feature_size]; pixels are divided by 255."""
        # Channels innermost in memory: convolutions on a CPU are a fifth to a half faster, and bytes are cheap to move.
        pixels = to_channels(obs).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.layers(pixels * (1 / 255))
        return features


def nature_layers(channels: int) -> nn.Sequential:
    """The three convolutions of Mnih et al. 2015."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 8, stride=4), nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(),
        nn.Flatten(),
    )  # fmt: skip


def impala_layers(channels: int, widths: tuple[int, ...] = (16, 32, 32)) -> nn.Sequential:
    """Three stages of a convolution, a maximum over 3x3 with stride 2, and two residual blocks."""
    stages: list[nn.Module] = []
    for width in widths:
        stages += [
            nn.Conv2d(channels, width, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1),
            ResidualBlock(width), ResidualBlock(width),
        ]  # fmt: skip
        channels = width
    return nn.Sequential(*stages, nn.ReLU(), nn.Flatten())


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), all of the same width (Espeholt et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape [B, width, H, W]."""
        y: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + y
