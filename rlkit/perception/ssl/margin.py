"""Pairs with a margin: pictures that belong together close, others apart (Hadsell, Chopra and LeCun 2006).

https://doi.org/10.1109/CVPR.2006.100. Two pictures go through the same network; similar ones are drawn together,
dissimilar ones pushed apart until they are a margin away (equation 4). Similar are two views of a picture or, with
`positives: next`, a picture and one that follows it in its episode. Each first picture makes two pairs: with its own
second one, and with that of another clip of the batch, which lies a step further on that is drawn for every batch.

Where two pictures are at the same place the loss has no direction that leads apart: features that are all alike stay
so. A loss that stays at m²/4 says it.

Deviations
- Half of the pairs are similar; the paper lists all pairs of a data set, most of which are dissimilar.
- The network ends in a linear layer to 32 numbers, which is left behind; the paper's end in 2 or 3, to be drawn.
- With `positives: next` a picture that happens to come soon after the first counts as dissimilar, if another clip of
  the batch has it.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.projection_heads import HeadDesign
from rlkit.nn.ranks import gathered, rank_and_ranks
from rlkit.ops.collapse import collapsed_margin_loss
from rlkit.ops.contrastive import margin_pair_loss
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.types import Metrics


class MarginConfig(MethodConfig):
    """Defaults: Hadsell et al. 2006, unless a field says otherwise."""

    positives: Literal["views", "next"] = "views"
    """what belongs together: two views of a picture, or a picture and a later one of its episode"""
    steps: int = Field(1, ge=1)
    """with next: how many steps later"""
    views: ViewsName = "shift"
    """how views differ: none, shift, crop, simclr, moco, byol"""
    margin: float = Field(1.0, gt=0)
    """m, the distance from which on dissimilar pictures are left alone"""
    head_size: int = Field(32, ge=1)
    """width of what distances are measured in"""


class Margin(Objective):
    """Pairs that belong together, and pairs that do not.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.
    """

    Config = MarginConfig
    views: Views

    def __init__(self, config: MarginConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.views = config, Views(config.views, task)
        self.clip_length = 1 + config.steps if config.positives == "next" else 1
        design = HeadDesign((), config.head_size)
        self.head = design.head(encoder.feature_size, seeding.torch_generator(task.seed, "heads"))

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 4, the mean over pairs."""
        a, b = self.head(self.encoder(torch.cat(self._pairs(batch)))).chunk(2)
        similar = (torch.arange(2 * len(a)) < len(a)).to(a.device)
        pairs = torch.cat([a, a]), torch.cat([b, self._of_others(b)])
        return margin_pair_loss(*pairs, similar, self.config.margin), {}

    def _pairs(self, batch: PictureBatch) -> tuple[Tensor, ...]:
        """Two similar pictures [B, C, H, W] of each clip."""
        if self.config.positives == "views":
            return self.views.of(batch.first, self.generator)
        later = batch.pictures[:, self.config.steps]
        return self.views.first_of(batch.first, self.generator), self.views.first_of(later, self.generator)

    def _of_others(self, b: Tensor) -> Tensor:
        """For each row [B, D] that of another clip among those of all ranks."""
        rank, ranks = rank_and_ranks()
        further = int(torch.randint(1, len(b) * ranks, (), generator=self.generator))
        others = gathered(b).roll(-further, 0)
        return others[rank * len(b) : (rank + 1) * len(b)]

    @property
    def uninformed_loss(self) -> float:
        """m²/4."""
        return collapsed_margin_loss(self.config.margin)
