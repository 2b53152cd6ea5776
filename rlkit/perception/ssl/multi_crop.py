"""Large and small crops of a picture through one encoder (Caron et al. 2020, section 3.2, arxiv.org/abs/2006.09882)."""

from __future__ import annotations

import math
from itertools import groupby

import torch
from torch import Tensor, nn

from rlkit.nn.backbones import Backbone, VisionBackbone
from rlkit.perception.views import SMALL_SIDE


def small_side_of(encoder: Backbone) -> float:
    """Sides of small crops in units of the picture's: about 96 / 224, or 1 for an encoder of one size.

    For a vision transformer they are whole patches, in both directions.
    """
    if not encoder.any_size:
        return 1.0
    if isinstance(encoder, VisionBackbone):
        patches = math.gcd(*encoder.transformer.grid)
        return max(round(SMALL_SIDE * patches), 1) / patches
    return SMALL_SIDE


def features_of_views(encoder: nn.Module, views: tuple[Tensor, ...]) -> Tensor:
    """Features [V, B, F] of views [B, C, h, w]: one pass for all that follow each other with the same size."""
    groups = [torch.cat(list(group)) for _, group in groupby(views, key=lambda view: view.shape)]
    features = torch.cat([encoder(group) for group in groups])
    return features.view(len(views), -1, features.shape[1])
