"""BYOL: predict what a slowly moving teacher makes of the other view (Grill et al. 2020, arxiv.org/abs/2006.07733).

Encoder, projection head and prediction head of one view against a teacher's encoder and head of the other, both ways
(equation 2, section 3.1). The teacher is the moving average of encoder and projection (equation 1), with a momentum
that rises to 1 (section 3.3). Nothing pushes pictures apart: features that are all alike have the least loss, 0, so no
loss tells that they have collapsed; look at the spread of features.

Encoders here have no batch norm, so both views go through each in one pass. Heads have one, and see one view after the
other, as in the authors' code: a view is normalised among its own kind. The teacher's normalises by its own batches.

Deviations
- Adam in the place of LARS, which large batches need (`optimizer: lars` has it), and a constant step size instead of a
  warm-up and a cosine.
- Views move by some pixels by default: crops and colours can hide what an agent has to see (`views: byol` has the
  paper's).
- Heads are narrower than the paper's 4,096 and 256. The teacher begins as a copy of the student; in the authors' code
  its weights are drawn anew.
- The momentum is the schedule's at the end of an update, the authors' at its begin: it is one update ahead.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.moving_average import MovingAverage
from rlkit.nn.projection_heads import HeadDesign
from rlkit.ops.self_distillation import byol_loss, teacher_momentum
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.types import Metrics


class BYOLConfig(MethodConfig):
    """Defaults: Grill et al. 2020, unless a field says otherwise."""

    views: ViewsName = "shift"
    """how views differ: none, shift, crop, simclr, moco, byol"""
    momentum: float = Field(0.99, ge=0, le=1)
    """of the teacher at the start, from where it rises to 1 along half a cosine (section 3.3; 0.99 for short runs)"""
    head_width: int = Field(512, ge=1)
    """width of the hidden layers of both heads"""
    head_size: int = Field(256, ge=1)
    """width of their outputs (section 3.3)"""
    weight_decay: float = Field(1.5e-6, ge=0)
    """section 3.3"""


class BYOL(Objective):
    """Prediction of a moving average's projection.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.
    """

    Config = BYOLConfig
    views: Views

    def __init__(self, config: BYOLConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.views = config, Views(config.views, task)
        design = HeadDesign((config.head_width,), config.head_size, last="no-bias")
        generator = seeding.torch_generator(task.seed, "heads")
        self.projection = design.head(encoder.feature_size, generator)
        self.prediction = design.head(config.head_size, generator)
        self._encoder_average = MovingAverage(encoder, buffers="own")
        self._projection_average = MovingAverage(self.projection, buffers="own")
        self.teacher_encoder = self._encoder_average.module
        self.teacher_projection = self._projection_average.module

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 2 both ways, in [0, 8]."""
        views = torch.cat(self.views.of(batch.first, self.generator))
        p = _view_by_view(nn.Sequential(self.projection, self.prediction), self.encoder(views))
        with torch.no_grad():
            z = _view_by_view(self.teacher_projection, self.teacher_encoder(views))
        return byol_loss(p, z), {}

    def after_update(self, progress: float) -> None:
        """Move the teacher."""
        momentum = teacher_momentum(self.config.momentum, 1.0, progress)
        self._encoder_average.update(self.encoder, momentum)
        self._projection_average.update(self.projection, momentum)


def _view_by_view(head: nn.Module, features: Tensor) -> Tensor:
    """Outputs [2, B, D] for features [2 B, F] of two views, each normalised by itself."""
    return torch.stack([head(of_view) for of_view in features.chunk(2)])
