"""A backbone under a core: pictures come and go as flat rows, like any observation of a rollout."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rlkit.nn.backbones import Backbone

AT_ONCE = 256
"""Pictures encoded at once where nobody wants a gradient, so that a rollout of any length needs little memory."""


class PictureEncoder(nn.Module):
    """Features of pictures that come as rows of pixels [B, C · H · W], in the order of the backbone's shape.

    >>> from rlkit.nn.backbones import build_backbone
    >>> backbone = build_backbone("impala", (8, 8, 3), torch.Generator().manual_seed(0))
    >>> PictureEncoder(backbone)(torch.zeros(5, 192, dtype=torch.uint8)).shape
    torch.Size([5, 256])
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone, self.feature_size = backbone, backbone.feature_size

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, feature_size]."""
        pictures = x.view(-1, *self.backbone.shape)
        if torch.is_grad_enabled() or len(pictures) <= AT_ONCE:
            features: Tensor = self.backbone(pictures)
            return features
        parts = [pictures[start : start + AT_ONCE] for start in range(0, len(pictures), AT_ONCE)]
        return torch.cat([self.backbone(part) for part in parts])

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """None: convolutions attend to nothing."""
        return {}
