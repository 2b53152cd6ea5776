"""SPR, self-predictive representations: foresee one's own features of the next steps, given the actions.

Schwarzer et al. 2021 (https://arxiv.org/abs/2007.05929), section 2.2: a transition model of two convolutions takes the
encoder's local features and an action to those of the next step, K times over; each prediction is projected, and a
second head foresees the projection that the moving average of encoder and projection makes of what was then observed.
The loss is equation 5, minus the cosines of the K steps, summed.

Deviations
- With `heads: linear`, the paper's, the projection is what the encoder makes of local features itself
  (`Backbone.pooled`), so that its last layer learns too; the paper takes the first layer of its agent's value head,
  which has the same shape. Where no rewards hold against it this collapses, all cosines 1: the default puts heads with
  a batch norm on it, as BYOL's (Grill et al. 2020), which the authors' code has as a choice.
- Local features are not brought to [0, 1], and the transition model does not end in a ReLU: heads see local features as
  `pooled` sees them elsewhere, and those of a vision transformer have any sign. Its batch norm keeps sizes in bounds.
- The moving average keeps 0.99, the paper's value without changed pictures, also where they are changed: the paper's 0
  relies on rewards. Its changes of intensity and its dropout are left out.
- Actions that are numbers become planes as choices do, with their bounds at -1 and 1; the paper has choices only.
- Batches are of 64 clips, 32 in the paper.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit import seeding
from rlkit.errors import UsageError
from rlkit.nn.action_vectors import ActionVectors
from rlkit.nn.backbones import Backbone
from rlkit.nn.flat import initialise_uniform
from rlkit.nn.moving_average import MovingAverage
from rlkit.nn.projection_heads import HeadDesign
from rlkit.ops.self_distillation import spr_loss
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.types import Metrics


class SPRConfig(MethodConfig):
    """Defaults: Schwarzer et al. 2021, unless a field says otherwise."""

    steps: int = Field(5, ge=1)
    """K, steps that are foreseen"""
    views: ViewsName = "shift"
    """how pictures are changed: none, shift, crop, simclr, moco, byol (the first of two unlike views)"""
    transition_width: int = Field(64, ge=1)
    """channels between the transition model's convolutions"""
    heads: Literal["linear", "normalised"] = "normalised"
    """linear: the encoder's last layer projects, a linear one predicts; normalised: two perceptrons with batch norm"""
    head_width: int = Field(512, ge=1)
    """width of the hidden layer of each normalised head (the authors' code)"""
    head_size: int = Field(256, ge=1)
    """width of the normalised projection (the authors' code)"""
    momentum: float = Field(0.99, ge=0, le=1)
    """how much of the slow encoder stays in an update"""
    batch_size: int = Field(64, ge=2)
    """clips in one update"""


class TransitionModel(nn.Module):
    """Local features of the next step, [B, C, h, w] of those of this one and the action's vector [B, A].

    Args:
        channels: C.
        action_size: A; each number becomes a plane of its own beside the channels.
        width: Channels between the two convolutions.
        generator: Source of the weights.
    """

    def __init__(self, channels: int, action_size: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + action_size, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width),
            nn.Conv2d(width, channels, 3, padding=1),
        )  # fmt: skip
        initialise_uniform(self.layers, generator)

    def forward(self, maps: Tensor, action: Tensor) -> Tensor:
        """One step."""
        planes = action[:, :, None, None].expand(-1, -1, *maps.shape[2:])
        found: Tensor = self.layers(torch.cat([maps, planes], dim=1))
        return found


class SPR(Objective):
    """Prediction of one's own features, several steps ahead.

    Args:
        config: Its options.
        encoder: Network to learn, whose features come of its local ones alone.
        task: Pictures, actions and seed.

    Attributes:
        target: The slow encoder.

    Raises:
        UsageError: nobody acted.
        UnsupportedTaskError: actions are of a space that `ActionVectors` does not know.
    """

    Config = SPRConfig
    views: Views

    def __init__(self, config: SPRConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        if task.action_space is None:
            raise UsageError(_NO_ACTIONS)
        self.config, self.views, self.clip_length = config, Views(config.views, task), config.steps + 1
        self.told = ActionVectors(task.action_space)
        weights = seeding.torch_generator(task.seed, "heads")
        self.transition = TransitionModel(encoder.map_shape[0], self.told.size, config.transition_width, weights)
        self.projection, self.prediction = _heads(config, encoder.feature_size, weights)
        self._average = MovingAverage(self._online(), buffers="own")
        self.target = self._average.module

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 5."""
        if batch.actions is None:
            raise UsageError(_NO_ACTIONS)
        steps = self.config.steps
        maps, foreseen = self.encoder.maps(self.views.first_of(batch.first, self.generator)), []
        for action in batch.actions[:, :steps].unbind(dim=1):
            maps = self.transition(maps, self.told(action))
            foreseen.append(maps)
        features = self.encoder.pooled(torch.stack(foreseen, dim=1).flatten(0, 1))
        y_hat = self.prediction(self.projection(features)).unflatten(0, (-1, steps))  # [B, K, D]
        later = batch.pictures[:, 1 : steps + 1].flatten(0, 1)
        with torch.no_grad():
            y = self.target(self.views.first_of(later, self.generator)).unflatten(0, (-1, steps))
        # clips end with their episode at the latest
        return spr_loss(y_hat, y, torch.ones(y.shape[:2], dtype=torch.bool, device=y.device)), {}

    def after_update(self, progress: float) -> None:
        """The slow encoder follows."""
        self._average.update(self._online(), self.config.momentum)

    def _online(self) -> nn.Module:
        """What targets are made by an average of."""
        return nn.Sequential(self.encoder, self.projection)


def _heads(config: SPRConfig, features: int, generator: torch.Generator) -> tuple[nn.Module, nn.Module]:
    """Projection and prediction."""
    if config.heads == "linear":
        return nn.Identity(), HeadDesign((), features).head(features, generator)
    design = HeadDesign((config.head_width,), config.head_size)
    return design.head(features, generator), design.head(config.head_size, generator)


_NO_ACTIONS = (
    "spr foresees what actions lead to, and these pictures came without any: record them on an environment (--env), "
    "give a dataset of episodes, or take a method that needs none, such as atc"
)
