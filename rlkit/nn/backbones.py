"""Encoders of pictures that give local features besides one vector, for learning without labels.

Kinds:

- "nature": the three convolutions of Mnih et al. 2015 and a linear layer, as Anand et al. 2019
  (https://arxiv.org/abs/1906.08226, appendix) probe Atari;
- "atari": the four convolutions that they use for frames of 210 x 160 pixels; local features are the third one's;
- "impala": the deep network of Espeholt et al. 2018 (https://arxiv.org/abs/1802.01561) without its LSTM;
- "resnet": `rlkit.nn.resnet`; "vit": `rlkit.nn.vit`.

Deviations: Anand et al. give the third convolution of "nature" 32 channels, here it has Mnih et al.'s 64, and start
weights orthogonal, here they are uniform; the features of "impala" are linear, without the last ReLU.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from rlkit.errors import UnknownNameError, UnsupportedTaskError, UsageError
from rlkit.nn.encoders import SMALLEST_NATURE, image_shape, impala_layers, nature_layers, to_channels
from rlkit.nn.flat import initialise_uniform
from rlkit.nn.resnet import Norm, resnet_layers
from rlkit.nn.vit import VisionOptions, VisionTransformer

BackboneKind: TypeAlias = Literal["nature", "atari", "impala", "resnet", "vit"]
SMALLEST: dict[BackboneKind, int] = {"nature": SMALLEST_NATURE, "atari": 76, "impala": 1, "resnet": 8, "vit": 1}
"""Pixels a side from which on each kind has an output."""
LARGE_STEM = 64
"""Pixels a side from which on a ResNet's stem divides them by four."""
RELU_GAIN, LINEAR_GAIN = math.sqrt(6), math.sqrt(3)
"""Gains of `initialise_uniform` that keep the variance through a layer, with and without a ReLU after it."""


@dataclass(frozen=True, slots=True)
class BackboneOptions:
    """What a backbone is made of, besides its kind.

    Attributes:
        feature_size: Of "nature", "atari" and "impala"; 256 as in Anand et al. A ResNet's features are 8 times its
            width, a vision transformer's as wide as its tokens.
        width: Of a ResNet's first stage.
        norm: Of a ResNet.
        vision: Of a vision transformer.
    """

    feature_size: int = 256
    width: int = 64
    norm: Norm = "group"
    vision: VisionOptions = field(default_factory=VisionOptions)


