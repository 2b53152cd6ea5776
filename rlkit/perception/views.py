"""Views of a picture that mean the same, for learning without labels: named policies over `rlkit.ops`.

An `Augmentation` says how one view is made, a `ViewPolicy` how many there are. Their numbers are the papers', or those
of the code that came with them:

- "shift": random shifts by 4 pixels (Yarats et al. 2021, https://arxiv.org/abs/2004.13649, section 4.1);
- "crop": crops alone, of at least a fifth of the picture (He et al. 2020, https://arxiv.org/abs/1911.05722);
- "simclr": Chen et al. 2020, https://arxiv.org/abs/2002.05709, appendix A;
- "moco": Chen et al. 2020, https://arxiv.org/abs/2003.04297 (v2), and SimSiam's, https://arxiv.org/abs/2011.10566;
- "byol": two unlike views, Grill et al. 2020, https://arxiv.org/abs/2006.07733, table 6; also MoCo v3's;
- "swav": SimCLR's, two large crops and small ones, Caron et al. 2020, https://arxiv.org/abs/2006.09882, appendix A;
- "dino": BYOL's, likewise, Caron et al. 2021, https://arxiv.org/abs/2104.14294, section 3.2;
- "none": the picture itself, twice.

They were found on photographs. What an agent sees can lose its meaning where a photograph does not: a crop hides the
ball, a flip turns left into right, a blur of two pixels removes what is one pixel wide. Where frames have no colours,
saturation, hue and grey are left out: of the jitter brightness and contrast remain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from rlkit.errors import ConfigError, UnknownNameError, UsageError
from rlkit.nn.encoders import image_shape
from rlkit.ops.augmentation import (
    blurred_images,
    crop_boxes,
    flipped_images,
    in_type_of,
    resized_crops,
    shifted_images,
)  # fmt: skip
from rlkit.ops.colour import grey_images, jittered_images, solarised_images

BOXES = 10
"""Boxes drawn for each crop, of which the first that fits counts (as torchvision does)."""
SMALL_SIDE = 96 / 224
"""Side of SwAV's and DINO's small crops in units of the large ones'."""
CHUNK = 2**20
"""Pixels times channels that are changed at a time: the floats of a few steps stay in a CPU's cache."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How a view is made of a picture: the changes in their order, each left out by default.

    Attributes:
        shift: Pixels that it moves at most, up or down and left or right.
        crop: Least and largest area of a box that becomes the view, in units of the picture's; None for no crop.
        ratio: Least and largest ratio of the box's columns to its rows, drawn on a logarithmic scale.
        side: Sides of the view in units of the picture's; other than 1 only with a crop.
        flip: Probability of mirroring left and right.
        jitter: Probability of changing brightness, contrast, saturation and hue, in an order that is drawn as well.
        brightness: How far the factor is from 1 at most; also `contrast`, `saturation`.
        contrast: As `brightness`.
        saturation: As `brightness`.
        hue: How far the hue is turned at most, in units of the circle.
        grey: Probability of losing the colours.
        blur: Probability of a Gaussian blur, whose kernel is as wide as a tenth of the view (SimCLR).
        sigma: Least and largest standard deviation of it in pixels.
        solarise: Probability of inverting the brighter half of pixels.
    """

    shift: int = 0
    crop: tuple[float, float] | None = None
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    side: float = 1.0
    flip: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarise: float = 0.0

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError(problems)

    def _problems(self) -> list[str]:
        shares = {
            "flip": self.flip, "jitter": self.jitter, "grey": self.grey, "blur": self.blur, "solarise": self.solarise,
            "brightness": self.brightness, "contrast": self.contrast, "saturation": self.saturation,
        }  # fmt: skip
        found = [f"{name} is {share}, allowed: 0 to 1" for name, share in shares.items() if not 0 <= share <= 1]
        if not 0 <= self.hue <= 0.5:
            found.append(f"hue is {self.hue}, allowed: 0 to 0.5")
        if self.shift < 0:
            found.append(f"shift is {self.shift}, it must be at least 0")
        for name, bounds in (("crop", self.crop), ("ratio", self.ratio), ("sigma", self.sigma)):
            if bounds is not None and not 0 < bounds[0] <= bounds[1]:
                found.append(f"{name} is {bounds}, it must be two positive numbers, the smaller one first")
        if self.crop is not None and self.crop[1] > 1:
            found.append(f"crop is {self.crop}, a box cannot be larger than the picture, which is 1")
        if self.side <= 0 or (self.crop is None and self.side != 1):
            found.append(f"side is {self.side}, it must be positive, and 1 where there is no crop")
        return found

    @property
    def mixes(self) -> bool:
        """Whether pixels get values that are not bytes on the way, after any crop."""
        return self.jitter > 0 or self.grey > 0 or self.blur > 0

    @property
    def needs_colours(self) -> bool:
        """Whether a part of it has no meaning for frames without colours."""
        return self.grey > 0 or (self.jitter > 0 and (self.saturation > 0 or self.hue > 0))

    def without_colours(self) -> Augmentation:
        """The part of it that frames without colours can have."""
        return replace(self, grey=0.0, saturation=0.0, hue=0.0)


