"""Residual networks for pictures (He et al. 2016, https://arxiv.org/abs/1512.03385): eighteen layers, any width."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from rlkit.errors import UsageError

Norm: TypeAlias = Literal["group", "batch"]
GROUP = 16
"""Channels of a group of GroupNorm (Wu and He 2018, https://arxiv.org/abs/1803.08494, table 3)."""


def resnet_layers(channels: int, width: int, norm: Norm, *, small: bool) -> nn.Sequential:
    """The convolutions of ResNet-18: a stem and four stages of two blocks, of widths 1, 2, 4 and 8 times `width`.

    Args:
        channels: Of the pictures.
        width: Of the first stage, a multiple of 16; 64 in the paper.
        norm: "batch" as in the paper; "group" sees one picture at a time, so that features do not depend on the rest
            of the batch.
        small: Whether the stem keeps the size of pictures, a 3x3 convolution with stride 1, as SimCLR's does for
            pictures of 32 pixels a side (Chen et al. 2020, https://arxiv.org/abs/2002.05709, appendix B.9); else it
            divides each side by four.

    Raises:
        UsageError: the width or the norm is not one of those.
    """
    if width < GROUP or width % GROUP:
        raise UsageError(f"width of a ResNet is {width}, it must be a multiple of {GROUP}")
    if norm not in get_args(Norm):
        raise UsageError(f"norm of a ResNet is {norm!r}, allowed: {', '.join(get_args(Norm))}")
    kernel, stride = (3, 1) if small else (7, 2)
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False), _norm(width, norm), nn.ReLU(),
    ]  # fmt: skip
    if not small:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    before = width
    for stage in range(4):
        after = width * 2**stage
        layers += [BasicBlock(before, after, 1 if stage == 0 else 2, norm), BasicBlock(after, after, 1, norm)]
        before = after
    return nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """relu(x + two convolutions of x), with a projection of x where its size or width changes."""

    def __init__(self, before: int, after: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.first_norm, self.second_norm = _norm(after, norm), _norm(after, norm)
        self.projection: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.projection = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), _norm(after, norm))

    def forward(self, x: Tensor) -> Tensor:
        """[B, after, H / stride, W / stride] of [B, before, H, W]."""
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.projection(x) + self.second_norm(self.second(y)))


def _norm(width: int, norm: Norm) -> nn.Module:
    return nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(width // GROUP, width)
