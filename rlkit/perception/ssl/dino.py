"""DINO: match a teacher's sharpened distribution of the other views (Caron et al. 2021, arxiv.org/abs/2104.14294).

A student and its moving average, the teacher, turn views into distributions over K outputs; the teacher's, of the
large views, are targets of the student's of all other views (equation 3, algorithm 1). Two things keep the outputs
from being all alike, each against what the other does: the running mean of the teacher's outputs, the centre, is taken
off (equation 4), and the teacher's temperature is below the student's. The centre and the teacher move after an update.

Deviations
- Views move by some pixels by default: crops and colours can hide what an agent has to see. `views: dino` has the
  paper's large and small crops; for an encoder that takes one size (nature, atari, impala), small crops are enlarged to
  it and cost as much as large ones.
- 1,024 outputs of the paper's 65,536, which stand for a million photographs. Thousands of frames of one game differ in
  fewer ways, and a batch of 256 has to tell the mean of every output. The head is narrower than 2,048 and 256.
- The teacher's temperature stays at 0.04 and its momentum begins at 0.99: with the paper's 0.07 or 0.996 the loss
  stayed near ln K for 800 updates on pictures of 16 pixels a side; with a momentum of 0.9 features became alike.
- The weight decay is the schedule's first value, 0.04, all the time. Gradients are clipped over all parameters at once,
  not parameter by parameter.
- The encoder that is kept is the student's; the paper evaluates the teacher's. They meet at the end of the run only as
  far as the student stands still.
- The momentum is the schedule's at the end of an update, the authors' at its begin.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.moving_average import MovingAverage
from rlkit.nn.projection_heads import DINOHead
from rlkit.nn.ranks import mean_over_ranks
from rlkit.ops.collapse import collapsed_softmax_loss
from rlkit.ops.self_distillation import dino_loss, next_centre, teacher_momentum, warmed_up_temperature
from rlkit.perception.ssl.multi_crop import features_of_views, small_side_of
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.types import Metrics

TAUGHT = 2
"""Views that the teacher sees, the large crops."""


class DINOConfig(MethodConfig):
    """Defaults: Caron et al. 2021, unless a field says otherwise."""

    views: ViewsName | Literal["dino"] = "shift"
    """how views differ: none, shift, crop, simclr, moco, byol, or dino with small crops"""
    small_views: int = Field(8, ge=0)
    """small crops of each picture, with `views: dino` (the authors' code)"""
    outputs: int = Field(1024, ge=2)
    """K; see the deviations"""
    student_temperature: float = Field(0.1, gt=0)
    """τ_s"""
    first_temperature: float = Field(0.04, gt=0)
    """τ_t, the teacher's, at the start; where the loss stays at ln K, lower both"""
    temperature: float = Field(0.04, gt=0)
    """τ_t after its warm-up; 0.07 in the paper, 0.04 where nothing is said in the authors' code"""
    temperature_warmup: float = Field(0.1, ge=0, le=1)
    """part of the run in which τ_t rises; 30 of 300 epochs"""
    centre_momentum: float = Field(0.9, ge=0, lt=1)
    """m of equation 4"""
    momentum: float = Field(0.99, ge=0, le=1)
    """of the teacher at the start, from where it rises to 1 along half a cosine; 0.996 in the paper"""
    frozen_directions: float = Field(0.01, ge=0, le=1)
    """part of the run in which the head's last layer stays as it is; an epoch of 100 (the authors' code)"""
    head_width: int = Field(512, ge=1)
    """width of the head's hidden layers"""
    bottleneck: int = Field(128, ge=1)
    """width of its normalised layer"""
    optimizer: Literal["adam", "adamw", "sgd", "lars"] = "adamw"
    """section 3.2; sgd and lars with momentum 0.9"""
    learning_rate: float = Field(5e-4, gt=0)
    """for batches of 256 (section 3.2)"""
    learning_rate_schedule: Literal["constant", "cosine"] = "cosine"
    """section 3.2; falls to zero at the end of the run"""
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    """part of the run in which the step size rises from zero; 10 of 100 epochs (section 3.2)"""
    weight_decay: float = Field(0.04, ge=0)
    """where the paper's schedule begins"""
    max_grad_norm: float | None = Field(3.0, gt=0)
    """longest gradient (the authors' code); null: no limit"""


class DINO(Objective):
    """Distillation of the own moving average.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.
    """

    Config = DINOConfig
    views: Views
    progress: Tensor
    centre: Tensor
    _frozen: Tensor | None

    def __init__(self, config: DINOConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config = config
        self.views = Views(config.views, task, small_views=config.small_views, small_side=small_side_of(encoder))
        self.head = DINOHead(
            encoder.feature_size, config.outputs, seeding.torch_generator(task.seed, "heads"),
            hidden=(config.head_width, config.head_width), bottleneck=config.bottleneck,
        )  # fmt: skip
        self._encoder_average = MovingAverage(encoder, buffers="own")
        self._head_average = MovingAverage(self.head, buffers="own")
        self.teacher_encoder, self.teacher_head = self._encoder_average.module, self._head_average.module
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(config.outputs))
        self._mean, self._frozen = self.centre, None

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 3, the mean over pairs of views."""
        views = self.views.of(batch.first, self.generator)
        student = self._student_head(features_of_views(self.encoder, views))  # [V, B, K]
        with torch.no_grad():
            teacher = self.teacher_head(features_of_views(self.teacher_encoder, views[:TAUGHT]))
        self._mean = teacher.mean(dim=(0, 1))
        config = self.config
        temperature = warmed_up_temperature(
            config.temperature_warmup, float(self.progress), initial=config.first_temperature, final=config.temperature
        )
        loss = dino_loss(
            student, teacher, self.centre, teacher_temperature=temperature,
            student_temperature=config.student_temperature,
        )  # fmt: skip
        return loss, {}

    def _student_head(self, features: Tensor) -> Tensor:
        """Outputs [V, B, K], without a gradient for the last layer while it is frozen."""
        directions: Tensor = self.head.directions
        self._frozen = None
        if float(self.progress) < self.config.frozen_directions:
            directions = directions.detach()
            self._frozen = directions.clone()
        outputs: Tensor = functional_call(self.head, {"directions": directions}, (features,))
        return outputs

    @torch.no_grad()
    def after_update(self, progress: float) -> None:
        """Move the centre and the teacher."""
        if self._frozen is not None:  # a weight decay moves them also without a gradient
            self.head.directions.copy_(self._frozen)
        self.centre.copy_(next_centre(self.centre, mean_over_ranks(self._mean), self.config.centre_momentum))
        momentum = teacher_momentum(self.config.momentum, 1.0, progress)
        self._encoder_average.update(self.encoder, momentum)
        self._head_average.update(self.head, momentum)
        self.progress.fill_(progress)

    @property
    def uninformed_loss(self) -> float:
        """What K outputs that are all as likely cost, ln K."""
        return collapsed_softmax_loss(self.config.outputs)
