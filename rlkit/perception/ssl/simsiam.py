"""SimSiam: predict the other view's projection by the same network (Chen and He 2021, arxiv.org/abs/2011.10566).

The negative cosine of one view's prediction and the other's projection, both ways, with no gradient into projections
(equation 4, algorithm 1). That, and the prediction head, keep features apart: there is no teacher and nothing that
pushes. Features that are all alike have the least loss, -1, which good ones come near as well, so no loss tells that
they have collapsed; look at the spread of features.

Encoders here have no batch norm, so both views go through in one pass. Heads have one, and see one view after the
other, as in algorithm 1. The prediction head keeps its step size whatever the schedule of the others (section 4.2).

Deviations
- Adam in the place of SGD (`optimizer: sgd`, with the paper's `learning_rate: 0.05` and `weight_decay: 1e-4`).
- Views move by some pixels by default: crops and colours can hide what an agent has to see (`views: moco` has the
  paper's).
- Heads are narrower than the paper's 2,048, the prediction's bottleneck in proportion.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.projection_heads import HeadDesign
from rlkit.ops.self_distillation import simsiam_loss
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.types import Metrics


class SimSiamConfig(MethodConfig):
    """Defaults: Chen and He 2021, unless a field says otherwise."""

    views: ViewsName = "shift"
    """how views differ: none, shift, crop, simclr, moco, byol"""
    head_width: int = Field(512, ge=1)
    """width of the projection, hidden layers and output"""
    bottleneck: int = Field(128, ge=1)
    """width of the prediction's hidden layer, a quarter of its output (section 3)"""


class SimSiam(Objective):
    """Prediction of the own projection of the other view.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.
    """

    Config = SimSiamConfig
    views: Views
    steady = ("prediction",)

    def __init__(self, config: SimSiamConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.views = config, Views(config.views, task)
        width, generator = config.head_width, seeding.torch_generator(task.seed, "heads")
        self.projection = HeadDesign((width, width), width, last="norm").head(encoder.feature_size, generator)
        self.prediction = HeadDesign((config.bottleneck,), width).head(width, generator)

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 4, in [-1, 1]."""
        views = torch.cat(self.views.of(batch.first, self.generator))
        z = [self.projection(of_view) for of_view in self.encoder(views).chunk(2)]
        p = [self.prediction(of_view) for of_view in z]
        return simsiam_loss(torch.stack(p), torch.stack(z)), {}
