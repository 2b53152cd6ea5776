"""MoCo, momentum contrast: tell the other view of a picture among keys that a slow encoder made (He et al. 2020).

- "moco-v1" (arxiv.org/abs/1911.05722): a query is a view through the encoder and a linear head, its key the other view
  through their moving average; the loss is equation 1 with the queue's keys, those of the last batches, as negatives.
  After an update the average moves (equation 2), and then the batch's keys push the oldest ones out (algorithm 1).
- "moco-v2" (Chen et al. 2020, arxiv.org/abs/2003.04297): the head has a hidden layer, τ is 0.2, the step size falls
  along a cosine; its stronger views are `views: moco`.
- "moco-v3" (Chen, Xie and He 2021, arxiv.org/abs/2104.02057): no queue, the keys are the batch's. Queries go through a
  prediction head besides, both views are queries and keys in turn, the momentum rises to 1 (algorithm 1, section 3).
  With a vision transformer the projection of patches stays as it was drawn (section 4.2).

A queue begins with random directions, which are easily told from keys: until they have been pushed out the loss is too
low. So it is where the slow encoder moves fast (a momentum of 0.99 in short runs): the key is told from those in the
queue by its youth, whatever the picture.

Deviations
- The queue is shorter than the paper's 65,536, and never longer than half of the pictures unless `queue_size` says so:
  keys of the same picture would come up as negatives.
- Adam without weight decay in v1 and v2 in the place of momentum with 1e-4, and v1 without steps in the step size.
- Views move by some pixels by default: crops and colours can hide what an agent has to see.
- No shuffled batch norm: neither the heads of v1 and v2 nor the encoders to choose from have a batch norm. Those in the
  heads of v3 use the rows of all ranks, the average's those of its own pass, as in the authors' code, view by view.
- v3's heads are narrower than 4,096, and its projection has three layers, as for a vision transformer, whatever the
  encoder (a ResNet's has two: `head_layers`). The step size is 3e-4, in the paper 1.5e-4 for batches of 256.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rlkit import seeding
from rlkit.errors import UsageError
from rlkit.nn.backbones import Backbone, VisionBackbone
from rlkit.nn.moving_average import MovingAverage
from rlkit.nn.projection_heads import HeadDesign
from rlkit.nn.ranks import gathered, rank_and_ranks
from rlkit.ops.collapse import collapsed_momentum_contrast_loss, collapsed_symmetric_contrast_loss
from rlkit.ops.contrastive import info_nce, momentum_contrast_logits, queue_places, symmetric_contrast_loss
from rlkit.ops.self_distillation import teacher_momentum
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.types import Metrics

LONGEST_QUEUE = 4096
"""Keys of a queue whose length is not given, 16 batches of 256."""


class MoCoConfig(MethodConfig):
    """Defaults: He et al. 2020, unless a field says otherwise."""

    views: ViewsName = "shift"
    """how views differ: none, shift, crop, simclr, moco, byol"""
    queue_size: int | None = Field(None, ge=1)
    """K, keys that are kept; null: 4,096, or half of the pictures where that is less, and at least a batch"""
    momentum: float = Field(0.999, ge=0, le=1)
    """how much of the slow encoder stays in an update (section 3.2)"""
    temperature: float = Field(0.07, gt=0)
    """τ of the logits (section 3.3)"""
    head_layers: int = Field(1, ge=1)
    """layers of the projection head; 2 in version 2"""
    head_width: int = Field(512, ge=1)
    """width of its hidden layers"""
    head_size: int = Field(128, ge=1)
    """width of its output (section 3.3)"""


class MoCo(Objective):
    """Contrast of a view with a queue of keys.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.

    Attributes:
        slow: Moving average of encoder and head.
        queue: Keys [K, D] of length one, the same on all ranks.
        place: Of the oldest key, which goes next.

    Raises:
        UsageError: the queue is shorter than a batch, or longer than the recording.
    """

    Config: ClassVar[type[MoCoConfig]] = MoCoConfig
    views: Views
    queue: Tensor
    place: Tensor

    def __init__(self, config: MoCoConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.views = config, Views(config.views, task)
        hidden = (config.head_width,) * (config.head_layers - 1)
        design = HeadDesign(hidden, config.head_size, batch_norm=False)
        self.head = design.head(encoder.feature_size, seeding.torch_generator(task.seed, "heads"))
        self._average = MovingAverage(nn.Sequential(encoder, self.head), buffers="own")
        self.slow = self._average.module
        drawn = torch.randn(
            _queue_size(config, task.pictures), config.head_size, generator=seeding.torch_generator(task.seed, "queue")
        )
        self.register_buffer("queue", functional.normalize(drawn, dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self._keys: Tensor | None = None

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 1, the mean over the batch."""
        of_query, of_key = self.views.of(batch.first, self.generator)
        query = self.head(self.encoder(of_query))
        with torch.no_grad():
            key = functional.normalize(self.slow(of_key), dim=1)
        self._keys = key
        logits = momentum_contrast_logits(query, key, self.queue, self.config.temperature)
        return info_nce(logits, 0).mean(), {}

    @torch.no_grad()
    def after_update(self, progress: float) -> None:
        """Move the slow encoder, then put the keys of all ranks into the queue."""
        self._average.update(nn.Sequential(self.encoder, self.head), self.config.momentum)
        assert self._keys is not None
        keys = gathered(self._keys)
        places, place = queue_places(int(self.place), len(keys), len(self.queue))
        self.queue[places.to(keys.device)] = keys
        self.place.fill_(place)

    @property
    def uninformed_loss(self) -> float:
        """ln(K + 1) of K keys."""
        return collapsed_momentum_contrast_loss(len(self.queue))


