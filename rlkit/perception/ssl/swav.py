"""SwAV: predict a view's assignment to prototypes from another view (Caron et al. 2020, arxiv.org/abs/2006.09882).

A projection of each view is compared with K prototypes, unit vectors that are learned. Sinkhorn's iterations assign
the large views, B pictures of all ranks at a time, to all prototypes in equal shares (equations 3 to 5), which no
constant projection can do better than at random; each assignment is then predicted from all other views by a softmax
over its cosines with the prototypes (equations 2 and 6). Projections of earlier batches, in a queue, help to find the
shares where B is not much larger than K. Prototypes stay as they are in the first updates: their gradient is dropped.

Encoders here have no batch norm, so that all views of one size go through in one pass; so does the head, whose batch
norm sees them all, as in the authors' code.

Deviations
- Adam in the place of LARS, which large batches need (`optimizer: lars` has it), and a constant step size instead of a
  cosine.
- Views move by some pixels by default: crops and colours can hide what an agent has to see. `views: swav` has the
  paper's large and small crops; for an encoder that takes one size (nature, atari, impala), small crops are enlarged to
  it and cost as much as large ones.
- 300 prototypes of the paper's 3,000: what an agent sees is less varied than ImageNet, and a prototype needs rows to
  be assigned. The head is narrower than 2,048.
- When the queue and the prototypes start is a part of the run; the paper counts epochs and updates. The queue's
  projections are assigned by the prototypes of now, as in the authors' code, and are used once it is full.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.projection_heads import HeadDesign, Prototypes
from rlkit.nn.ranks import gathered, rank_and_ranks
from rlkit.ops.collapse import collapsed_softmax_loss
from rlkit.ops.sinkhorn import prototype_scores, sinkhorn, swav_loss
from rlkit.perception.ssl.multi_crop import features_of_views, small_side_of
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.types import Metrics

ASSIGNED = 2
"""Views that are assigned, the large crops."""


class SwAVConfig(MethodConfig):
    """Defaults: Caron et al. 2020, unless a field says otherwise."""

    views: ViewsName | Literal["swav"] = "shift"
    """how views differ: none, shift, crop, simclr, moco, byol, or swav with small crops"""
    small_views: int = Field(6, ge=0)
    """small crops of each picture, with `views: swav`"""
    prototypes: int = Field(300, ge=2)
    """K, a tenth of the paper's"""
    temperature: float = Field(0.1, gt=0)
    """τ of the prediction"""
    epsilon: float = Field(0.05, gt=0)
    """weight of the entropy in assignments; where the loss stays at ln K, lower it"""
    iterations: int = Field(3, ge=1)
    """of Sinkhorn's algorithm"""
    queue: int = Field(3840, ge=0)
    """projections of each large view that are kept, with batches of 256 (section 4.1); 0: none"""
    queue_start: float = Field(0.0375, ge=0, le=1)
    """part of the run after which the queue is filled; 15 of 400 epochs (section 4.1)"""
    frozen_prototypes: float = Field(0.005, ge=0, le=1)
    """part of the run in which prototypes stay as they are; an epoch of 200 (the authors' code)"""
    head_width: int = Field(512, ge=1)
    """width of the head's hidden layer"""
    head_size: int = Field(128, ge=1)
    """width of projections"""
    weight_decay: float = Field(1e-6, ge=0)
    """appendix A"""


class SwAV(Objective):
    """Swapped prediction of assignments.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.
    """

    Config = SwAVConfig
    views: Views
    progress: Tensor
    queue: Tensor
    queued: Tensor
    _frozen: Tensor | None

    def __init__(self, config: SwAVConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config = config
        self.views = Views(config.views, task, small_views=config.small_views, small_side=small_side_of(encoder))
        generator = seeding.torch_generator(task.seed, "heads")
        self.head = HeadDesign((config.head_width,), config.head_size).head(encoder.feature_size, generator)
        self.prototypes = Prototypes(config.head_size, config.prototypes, generator)
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))
        self.register_buffer("queue", torch.zeros(ASSIGNED, config.queue, config.head_size))  # the newest last
        self.register_buffer("queued", torch.zeros((), dtype=torch.int64))
        self._newest, self._frozen = self.queue[:, :0], None

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equations 2 and 6, the mean over pairs of views."""
        views = self.views.of(batch.first, self.generator)
        features = features_of_views(self.encoder, views)  # [V, B, F]
        z = self.head(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        is_frozen = float(self.progress) < self.config.frozen_prototypes
        fixed = self.prototypes.weight.detach()
        self._frozen = fixed.clone() if is_frozen else None
        assignments = self._assignments(z[:ASSIGNED].detach())
        scores = prototype_scores(z, fixed if is_frozen else self.prototypes.weight)
        return swav_loss(scores, assignments, temperature=self.config.temperature), {}

    @torch.no_grad()
    def _assignments(self, z: Tensor) -> Tensor:
        """Of this rank's rows [G, B, D], [G, B, K], found among those of all ranks and the queue."""
        config, rows, rank = self.config, z.shape[1], rank_and_ranks()[0]
        self._newest = gathered(z.transpose(0, 1)).transpose(0, 1)
        is_used = 0 < config.queue == int(self.queued)
        known = torch.cat((self.queue, self._newest), dim=1) if is_used else self._newest
        found = sinkhorn(
            prototype_scores(known, self.prototypes.weight), epsilon=config.epsilon, iterations=config.iterations
        )  # fmt: skip
        return found[:, -self._newest.shape[1] :][:, rank * rows : (rank + 1) * rows]

    @torch.no_grad()
    def after_update(self, progress: float) -> None:
        """Bring prototypes back to length 1, and put the batch's projections into the queue."""
        if self._frozen is not None:  # a weight decay moves them also without a gradient
            self.prototypes.weight.copy_(self._frozen)
        self.prototypes.normalise_()
        if self.config.queue and float(self.progress) >= self.config.queue_start:
            self.queue.copy_(torch.cat((self.queue, self._newest), dim=1)[:, -self.config.queue :])
            self.queued.add_(self._newest.shape[1]).clamp_(max=self.config.queue)
        self.progress.fill_(progress)

    @property
    def uninformed_loss(self) -> float:
        """What K prototypes that are all as near cost, ln K."""
        return collapsed_softmax_loss(self.config.prototypes)
