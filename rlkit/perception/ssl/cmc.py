"""CMC, contrastive multiview coding: what two different looks at a picture share (Tian, Krishnan and Isola 2020).

https://arxiv.org/abs/1906.05849. A picture is split into two views that have no channel in common; features of one view
are told by what a memory bank holds of the other view of the same picture, among noise pictures, both ways
(`rlkit.ops.noise_contrastive`, section 3.2). After an update each bank takes in half of what its view has shown.

`split` says what the views are:

- "colours": luma, and the two differences of colour (Y'CbCr, ITU-R BT.601), of each frame;
- "frames": the first and the second half of the frames of a stack;
- "augmentations": two random views of the same picture, for single grey frames, which cannot be split;
- "auto": the first of these that the pictures have.

Deviations
- One encoder takes both views, each as a whole picture without what belongs to the other: of colours, a grey picture,
  and one in which every pixel is brought to medium brightness by adding the same to red, green and blue; of frames, the
  other half is black. The paper has an encoder for each view and joins their features. Here agents get one that takes
  the picture as it is; it has seen only parts of pictures while it learned. Heads are separate.
- The paper's colours are L and ab of CIELAB, which are not linear in the pixels as luma and its differences are.
  Frames of a stack take the place of its pairs of a frame and optical flow.
- "augmentations" is no contrast of channels, but instance discrimination with two views and two banks.
- A batch norm follows each head's linear layer, see `rlkit.perception.ssl.instance_discrimination`.
- Adam in the place of momentum, and no weight decay; 512 noise pictures instead of the 4,096 of the authors' code;
  pictures move by some pixels before they are split, the paper's are cropped and flipped. Z is estimated from the noise
  of the first batch alone.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit import seeding
from rlkit.errors import UsageError
from rlkit.nn.backbones import Backbone
from rlkit.nn.encoders import image_shape
from rlkit.nn.projection_heads import HeadDesign
from rlkit.ops.collapse import collapsed_noise_contrastive_loss
from rlkit.ops.colour import luma
from rlkit.ops.noise_contrastive import multiview_noise_contrastive_loss
from rlkit.perception.ssl.memory_bank import MemoryBank, own_and_noise
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.perception.views import is_coloured
from rlkit.types import Metrics

Split: TypeAlias = Literal["colours", "frames", "augmentations"]
MEDIUM = 128
"""Luma of the view that shows colours alone, what YCbCr's code for no colour is as well (BT.601, section 2.5.3)."""


class CMCConfig(MethodConfig):
    """Defaults: Tian et al. 2020, unless a field says otherwise."""

    split: Literal["auto", "colours", "frames", "augmentations"] = "auto"
    """what the two views are: colours and luma, halves of the frames, two augmentations; auto: what pictures have"""
    views: ViewsName = "shift"
    """how pictures are changed before: none, shift, crop, simclr, moco, byol (the first of two unlike views)"""
    noise: int = Field(512, ge=1)
    """K, pictures that are drawn for each as noise"""
    temperature: float = Field(0.07, gt=0)
    """τ of the logits (as in the authors' code)"""
    bank_momentum: float = Field(0.5, ge=0, lt=1)
    """how much of a row stays when its picture is seen (as in the authors' code)"""
    head_size: int = Field(128, ge=1)
    """width of features and banks (as in the authors' code)"""