class MoCoV2Config(MoCoConfig):
    """Defaults: Chen et al. 2020, unless a field says otherwise."""

    temperature: float = Field(0.2, gt=0)
    """τ of the logits (section 3)"""
    head_layers: int = Field(2, ge=1)
    """layers of the projection head; 1 in version 1"""
    learning_rate_schedule: Literal["constant", "cosine"] = "cosine"
    """cosine: falls to zero at the end of the run (section 3)"""


class MoCoV2(MoCo):
    """MoCo with what SimCLR found: a deeper head, a cosine schedule, and stronger views where they make sense."""

    Config = MoCoV2Config


class MoCoV3Config(MethodConfig):
    """Defaults: Chen, Xie and He 2021, as for a vision transformer, unless a field says otherwise."""

    views: ViewsName = "shift"
    """how views differ: none, shift, crop, simclr, moco, byol (the paper's)"""
    momentum: float = Field(0.99, ge=0, le=1)
    """of the slow encoder at the start, from where it rises to 1 along half a cosine (as in the authors' code)"""
    temperature: float = Field(0.2, gt=0)
    """τ of the logits (in the authors' code 1 with a ResNet)"""
    head_layers: int = Field(3, ge=1)
    """layers of the projection head (section 5; 2 with a ResNet)"""
    head_width: int = Field(512, ge=1)
    """width of the hidden layers of both heads"""
    head_size: int = Field(256, ge=1)
    """width of their outputs (section 5)"""
    frozen_patches: bool = True
    """with a vision transformer: leave the projection of patches as it was drawn (section 4.2)"""
    optimizer: Literal["adam", "adamw", "sgd", "lars"] = "adamw"
    """sgd and lars with momentum 0.9; lars with a ResNet"""
    weight_decay: float = Field(0.1, ge=0)
    """decoupled (section 5; 1.5e-6 with lars)"""
    learning_rate_schedule: Literal["constant", "cosine"] = "cosine"
    """cosine: falls to zero at the end of the run (section 5)"""
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    """part of the run in which the step size rises from zero (section 5: 40 of 300 epochs)"""


class MoCoV3(Objective):
    """Contrast of two views among those of a batch, with a slow encoder.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.

    Attributes:
        slow: Moving average of encoder and projection.
    """

    Config = MoCoV3Config
    views: Views

    def __init__(self, config: MoCoV3Config, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.views = config, Views(config.views, task)
        if config.frozen_patches and isinstance(encoder, VisionBackbone):
            encoder.transformer.embed.requires_grad_(False)
        weights, width, size = seeding.torch_generator(task.seed, "heads"), config.head_width, config.head_size
        projection = HeadDesign((width,) * (config.head_layers - 1), size, last="norm")
        self.projection = projection.head(encoder.feature_size, weights)
        self.prediction = HeadDesign((width,), size, last="norm").head(size, weights)
        self._average = MovingAverage(nn.Sequential(encoder, self.projection), buffers="own")
        self.slow = self._average.module

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """2τ (ctr(q₁, k₂) + ctr(q₂, k₁)) of algorithm 1."""
        first, second = self.views.of(batch.first, self.generator)
        queries = self._query(first), self._query(second)
        with torch.no_grad():  # view by view: batch norms see one kind at a time
            keys = gathered(self.slow(first)), gathered(self.slow(second))
        return symmetric_contrast_loss(queries, keys, self.config.temperature, rank_and_ranks()[0] * len(first)), {}

    def _query(self, view: Tensor) -> Tensor:
        query: Tensor = self.prediction(self.projection(self.encoder(view)))
        return query

    def after_update(self, progress: float) -> None:
        """Move the slow encoder."""
        momentum = teacher_momentum(self.config.momentum, 1.0, progress)
        self._average.update(nn.Sequential(self.encoder, self.projection), momentum)

    @property
    def uninformed_loss(self) -> float:
        """4τ ln N of N pictures."""
        return collapsed_symmetric_contrast_loss(self.config.batch_size, self.config.temperature)


def _queue_size(config: MoCoConfig, pictures: int) -> int:
    """Keys of the queue."""
    if config.queue_size is None:
        return max(min(LONGEST_QUEUE, pictures // 2), config.batch_size)
    if config.queue_size < config.batch_size:
        raise UsageError(
            f"queue_size is {config.queue_size}, a batch has {config.batch_size} keys: take at least as many, or null"
        )
    if config.queue_size > pictures:
        raise UsageError(
            f"queue_size is {config.queue_size}, there are {pictures} pictures: the query's own would be among the "
            "negatives; take at most as many, record more (--frames), or null"
        )
    return config.queue_size
