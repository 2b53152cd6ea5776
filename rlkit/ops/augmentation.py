"""Changes to pictures that keep their meaning, for learning from pixels (Yarats et al. 2021 and 2022)."""

from __future__ import annotations

import torch
from torch import Tensor


def shifted_images(images: Tensor, offsets: Tensor) -> Tensor:
    """Pictures [B, C, H, W] seen through a window moved by `offsets` [B, 2], rows down and columns right, same type.

    What comes in from beyond an edge repeats the edge's pixels: Yarats et al. 2021 (https://arxiv.org/abs/2004.13649,
    section 4.1) pad each side so and crop at random places; this makes the same pictures without the larger ones.

    >>> shifted_images(torch.tensor([[[[1, 2, 3]]]]), torch.tensor([[0, 1]])).tolist()
    [[[[2, 3, 3]]]]
    """
    count, channels, height, width = images.shape
    axes = (torch.arange(side, device=images.device) for side in (height, width))
    sides = (height - 1, width - 1)
    rows, columns = (
        (axis + offset[:, None]).clamp_(0, last)
        for axis, offset, last in zip(axes, offsets.unbind(dim=1), sides, strict=True)
    )
    places = (rows[:, :, None] * width + columns[:, None, :]).reshape(count, 1, -1)  # [B, 1, H * W]
    pixels = images.reshape(count, channels, -1).gather(2, places.expand(-1, channels, -1))
    return pixels.view(count, channels, height, width)
