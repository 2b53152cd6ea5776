"""Changes to the colours of pictures that keep their meaning, for learning without labels.

Colour jitter, grey pictures and solarisation are those of SimCLR, BYOL and DINO (Chen et al. 2020,
https://arxiv.org/abs/2002.05709, appendix A; Grill et al. 2020, https://arxiv.org/abs/2006.07733, appendix B). Pixels
lie between 0 and 255, bytes or floats; bytes are rounded once, at the end. Channels are frames one after the other,
each red, green and blue; what is done to one frame of a stack is done to all. Frames without colours can change in
brightness and contrast and be solarised; nothing else here is for them. Nothing here draws.

Deviation: contrast is taken around the mean of the whole stack. With a mean for each frame, what moves in one of them
would change how its still pixels compare with those of the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.ops.augmentation import in_type_of

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in how bright a colour looks (ITU-R BT.601, section 2.5.1)."""
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""What the columns of `jittered_images` change."""


def luma(images: Tensor) -> Tensor:
    """How bright each pixel looks, [B, K, H, W], of K coloured frames [B, 3 K, H, W].

    >>> luma(torch.tensor([100, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)).round(decimals=1).tolist()
    [[[[29.899999618530273]]]]
    """
    red, green, blue = _frames(images).unbind(dim=2)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def grey_images(images: Tensor) -> Tensor:
    """Coloured frames [B, 3 K, H, W] with the luma in the place of all three colours, same shape and type."""
    return in_type_of(images, luma(images).repeat_interleave(3, dim=1))


def jittered_images(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Pictures [B, C, H, W] of other brightness, contrast, saturation and hue, in each picture's own order, same type.

    Brightness multiplies pixels; contrast multiplies their distance from the mean luma of the picture, saturation that
    from their own luma; hue turns the circle of colours, see `hue_shifted`. What leaves the range is clipped each time.

    Args:
        images: The pictures.
        factors: Factors of brightness, contrast and saturation, which 1 leaves as they are, and turns of the hue in
            [-1/2, 1/2], [B, 4]. Frames without colours: the first two, [B, 2], whatever the number of channels; their
            luma are their pixels.
        order: Which column comes first, which next, integer, each row a permutation, of the shape of `factors`.

    >>> image = torch.tensor([200, 40, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    >>> jittered_images(image, torch.tensor([[0.5, 1, 1, 0]]), torch.tensor([[0, 1, 2, 3]])).flatten().tolist()
    [100, 20, 0]
    """
    pixels = images.to(images.dtype if images.is_floating_point() else torch.float32, copy=True)
    factors = factors.to(pixels.dtype)
    for change in order.unbind(dim=1):
        factor = factors.gather(1, change[:, None])
        _blend_(pixels, change, factor, coloured=factors.shape[1] > SATURATION)
        turned = (change == HUE).nonzero()[:, 0]
        if len(turned):
            pixels[turned] = hue_shifted(pixels[turned], factor[turned, 0])
    return in_type_of(images, pixels)


def hue_shifted(images: Tensor, turns: Tensor) -> Tensor:
    """Coloured frames [B, 3 K, H, W] with the hue turned by `turns` [B] of the circle, same shape and type.

    In the hexcone of hue, saturation and value (Smith 1978, https://doi.org/10.1145/800248.807361): the largest and the
    smallest of the three colours stay as large as they are.

    >>> red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    >>> hue_shifted(red, torch.tensor([1 / 3])).flatten().tolist()
    [0, 255, 0]
    """
    frames = _frames(images if images.is_floating_point() else images.float())
    high = frames.amax(dim=2)
    chroma = high - frames.amin(dim=2)
    hue = _hue(frames, high, chroma).add_(turns.to(high.dtype)[:, None, None, None])
    turned = [_of_colour(hue, opposite, high, chroma) for opposite in (3 / 6, 5 / 6, 1 / 6)]
    return in_type_of(images, torch.stack(turned, dim=2).flatten(1, 2))


def solarised_images(images: Tensor) -> Tensor:
    """Pictures whose brighter half of pixels x, from 128 on, is 255 - x, same shape and type.

    >>> solarised_images(torch.tensor([0, 127, 128, 255], dtype=torch.uint8)).tolist()
    [0, 127, 127, 0]
    """
    return torch.minimum(images, 255 - images)


def _blend_(pixels: Tensor, change: Tensor, factor: Tensor, *, coloured: bool) -> None:
    """Mix each picture with what its change goes towards: black, its mean luma or the luma of each pixel; clip it.

    Changes are integers [B], factors [B, 1]; the hue is left alone.
    """
    rest = 1 - factor
    own = torch.where(change[:, None] == HUE, 1.0, factor)[..., None, None]
    towards_mean = torch.where(change[:, None] == CONTRAST, rest, 0.0)[..., None, None]
    grey = luma(pixels) if coloured else pixels
    mean = grey.mean(dim=(1, 2, 3), keepdim=True) * towards_mean
    if not coloured:
        pixels.mul_(own).add_(mean).clamp_(0, 255)
        return
    towards_luma = torch.where(change[:, None] == SATURATION, rest, 0.0)[..., None, None]
    added = grey.mul_(towards_luma).add_(mean)
    _frames(pixels.mul_(own)).add_(added[:, :, None]).clamp_(0, 255)


def _frames(images: Tensor) -> Tensor:
    """A view [B, K, 3, H, W] of [B, 3 K, H, W]."""
    count, channels, height, width = images.shape
    return images.view(count, channels // 3, 3, height, width)


def _hue(frames: Tensor, high: Tensor, chroma: Tensor) -> Tensor:
    """Where a colour stands on the circle in turns, from -1/6: red at 0, green at 1/3, blue at 2/3, grey anywhere."""
    red, green, blue = frames.unbind(dim=2)
    scale = chroma.clamp(min=1e-12).reciprocal_().div_(6)
    of_red = (green - blue).mul_(scale)
    of_green = (blue - red).mul_(scale).add_(2 / 6)
    of_blue = (red - green).mul_(scale).add_(4 / 6)
    # weights of 0 and 1 choose as `where` does, which takes twenty times as long on a CPU
    of_others = of_green.lerp_(of_blue, (high - green).sign_())
    return of_red.lerp_(of_others, (high - red).sign_())


def _of_colour(hue: Tensor, opposite: float, high: Tensor, chroma: Tensor) -> Tensor:
    """One colour of hues: the smallest within a sixth of a turn around the hue `opposite`, the largest from two on."""
    away = hue - opposite
    away.sub_(away.round()).abs_()  # turns, at most 1/2
    return high - away.mul_(-6).add_(2).clamp_(0, 1).mul_(chroma)
