"""Sizes of small crops by encoder, and views of several sizes through one encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlkit.nn.backbones import Backbone, BackboneOptions, build_backbone
from rlkit.nn.vit import VisionOptions
from rlkit.perception.ssl.multi_crop import features_of_views, small_side_of


def backbone(kind: Any, height: int = 16, width: int = 16, patch: int | None = None) -> Backbone:
    vision = VisionOptions(patch=patch, width=16, depth=1, heads=2)
    options = BackboneOptions(feature_size=4, width=16, vision=vision)
    return build_backbone(kind, (1, height, width), torch.Generator().manual_seed(0), options)


@pytest.mark.parametrize(
    ("encoder", "side"),
    [
        (backbone("impala"), 1.0),  # takes one size
        (backbone("resnet"), 96 / 224),
        (backbone("vit", patch=2), 3 / 8),  # 3.43 of 8 patches, whole ones
        (backbone("vit", 24, 16, patch=4), 1 / 2),  # of 6 x 4 patches: 3 x 2, the only part of both
        (backbone("vit", 12, 16, patch=4), 1.0),  # of 3 x 4 patches nothing is whole in both directions
    ],
)
def test_small_crops_are_of_a_size_that_the_encoder_takes(encoder: Backbone, side: float) -> None:
    assert small_side_of(encoder) == pytest.approx(side)
    small = [max(round(side * pixels), 1) for pixels in encoder.shape[1:]]
    pictures = torch.zeros(2, 1, *small, dtype=torch.uint8)
    assert encoder(pictures).shape == (2, encoder.feature_size)


def test_views_of_one_size_share_a_pass_and_keep_their_order() -> None:
    encoder, passes = backbone("resnet"), []
    encoder.register_forward_hook(lambda _module, inputs, _output: passes.append(tuple(inputs[0].shape)))
    generator = torch.Generator().manual_seed(1)
    sides = (16, 16, 8, 8, 8)
    views = tuple(torch.randint(256, (3, 1, side, side), generator=generator, dtype=torch.uint8) for side in sides)
    together = features_of_views(encoder, views)
    assert passes == [(6, 1, 16, 16), (9, 1, 8, 8)]
    torch.testing.assert_close(together, torch.stack([encoder(view) for view in views]), rtol=1e-4, atol=1e-5)