class CMC(Objective):
    """Contrast of two parts of the same picture.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures, whose number is that of the banks' rows, and seed.

    Attributes:
        split: What the two views are.
        bank_of_first: What is remembered of first views.
        bank_of_second: What is remembered of second views.

    Raises:
        UsageError: the pictures cannot be split so.
    """

    Config = CMCConfig
    views: Views

    def __init__(self, config: CMCConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        shape = task.observation_space.shape
        assert shape is not None
        self.split = split_for(shape, config.split)
        self._frame_channels = 3 if is_coloured(shape) else 1
        self.config, self.views, self._pictures = config, Views(config.views, task), task.pictures
        heads, banks = (seeding.torch_generator(task.seed, stream) for stream in ("heads", "banks"))
        design = HeadDesign((), config.head_size, last="norm")
        self.heads = nn.ModuleList(design.head(encoder.feature_size, heads) for _ in range(2))
        self.bank_of_first = MemoryBank(task.pictures, config.head_size, banks)
        self.bank_of_second = MemoryBank(task.pictures, config.head_size, banks)
        self._seen: tuple[Tensor, list[Tensor]] | None = None

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """The sum of both directions, the mean over the batch."""
        parts = self.encoder(torch.cat(self._parts(batch.first))).chunk(2)
        features = [head(part) for head, part in zip(self.heads, parts, strict=True)]
        self._seen = batch.index, [each.detach() for each in features]
        index = own_and_noise(batch.index, self._pictures, self.config.noise, self.generator)
        of_first = self.bank_of_second.logits(features[0], index, self.config.temperature)
        of_second = self.bank_of_first.logits(features[1], index, self.config.temperature)
        logits, log_z = zip(of_first, of_second, strict=True)
        return multiview_noise_contrastive_loss(logits, log_z, self._pictures).mean(), {}

    def _parts(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Both views of uint8 pictures, two of [B, C, H, W]."""
        if self.split == "augmentations":
            return self.views.of(pictures, self.generator)
        whole = self.views.first_of(pictures, self.generator)
        return colours_apart(whole) if self.split == "colours" else frames_apart(whole, self._frame_channels)

    def after_update(self, progress: float) -> None:
        """Take in what was seen."""
        assert self._seen is not None
        index, features = self._seen
        for bank, each in zip((self.bank_of_first, self.bank_of_second), features, strict=True):
            bank.update(index, each, self.config.bank_momentum)

    @property
    def uninformed_loss(self) -> float:
        """2 [ln(K + 1) + K ln(1 + 1/K)] with K noise pictures, where each Z is of the same features."""
        return 2 * collapsed_noise_contrastive_loss(self.config.noise)


def split_for(shape: tuple[int, ...], asked: str) -> Split:
    """What pictures of this shape are split into, "auto" resolved.

    Raises:
        UsageError: colours are asked for where there are none, or halves of a single frame.

    >>> split_for((84, 84, 3), "auto"), split_for((4, 84, 84), "auto"), split_for((84, 84), "auto")
    ('colours', 'frames', 'augmentations')
    """
    coloured = is_coloured(shape)
    frames = image_shape(shape)[0] // (3 if coloured else 1)
    able: list[Split] = ["augmentations"]
    if frames > 1:
        able.insert(0, "frames")
    if coloured:
        able.insert(0, "colours")
    found = [split for split in able if asked in ("auto", split)]
    if not found:
        raise UsageError(
            f"split is {asked!r}, and pictures of shape {list(shape)} are {'coloured' if coloured else 'grey'} with "
            f"{frames} frame{'s' * (frames > 1)}; allowed: auto, {', '.join(able)}; or stack frames, or record colours"
        )
    return found[0]


def colours_apart(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Luma without colours and colours of medium luma, two of [B, 3 K, H, W], floats, of K coloured frames.

    Their sum is the picture and `MEDIUM`. Colours at medium luma can lie outside 0 … 255; they are not clipped.

    >>> grey, colour = colours_apart(torch.tensor([100, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1))
    >>> grey.flatten().round().tolist(), colour.flatten().round().tolist()
    ([30.0, 30.0, 30.0], [198.0, 98.0, 98.0])
    """
    grey = luma(pictures).repeat_interleave(3, dim=1)
    return grey, pictures - grey + MEDIUM


def frames_apart(pictures: Tensor, frame_channels: int = 1) -> tuple[Tensor, Tensor]:
    """The earlier half of the frames and the later one, each with zeros for the other, two of [B, C, H, W].

    A frame has `frame_channels` channels; of an odd number the one in the middle goes with the later ones.

    >>> early, late = frames_apart(torch.tensor([5, 6, 7]).view(1, 3, 1, 1))
    >>> early.flatten().tolist(), late.flatten().tolist()
    ([5, 0, 0], [0, 6, 7])
    """
    channels = pictures.shape[1]
    half = channels // frame_channels // 2 * frame_channels
    is_early = (torch.arange(channels) < half).to(pictures.device)[:, None, None]
    return pictures * is_early, pictures * ~is_early