@dataclass(frozen=True, slots=True)
class ViewPolicy:
    """Which views are made of each picture.

    Attributes:
        augmentations: One for each view. In a multi-crop the large views come first.
        coloured: Whether channels are frames of red, green and blue one after the other.

    Raises:
        UsageError: pictures have no colours, and a view would change them.
    """

    augmentations: tuple[Augmentation, ...]
    coloured: bool

    def __post_init__(self) -> None:
        if not self.coloured and any(each.needs_colours for each in self.augmentations):
            raise UsageError(
                "a view changes saturation or hue or goes grey, and the pictures have no colours; take "
                "Augmentation.without_colours()"
            )

    def views(
        self, images: Tensor, generator: torch.Generator, *, part: tuple[int, int] = (0, 1)
    ) -> tuple[Tensor, ...]:
        """A view [B, C, h, w] of pictures [B, C, H, W] for each augmentation, of their type, uint8 as a rule.

        Every view of every picture has its own draws, from a generator on the CPU. Which they are does not depend on
        what the pictures show or where they are stored. Where they are part i of n equal parts of a batch that several
        processes share, `part` = (i, n) gives them what they would get in the whole batch.

        >>> policy = view_policy("shift", coloured=False)
        >>> images = torch.arange(25, dtype=torch.uint8).view(1, 1, 5, 5)
        >>> [view.shape for view in policy.views(images, torch.Generator().manual_seed(0))]
        [torch.Size([1, 1, 5, 5]), torch.Size([1, 1, 5, 5])]
        """
        return tuple(
            augmented(images, each, generator, coloured=self.coloured, part=part) for each in self.augmentations
        )