class Backbone(nn.Module, ABC):
    """Local features and one vector of features of uint8 pictures.

    Pictures are [B, *shape], in any layout of `rlkit.nn.encoders.to_channels`, or [B, C, H, W] already, as views are.
    Pixels are divided by 255; floats between 0 and 255 do as well.

    Attributes:
        shape: Of one observation.
        map_shape: Channels, rows and columns of the local features of such an observation.
        feature_size: Of the vector.
        any_size: Whether pictures [B, C, H, W] may be larger or smaller than `shape` says.
    """

    shape: tuple[int, ...]
    map_shape: tuple[int, int, int]
    feature_size: int
    any_size: bool

    @abstractmethod
    def maps(self, obs: Tensor) -> Tensor:
        """Local features [B, C, h, w]."""

    @abstractmethod
    def pooled(self, maps: Tensor) -> Tensor:
        """Features [B, feature_size] of local features [B, C, h, w]."""

    def maps_and_features(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Local features [B, C, h, w] and features [B, feature_size], in one pass."""
        maps = self.maps(obs)
        return maps, self.pooled(maps)

    def forward(self, obs: Tensor) -> Tensor:
        """Features [B, feature_size]."""
        return self.maps_and_features(obs)[1]

    def pixels(self, obs: Tensor) -> Tensor:
        """Pictures as floats [B, C, H, W] from 0 to 1.

        Raises:
            UsageError: they are neither [B, *shape] nor [B, C, H, W].
        """
        channels, height, width = image_shape(self.shape)
        if tuple(obs.shape[1:]) == self.shape:
            obs = to_channels(obs)
        elif obs.dim() != 4 or obs.shape[1] != channels or not (self.any_size or obs.shape[2:] == (height, width)):
            sides = "any height, any width" if self.any_size else f"{height}, {width}"
            raise UsageError(
                f"the backbone takes pictures {['B', *self.shape]} or [B, {channels}, {sides}], these are "
                f"{list(obs.shape)}"
            )
        # channels innermost in memory, as in `ConvolutionEncoder`
        return obs.contiguous(memory_format=torch.channels_last) * (1 / 255)


class ConvolutionBackbone(Backbone):
    """Convolutions that end in local features, and what makes one vector of them."""

    def __init__(self, shape: tuple[int, ...], trunk: nn.Module, summary: nn.Module, *, any_size: bool) -> None:
        super().__init__()
        self.shape, self.trunk, self.summary, self.any_size = shape, trunk, summary, any_size
        self.map_shape = map_shape_of(trunk, image_shape(shape))
        self.feature_size = _probed(summary, self.map_shape).shape[1]

    def maps(self, obs: Tensor) -> Tensor:
        """Local features [B, C, h, w], after the last nonlinearity."""
        maps: Tensor = self.trunk(self.pixels(obs))
        return maps

    def pooled(self, maps: Tensor) -> Tensor:
        """Features [B, feature_size] of local features."""
        features: Tensor = self.summary(maps)
        return features


class VisionBackbone(Backbone):
    """A vision transformer: local features are its patches' tokens, features their mean or the class token."""

    def __init__(self, shape: tuple[int, ...], options: VisionOptions, generator: torch.Generator) -> None:
        super().__init__()
        self.shape, self.feature_size = shape, options.width
        self.transformer = VisionTransformer(*image_shape(shape), options, generator)
        self.any_size = options.positions != "learned"
        self.map_shape = (options.width, *self.transformer.grid)

    def tokens(self, obs: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens [B, L, D] of all patches, or of those in `keep` [B, L] alone; a class token comes first, L + 1."""
        tokens: Tensor = self.transformer(self.pixels(obs), keep)
        return tokens

    def maps(self, obs: Tensor) -> Tensor:
        """Tokens of the patches where they lie, [B, D, rows, columns]."""
        return self.maps_and_features(obs)[0]

    def pooled(self, maps: Tensor) -> Tensor:
        """The mean of local features.

        Raises:
            UsageError: the features are the class token, which is not among them.
        """
        if self.transformer.class_token is not None:
            raise UsageError("features are the class token, which maps do not hold: call maps_and_features or forward")
        return maps.mean(dim=(2, 3))

    def maps_and_features(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Backbone`."""
        pixels = self.pixels(obs)
        tokens = self.transformer(pixels)
        has_class = self.transformer.class_token is not None
        patches = tokens[:, 1:] if has_class else tokens
        rows = pixels.shape[2] // self.transformer.patch
        maps = patches.transpose(1, 2).reshape(len(tokens), self.feature_size, rows, -1)
        return maps, tokens[:, 0] if has_class else self.pooled(maps)


def build_backbone(
    kind: BackboneKind, shape: tuple[int, ...], generator: torch.Generator, options: BackboneOptions | None = None
) -> Backbone:
    """A new backbone.

    Args:
        kind: See the module.
        shape: Of one observation, a picture as `rlkit.nn.encoders.is_image` knows them.
        generator: Source of the weights, on the CPU.
        options: What it is made of; None for the defaults.

    Raises:
        UnknownNameError: there is no such kind.
        UnsupportedTaskError: observations are no pictures, or these are too small.

    >>> backbone = build_backbone("nature", (84, 84, 3), torch.Generator().manual_seed(0))
    >>> backbone.map_shape, backbone(torch.zeros(2, 84, 84, 3, dtype=torch.uint8)).shape
    ((64, 7, 7), torch.Size([2, 256]))
    """
    _require_large_enough(kind, shape)
    options = BackboneOptions() if options is None else options
    if kind == "vit":
        return VisionBackbone(shape, options.vision, generator)
    trunk = _trunk(kind, image_shape(shape), options)
    # impala as in `ConvolutionEncoder`
    initialise_uniform(trunk, generator, gain=1.0 if kind == "impala" else RELU_GAIN)
    if kind == "resnet":
        return ConvolutionBackbone(shape, trunk, _MeanOverPlaces(), any_size=True)
    summary = _linear_summary(kind, map_shape_of(trunk, image_shape(shape)), options.feature_size)
    initialise_uniform(summary[:-1], generator, gain=RELU_GAIN)
    initialise_uniform(summary[-1], generator, gain=LINEAR_GAIN)
    return ConvolutionBackbone(shape, trunk, summary, any_size=False)


def own_copy(backbone: Backbone) -> Backbone:
    """A copy whose parameters are learned."""
    return copy.deepcopy(backbone).requires_grad_(True).train()


def map_shape_of(layers: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Shape [C, h, w] of what layers make of one input [C, H, W]."""
    channels, height, width = _probed(layers, shape).shape[1:]
    return channels, height, width


def _trunk(kind: BackboneKind, shape: tuple[int, int, int], options: BackboneOptions) -> nn.Module:
    channels = shape[0]
    if kind == "nature":
        return nature_layers(channels)[:-1]  # without its Flatten, as the next
    if kind == "impala":
        return impala_layers(channels)[:-1]
    if kind == "resnet":
        return resnet_layers(channels, options.width, options.norm, small=min(shape[1:]) < LARGE_STEM)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 8, stride=4), nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
        nn.Conv2d(64, 128, 4, stride=2), nn.ReLU(),
    )  # fmt: skip


def _linear_summary(kind: BackboneKind, map_shape: tuple[int, int, int], feature_size: int) -> nn.Sequential:
    channels, height, width = map_shape
    if kind == "atari":
        last = nn.Linear(64 * (height - 2) * (width - 2), feature_size)
        return nn.Sequential(nn.Conv2d(channels, 64, 3), nn.ReLU(), nn.Flatten(), last)
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, feature_size))


class _MeanOverPlaces(nn.Module):
    """[B, C] of [B, C, h, w]."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))


def _probed(layers: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """What layers give for one input of zeros, with no trace in their statistics."""
    was_training = layers.training
    with torch.no_grad():
        output: Tensor = layers.eval()(torch.zeros(1, *shape))
    layers.train(was_training)
    return output


def _require_large_enough(kind: BackboneKind, shape: tuple[int, ...]) -> None:
    if kind not in SMALLEST:
        raise UnknownNameError("backbone", kind, get_args(BackboneKind))
    if not 2 <= len(shape) <= 4:
        raise UnsupportedTaskError(
            f"backbones are for pictures, [H, W], [C, H, W], [H, W, C] or a stack of these; observations are "
            f"{list(shape)}"
        )
    _, height, width = image_shape(shape)
    smallest = SMALLEST[kind]
    if min(height, width) < smallest:
        raise UnsupportedTaskError(
            f"the {kind} backbone needs pictures of at least {smallest} x {smallest} pixels, these are {height} x "
            f"{width}; take the impala backbone, or --wrap resize-observation"
        )
