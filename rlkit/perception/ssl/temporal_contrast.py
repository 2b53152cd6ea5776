"""ATC, augmented temporal contrast: tell what is seen some steps later among what the batch's others see later.

Stooke et al. 2021 (https://arxiv.org/abs/2009.08319), section 3: the encoder's features c of an observation go through
a residual perceptron, p = c + h(c); the positive is c̄ of the observation k steps later in the same episode, by the
encoder's moving average; logits are pᵀ W c̄ (equation 1's InfoNCE), and both observations are shifted at random.

Deviations
- The encoder's features are the code c; in the paper a linear layer makes c of them and is left behind.
- Every clip gives one pair; the authors' code for Atari takes 16 successive pairs out of each of 32 clips, so that
  most negatives are of the anchor's own episode.
- Defaults are those of the authors' code for Atari, but for batches of 256 instead of 512; for DeepMind Control k is 1
  and every picture is shifted.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.flat import initialise_uniform
from rlkit.nn.moving_average import MovingAverage
from rlkit.nn.projection_heads import HeadDesign
from rlkit.nn.ranks import gathered, rank_and_ranks
from rlkit.ops.collapse import collapsed_softmax_loss
from rlkit.ops.contrastive import bilinear_logits, info_nce, own_columns
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.types import Metrics


class TemporalContrastConfig(MethodConfig):
    """Defaults: Stooke et al. 2021, as in their code for Atari, unless a field says otherwise."""

    steps: int = Field(3, ge=0)
    """k, how many steps later the positive is seen"""
    views: ViewsName = "shift"
    """how pictures are changed: none, shift, crop, simclr, moco, byol (the first of two unlike views)"""
    view_probability: float = Field(0.1, ge=0, le=1)
    """share of pictures that are changed; 1 for DeepMind Control"""
    hidden: int = Field(512, ge=1)
    """width of the residual perceptron's hidden layer"""
    momentum: float = Field(0.99, ge=0, le=1)
    """how much of the slow encoder stays in an update"""
    learning_rate: float = Field(1e-3, gt=0)
    """step size of the optimiser"""
    learning_rate_schedule: Literal["constant", "cosine"] = "cosine"
    """cosine: falls to zero at the end of the run"""
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    """part of the run in which the step size rises from zero: 1,000 of 20,000 updates"""
    max_grad_norm: float | None = Field(10.0, gt=0)
    """longest gradient; null: no limit"""


class TemporalContrast(Objective):
    """Contrast of an observation with a later one.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.

    Attributes:
        target: The slow encoder.
    """

    Config = TemporalContrastConfig
    views: Views

    def __init__(self, config: TemporalContrastConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.views, self.clip_length = config, Views(config.views, task), config.steps + 1
        size, weights = encoder.feature_size, seeding.torch_generator(task.seed, "heads")
        self.predictor = HeadDesign((config.hidden,), size, batch_norm=False).head(size, weights)  # h
        self.product = nn.Linear(size, size, bias=False)  # W
        initialise_uniform(self.product, weights)
        self._average = MovingAverage(encoder, buffers="own")
        self.target = self._average.module

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 1, the mean over the clips."""
        c = self.encoder(self._changed(batch.first))
        with torch.no_grad():
            later = gathered(self.target(self._changed(batch.pictures[:, self.config.steps])))
        logits = bilinear_logits(c + self.predictor(c), later, self.product.weight)
        return info_nce(logits, own_columns(logits, rank_and_ranks()[0] * len(c))).mean(), {}

    def _changed(self, pictures: Tensor) -> Tensor:
        """Pictures, of which a share is seen through a view of its own."""
        views = self.views.first_of(pictures, self.generator)
        (rank, ranks), rows = rank_and_ranks(), len(pictures)
        drawn = torch.rand(rows * ranks, generator=self.generator)[rank * rows : (rank + 1) * rows]
        is_changed = (drawn < self.config.view_probability).to(pictures.device)
        return torch.where(is_changed[:, None, None, None], views, pictures)

    def after_update(self, progress: float) -> None:
        """The slow encoder follows."""
        self._average.update(self.encoder, self.config.momentum)

    @property
    def uninformed_loss(self) -> float:
        """That of N clips, ln N."""
        return collapsed_softmax_loss(self.config.batch_size)
