"""Changes to pictures that keep their meaning: where pixels come from (for their colours see `colour`).

Random shifts are those of learning from pixels (Yarats et al. 2021 and 2022); crops, flips and blur those of learning
without labels (Chen et al. 2020, https://arxiv.org/abs/2002.05709, appendix A). Frames that are stacked as channels
move together. Nothing here draws: every picture's own parameters are arguments. Bytes are rounded once, at the end;
pictures of floats, with the same range 0 to 255, keep their type.

Deviations: crops are bilinear, where DINO's are bicubic; where no box that was drawn fits, the crop is the whole
picture, where torchvision takes the largest central box of an allowed ratio.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


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


def crop_boxes(shares: Tensor, ratios: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    """Boxes (first row, first column, rows, columns) in pictures of height x width, int64 [B, 4].

    Szegedy et al. 2015 (https://arxiv.org/abs/1409.4842, section 6) draw the area and the ratio of the sides. Some
    draws do not fit, so there are K for each picture, of which the first that fits counts.

    Args:
        shares: Area of the box in units of the picture's, [B, K].
        ratios: Columns by rows, [B, K].
        places: Where the box lies among the places it can take, down and right, in [0, 1), [B, 2].
        height: Rows of the pictures.
        width: Their columns.

    >>> crop_boxes(torch.tensor([[0.25]]), torch.tensor([[1.0]]), torch.tensor([[0.0, 0.999]]), 4, 4).tolist()
    [[0, 2, 2, 2]]
    """
    areas = shares * (height * width)
    rows, columns = (areas / ratios).sqrt().round().long(), (areas * ratios).sqrt().round().long()
    fits = (rows >= 1) & (rows <= height) & (columns >= 1) & (columns <= width)
    first = fits.long().argmax(dim=1, keepdim=True)
    whole = ~fits.any(dim=1)
    rows = torch.where(whole, height, rows.gather(1, first)[:, 0])
    columns = torch.where(whole, width, columns.gather(1, first)[:, 0])
    top = (places[:, 0] * (height - rows + 1)).long()
    left = (places[:, 1] * (width - columns + 1)).long()
    return torch.stack((top, left, rows, columns), dim=1)


def resized_crops(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes cut out of pictures [B, C, H, W] and brought to `size` by bilinear interpolation, [B, C, *size], same type.

    Pixels are areas, not points: pixel i of n lies at (i + 1/2) / n of the box. Only the box is seen, its outermost
    pixels go on beyond it. Where a box is larger than `size`, what lies between the sampled pixels is left out.

    Args:
        images: The pictures.
        boxes: First row, first column, rows and columns of each box, integer [B, 4], as of `crop_boxes`.
        size: Rows and columns of the result.

    >>> resized_crops(torch.tensor([[[[0.0, 4.0, 8.0]]]]), torch.tensor([[0, 0, 1, 2]]), (1, 4)).tolist()
    [[[[0.0, 1.0, 3.0, 4.0]]]]
    """
    count, channels, height, width = images.shape
    top, left, rows, columns = boxes.unbind(dim=1)
    dtype = _floating(images[:0]).dtype
    above, below, share = _neighbours(top, rows, size[0], dtype)
    lines = images.reshape(-1, width)
    first_line = torch.arange(0, len(lines), height, device=images.device).view(count, channels, 1)
    upper, lower = (
        lines.index_select(0, (first_line + line[:, None]).flatten()).to(dtype).view(count, channels * size[0], width)
        for line in (above, below)
    )
    strips = upper.lerp_(lower, share.repeat(1, channels)[:, :, None])  # [B, C * rows, W]
    before, after, share = _neighbours(left, columns, size[1], dtype)
    near, far = (strips.gather(2, place[:, None].expand(-1, channels * size[0], -1)) for place in (before, after))
    return in_type_of(images, near.lerp_(far, share[:, None]).view(count, channels, *size))


def flipped_images(images: Tensor, flipped: Tensor) -> Tensor:
    """Pictures [B, C, H, W], mirrored left to right where `flipped`, bool [B], same type.

    >>> flipped_images(torch.tensor([[[[1, 2, 3]]]]), torch.tensor([True])).tolist()
    [[[[3, 2, 1]]]]
    """
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


def blurred_images(images: Tensor, sigmas: Tensor, radius: int) -> Tensor:
    """Pictures [B, C, H, W] through a Gaussian of standard deviation `sigmas` [B] in pixels, same type.

    The Gaussian ends `radius` pixels from its middle, and its weights sum to 1. Beyond an edge its pixels go on.
    """
    count, channels, height, width = images.shape
    weights = gaussian_weights(sigmas, radius).repeat_interleave(channels, dim=0)[:, None]  # [B * C, 1, 2 radius + 1]
    pixels = _floating(images).reshape(1, count * channels, height, width)  # a convolution has one kernel a channel
    weights = weights.to(pixels.dtype)
    down, across = (0, 0, radius, radius), (radius, radius, 0, 0)
    for kernel, pad in ((weights[:, :, :, None], down), (weights[:, :, None], across)):
        pixels = functional.conv2d(functional.pad(pixels, pad, "replicate"), kernel, groups=count * channels)
    return in_type_of(images, pixels.view_as(images))


def gaussian_weights(sigmas: Tensor, radius: int) -> Tensor:
    """Weights exp(-i² / 2σ²) for i from -radius to radius, over their sum, [B, 2 radius + 1], of σ [B].

    >>> gaussian_weights(torch.tensor([1e-3]), 1).tolist()
    [[0.0, 1.0, 0.0]]
    """
    distance = torch.arange(-radius, radius + 1, device=sigmas.device, dtype=sigmas.dtype)
    return torch.softmax(-0.5 * (distance / sigmas[:, None]).square(), dim=1)


def in_type_of(images: Tensor, pixels: Tensor) -> Tensor:
    """`pixels`, rounded where `images` are bytes, in their type."""
    if images.is_floating_point():
        return pixels
    # a detour that a CPU takes at four times the speed of the way from floats to bytes
    return pixels.round().to(torch.int16).to(images.dtype)


def _neighbours(start: Tensor, length: Tensor, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Index before and after each of `count` places spread over [start, start + length), and the share of the latter.

    Each [B, count], of starts and lengths [B]; shares are of `dtype`.
    """
    index = torch.arange(count, device=start.device, dtype=dtype) + 0.5
    last = (length - 1)[:, None]
    place = (index * (length.to(dtype)[:, None] / count) - 0.5).clamp_(min=0).minimum(last.to(dtype))
    before = place.long()
    after = (before + 1).minimum(last)
    return before + start[:, None], after + start[:, None], place - before


def _floating(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float()