_BYOL = Augmentation(
    crop=(0.08, 1.0), flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=1.0
)
_BYOL_OTHER = replace(_BYOL, blur=0.1, solarise=0.2)
_SIMCLR = replace(_BYOL, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5)
_MOCO = replace(_SIMCLR, crop=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
_SWAV = replace(_SIMCLR, crop=(0.14, 1.0))
_LARGE: dict[str, tuple[Augmentation, Augmentation]] = {
    "none": (Augmentation(), Augmentation()),
    "shift": (Augmentation(shift=4), Augmentation(shift=4)),
    "crop": (Augmentation(crop=(0.2, 1.0)), Augmentation(crop=(0.2, 1.0))),
    "simclr": (_SIMCLR, _SIMCLR),
    "moco": (_MOCO, _MOCO),
    "byol": (_BYOL, _BYOL_OTHER),
    "swav": (_SWAV, _SWAV),
    "dino": (replace(_BYOL, crop=(0.4, 1.0)), replace(_BYOL_OTHER, crop=(0.4, 1.0))),
}
_SMALL: dict[str, Augmentation] = {
    "swav": replace(_SWAV, crop=(0.05, 0.14)),
    "dino": replace(_BYOL, crop=(0.05, 0.4), blur=0.5),
}
POLICIES = tuple(_LARGE)
"""Names that `view_policy` knows."""


def view_policy(name: str, *, coloured: bool, small_views: int = 6, small_side: float = SMALL_SIDE) -> ViewPolicy:
    """The policy of this name, see the module.

    Args:
        name: One of `POLICIES`.
        coloured: As of `ViewPolicy`, see `is_coloured`; where False, only what has a meaning for such frames is left.
        small_views: Small crops of "swav" and "dino", besides the two large ones.
        small_side: Their sides in units of the picture's; 1 for an encoder that takes only one size.

    Raises:
        UnknownNameError: there is no such policy.
    """
    if name not in _LARGE:
        raise UnknownNameError("view policy", name, POLICIES)
    augmentations = _LARGE[name]
    small = (replace(_SMALL[name], side=small_side),) * small_views if name in _SMALL else ()
    if not coloured:
        return ViewPolicy(tuple(each.without_colours() for each in (*augmentations, *small)), coloured)
    return ViewPolicy((*augmentations, *small), coloured)


def is_coloured(shape: tuple[int, ...]) -> bool:
    """Whether pictures of this shape are frames of three channels, alone or [K, ...] in a stack.

    Three grey frames that were stacked as channels look the same, and are taken for one in colours.

    >>> is_coloured((84, 84, 3)), is_coloured((4, 84, 84, 3)), is_coloured((4, 84, 84)), is_coloured((84, 84))
    (True, True, False, False)
    """
    frame = shape[1:] if len(shape) == 4 else shape
    return image_shape(frame)[0] == 3


def augmented(
    images: Tensor, augmentation: Augmentation, generator: torch.Generator, *, coloured: bool,
    part: tuple[int, int] = (0, 1),
) -> Tensor:  # fmt: skip
    """One view [B, C, h, w] of pictures [B, C, H, W], of their type; see `ViewPolicy.views`.

    Raises:
        UsageError: pictures in colours have a number of channels that three does not divide.
    """
    count, channels, height, width = images.shape
    if coloured and channels % 3:
        raise UsageError(f"pictures in colours have {channels} channels, it must be a multiple of 3; see is_coloured")
    number, parts = part
    draws = _drawn(augmentation, count * parts, (height, width), coloured, generator)
    draws = draws.at(slice(number * count, (number + 1) * count))
    if not any(draw is not None for draw in draws):
        return images
    in_chunks = images.is_cpu and (augmentation.mixes or augmentation.crop is not None)
    rows = max(CHUNK // (channels * height * width), 1) if in_chunks else count
    views = [
        _viewed(images[start : start + rows], augmentation, draws.at(slice(start, start + rows)))
        for start in range(0, count, rows)
    ]
    return torch.cat(views) if len(views) > 1 else views[0]


class _Draws(NamedTuple):
    """What was drawn for each of B pictures, on the CPU; None for what does not change."""

    offsets: Tensor | None  # int64 [B, 2]
    boxes: Tensor | None  # int64 [B, 4]
    is_flipped: Tensor | None  # bool [B], as all that follow with "is"
    is_jittered: Tensor | None
    factors: Tensor | None  # [B, 4], without colours [B, 2]
    order: Tensor | None  # int64, as factors
    is_grey: Tensor | None
    is_blurred: Tensor | None
    sigmas: Tensor | None  # [B]
    is_solarised: Tensor | None

    def at(self, rows: slice) -> _Draws:
        """Those of some pictures."""
        return _Draws(*(None if draw is None else draw[rows] for draw in self))


def _drawn(
    augmentation: Augmentation, count: int, size: tuple[int, int], coloured: bool, generator: torch.Generator
) -> _Draws:
    def uniform(bounds: tuple[float, float], *shape: int) -> Tensor:
        return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(count, *shape, generator=generator)

    def chosen(probability: float) -> Tensor | None:
        return uniform((0, 1)) < probability if probability else None

    offsets, boxes, shift = None, None, augmentation.shift
    if shift:
        offsets = torch.randint(-shift, shift + 1, (count, 2), generator=generator)
    if augmentation.crop is not None:
        low, high = augmentation.ratio
        shares, ratios = uniform(augmentation.crop, BOXES), uniform((math.log(low), math.log(high)), BOXES).exp()
        boxes = crop_boxes(shares, ratios, uniform((0, 1), 2), *size)
    is_flipped, is_jittered, factors, order = chosen(augmentation.flip), chosen(augmentation.jitter), None, None
    if is_jittered is not None:
        a, changes = augmentation, 4 if coloured else 2
        around, reach = torch.tensor([1.0, 1, 1, 0]), torch.tensor([a.brightness, a.contrast, a.saturation, a.hue])
        factors = around[:changes] + reach[:changes] * uniform((-1, 1), changes)
        order = uniform((0, 1), changes).argsort(dim=1)
    is_grey, is_blurred = chosen(augmentation.grey), chosen(augmentation.blur)
    sigmas = None if is_blurred is None else uniform(augmentation.sigma)
    return _Draws(
        offsets, boxes, is_flipped, is_jittered, factors, order, is_grey, is_blurred, sigmas,
        chosen(augmentation.solarise),
    )  # fmt: skip


def _viewed(images: Tensor, augmentation: Augmentation, draws: _Draws) -> Tensor:
    """The view of pictures for which all has been drawn; bytes are rounded once, after the last step."""
    device = images.device
    pixels = images.float() if augmentation.mixes and not images.is_floating_point() else images
    if draws.offsets is not None:
        pixels = shifted_images(pixels, draws.offsets.to(device))
    if draws.boxes is not None:
        height, width = (max(round(augmentation.side * side), 1) for side in images.shape[2:])
        pixels = resized_crops(pixels, draws.boxes.to(device), (height, width))
    if draws.is_flipped is not None:
        pixels = flipped_images(pixels, draws.is_flipped.to(device))
    if draws.factors is not None and draws.order is not None:
        pixels = _where(draws.is_jittered, pixels, jittered_images, draws.factors, draws.order)
    pixels = _where(draws.is_grey, pixels, grey_images)
    if draws.sigmas is not None:
        blur = partial(blurred_images, radius=max(min(pixels.shape[2:]) // 20, 1))
        pixels = _where(draws.is_blurred, pixels, blur, draws.sigmas)
    pixels = _where(draws.is_solarised, pixels, solarised_images)
    return in_type_of(images, pixels) if augmentation.mixes else pixels


def _where(chosen: Tensor | None, pixels: Tensor, change: Callable[..., Tensor], *draws: Tensor) -> Tensor:
    """Pictures of which those that were chosen went through `change`, each with its own draws."""
    if chosen is None:
        return pixels
    rows = chosen.nonzero()[:, 0]
    some, own = rows.to(pixels.device), (draw[rows].to(pixels.device) for draw in draws)
    return pixels.index_copy(0, some, change(pixels[some], *own)) if len(rows) else pixels
