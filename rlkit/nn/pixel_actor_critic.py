"""Networks for continuous control from pixels (Yarats et al. 2022, https://arxiv.org/abs/2107.09645, section 3.1).

One encoder feeds the actor and twin critics; each of them begins with a narrow trunk of its own. Weights start
orthogonal (Saxe et al. 2014, https://arxiv.org/abs/1312.6120), convolutions with gain √2, and biases zero, as in the
authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rlkit.errors import UnsupportedTaskError
from rlkit.nn.backbones import Backbone
from rlkit.nn.mlp import MLP

SMALLEST_PICTURE = 15
"""Pixels a side from which on the encoder has an output."""


class PixelEncoder(nn.Module):
    """Four convolutions 3x3 of 32 channels with ReLU, the first with stride 2.

    Args:
        shape: Channels, height and width of a picture.
        generator: Source of the initial weights, on the CPU.

    Raises:
        UnsupportedTaskError: pictures are too small.

    >>> PixelEncoder((9, 84, 84), torch.Generator().manual_seed(0)).feature_size
    39200
    """

    def __init__(self, shape: tuple[int, int, int], generator: torch.Generator) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < SMALLEST_PICTURE:
            raise UnsupportedTaskError(too_small(height, width))
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 3, stride=2), nn.ReLU(),
            nn.Conv2d(32, 32, 3), nn.ReLU(),
            nn.Conv2d(32, 32, 3), nn.ReLU(),
            nn.Conv2d(32, 32, 3), nn.ReLU(),
            nn.Flatten(),
        )  # fmt: skip
        initialise_orthogonal(self.layers, generator)
        self.feature_size = 32 * math.prod((side - 3) // 2 - 5 for side in (height, width))

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, feature_size] of uint8 pictures [B, C, H, W]; pixels go from -0.5 to 0.5."""
        pixels = images.contiguous(memory_format=torch.channels_last)  # faster on a CPU, see `ConvolutionEncoder`
        features: Tensor = self.layers(pixels * (1 / 255) - 0.5)
        return features


class PixelFeatures(nn.Module):
    """An encoder that ends in a trunk, under a core: pictures come as rows of pixels [B, C · H · W], channels first.

    Args:
        encoder: Of pictures [B, C, H, W].
        shape: Channels, height and width of a picture.
        trunk: Width of the features.
        generator: Source of the trunk's weights.
    """

    def __init__(
        self, encoder: PixelEncoder | Backbone, shape: tuple[int, int, int], trunk: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.encoder, self.shape, self.feature_size = encoder, shape, trunk
        self.trunk = trunk_layers(encoder.feature_size, trunk)
        initialise_orthogonal(self.trunk, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, trunk] in (-1, 1)."""
        features: Tensor = self.trunk(self.encoder(x.reshape(-1, *self.shape)))
        return features

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """None: convolutions attend to nothing."""
        return {}


class PixelActor(nn.Module):
    """Actions [B, A] in [-1, 1] from what the encoder found: a trunk, then an MLP with tanh."""

    def __init__(
        self, encoded: int, trunk: int, hidden: Sequence[int], actions: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.trunk = trunk_layers(encoded, trunk)
        self.head = MLP(trunk, hidden, actions, output="tanh", generator=generator)
        initialise_orthogonal(self, generator)

    def forward(self, encoded: Tensor) -> Tensor:
        """Actions [B, A] for features [B, encoded]."""
        actions: Tensor = self.head(self.trunk(encoded))
        return actions


class PixelCritics(nn.Module):
    """Two values of an action from what the encoder found: one trunk, then an MLP each."""

    def __init__(
        self, encoded: int, trunk: int, hidden: Sequence[int], actions: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.trunk = trunk_layers(encoded, trunk)
        self.members = nn.ModuleList(MLP(trunk + actions, hidden, 1, generator=generator) for _ in range(2))
        initialise_orthogonal(self, generator)

    def forward(self, encoded: Tensor, action: Tensor) -> Tensor:
        """Values [2, B] for features [B, encoded] and actions [B, A]."""
        inputs = torch.cat((self.trunk(encoded), action), dim=1)
        return torch.stack([member(inputs).squeeze(1) for member in self.members])


def too_small(height: int, width: int) -> str:
    """Why pictures of this size cannot be encoded."""
    return (
        f"its encoder needs pictures of at least {SMALLEST_PICTURE} x {SMALLEST_PICTURE} pixels, these are "
        f"{height} x {width}; enlarge them with --wrap resize-observation"
    )


def trunk_layers(inputs: int, outputs: int) -> nn.Sequential:
    """A linear layer whose outputs are normalised and squashed into (-1, 1)."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.Tanh())


def initialise_orthogonal(module: nn.Module, generator: torch.Generator) -> None:
    """Make weights orthogonal, of convolutions with gain √2, and biases zero; layer norms stay as they are."""
    with torch.no_grad():
        for layer in module.modules():
            gain = math.sqrt(2) if isinstance(layer, nn.Conv2d) else 1.0
            if isinstance(layer, MLP):
                pairs = layer.layer_views()
            elif isinstance(layer, (nn.Linear, nn.Conv2d)) and layer.bias is not None:
                pairs = ((layer.weight, layer.bias),)
            else:
                continue
            for weight, bias in pairs:
                nn.init.orthogonal_(weight, gain, generator=generator)
                bias.zero_()
