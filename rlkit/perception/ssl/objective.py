"""What every self-supervised objective is: networks beside an encoder, a loss, and what follows an update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import gymnasium
import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit import seeding
from rlkit.config import Options
from rlkit.data.clips import Clips
from rlkit.nn.backbones import Backbone, BackboneKind, BackboneOptions, build_backbone
from rlkit.nn.encoders import to_channels
from rlkit.nn.ranks import rank_and_ranks
from rlkit.nn.vit import VisionOptions
from rlkit.perception.views import SMALL_SIDE, augmented, is_coloured, view_policy
from rlkit.types import Metrics


@dataclass(frozen=True)
class PretrainTask:
    """All an objective is told when it is built."""

    observation_space: gymnasium.Space[Any]  # of one picture
    action_space: gymnasium.Space[Any] | None  # None where nobody acted
    pictures: int  # M, how many there are to learn from
    updates: int  # of the whole run, the horizon of schedules
    seed: int
    device: str = "cpu"


class MethodConfig(Options):
    """Options that all methods have; each has defaults of its own for those that its paper names."""

    backbone: BackboneKind = "nature"
    """network that turns a picture into features: nature, atari (for 210x160), impala, resnet, vit"""
    feature_size: int = Field(256, ge=1)
    """width of the features (Anand et al. 2019); a ResNet and a vision transformer have widths of their own"""
    vit_patch: int | None = Field(None, ge=1)
    """side of a vision transformer's patches in pixels, a divisor of both sides; null: at least 7 along the shorter"""
    vit_width: int = Field(192, ge=4)
    """width of a vision transformer's tokens and features (Touvron et al. 2021)"""
    vit_depth: int = Field(4, ge=1)
    """blocks of a vision transformer"""
    vit_heads: int = Field(3, ge=1)
    """attention heads of a vision transformer's block"""
    batch_size: int = Field(256, ge=2)
    """clips in one update"""
    optimizer: Literal["adam", "adamw", "sgd", "lars"] = "adam"
    """sgd and lars with momentum 0.9"""
    learning_rate: float = Field(3e-4, gt=0)
    """step size of the optimiser (Anand et al. 2019)"""
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    """cosine: falls to zero at the end of the run (Loshchilov and Hutter 2017)"""
    warmup_fraction: float = Field(0.0, ge=0, lt=1)
    """part of the run in which the step size rises from zero"""
    weight_decay: float = Field(0.0, ge=0)
    """shrinks weights, not biases and norms: decoupled with adamw, else a part of the gradient"""
    max_grad_norm: float | None = Field(None, gt=0)
    """longest gradient; null: no limit"""


def new_encoder(config: MethodConfig, observation_space: gymnasium.Space[Any], seed: int) -> Backbone:
    """The encoder that a run with these options begins with."""
    assert observation_space.shape is not None
    vision = VisionOptions(config.vit_patch, config.vit_width, config.vit_depth, config.vit_heads)
    options = BackboneOptions(feature_size=config.feature_size, vision=vision)
    return build_backbone(config.backbone, observation_space.shape, seeding.torch_generator(seed, "encoder"), options)


@dataclass(frozen=True, slots=True)
class PictureBatch:
    """B clips of T pictures on the device."""

    pictures: Tensor  # uint8 [B, T, C, H, W]
    index: Tensor  # int64 [B], place of the first picture in its recording
    actions: Tensor | None  # [B, T - 1, *A] between them

    @classmethod
    def of(cls, clips: Clips, device: torch.device) -> PictureBatch:
        """The clips as they are learned from."""
        rows, steps = clips.observations.shape[:2]
        pictures = to_channels(torch.from_numpy(clips.observations).to(device).flatten(0, 1))
        actions = None if clips.actions is None else torch.from_numpy(clips.actions).to(device)
        return cls(pictures.view(rows, steps, *pictures.shape[1:]), torch.from_numpy(clips.index).to(device), actions)

    @property
    def first(self) -> Tensor:
        """The first picture of each clip, uint8 [B, C, H, W]."""
        return self.pictures[:, 0]


ViewsName: TypeAlias = Literal["none", "shift", "crop", "simclr", "moco", "byol"]
"""Policies of two views of one size, see `rlkit.perception.views`."""


class Views:
    """Views of pictures by a named policy; each rank draws for all and takes its part.

    Args:
        name: Of the policy.
        task: With pictures whose colours there are or are not.
        small_views: Of a policy with small crops.
        small_side: Their sides in units of the picture's.
    """

    def __init__(self, name: str, task: PretrainTask, *, small_views: int = 6, small_side: float = SMALL_SIDE) -> None:
        shape = task.observation_space.shape
        assert shape is not None
        self.policy = view_policy(
            name, coloured=is_coloured(shape), small_views=small_views, small_side=small_side
        )  # fmt: skip

    def of(self, pictures: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """A view [B, C, h, w] of uint8 pictures [B, C, H, W] for each augmentation of the policy."""
        return self.policy.views(pictures, generator, part=rank_and_ranks())

    def first_of(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """The policy's first view [B, C, h, w] of uint8 pictures [B, C, H, W], for those that need no second."""
        policy = self.policy
        return augmented(
            pictures, policy.augmentations[0], generator, coloured=policy.coloured, part=rank_and_ranks()
        )  # fmt: skip


class Method(Protocol):
    """The class of an objective, as it is registered."""

    Config: type[MethodConfig]

    def __call__(self, config: Any, encoder: Backbone, task: PretrainTask) -> Objective:
        """The objective around an encoder."""


class Objective(nn.Module, ABC):
    """An encoder and what is learned with it, without an optimiser: whoever has one calls `loss`, then `after_update`.

    Parameters that require gradients are the optimiser's; others (targets, banks, queues, centres) are moved in
    `after_update` only, so that a loss can be asked for any number of times.

    Every subclass is made of its options, an encoder and a task. Weights and draws come from the task's seed, draws on
    the CPU, so that they do not depend on the device.

    Attributes:
        encoder: Network that is learned.
        generator: Source of all that is drawn while learning.
        clip_length: Successive pictures that a loss needs; one unless a subclass says otherwise.
        views: What makes the views of pictures, where there are any.
    """

    Config: ClassVar[type[MethodConfig]]
    views: Views | None = None
    steady: ClassVar[tuple[str, ...]] = ()
    """Modules of it that learn with `learning_rate` itself, whatever the schedule and the warm-up."""

    def __init__(self, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__()
        self.encoder, self.clip_length = encoder, 1
        self.generator = seeding.torch_generator(task.seed, "views")

    @abstractmethod
    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """The loss, a scalar with its graph, and numbers for the log."""

    def after_update(self, progress: float) -> None:  # most have nothing to do
        """Move what no gradient moves; `progress` is the part of the run that is done, 0 … 1."""

    def shown_views(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Views [B, C, h, w] of uint8 pictures [B, C, H, W] as a loss may see them, to be looked at; else empty."""
        return () if self.views is None else self.views.of(pictures, torch.Generator().manual_seed(0))

    @property
    def uninformed_loss(self) -> float | None:
        """The loss of an encoder that tells nothing of its pictures; None where no number is known."""
        return None
