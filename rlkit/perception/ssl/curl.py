"""CURL: tell the other view of a picture among those of a batch, by a bilinear product with the keys of a slow encoder.

Laskin, Srinivas and Abbeel 2020 (https://arxiv.org/abs/2004.04136), section 4: the encoder makes queries of one view,
its moving average makes keys of the other, logits are qᵀ W k less each row's largest, and keys of other pictures are
the negatives. It was made to go along with an agent that learns by rewards from the same encoder.

Deviations
- Views move by some pixels (`views`), with edges repeated; the paper's are crops of 84 x 84 out of 100 x 100, which
  need larger pictures than the encoder takes, or such crops of 80 x 80 put back to 84 x 84 by padding (Atari).
- Features are normalised over their width before the product, without scale and shift: in the paper's code for
  DeepMind Control the encoder ends in a LayerNorm with both. That for Atari has a head of two layers instead, and
  multiplies logits by 0.1.
- W starts within 1/sqrt(D) around zero as a linear layer does, in their code between 0 and 1.
- `momentum` is that for DeepMind Control in their code, 0.95; the one for Atari has 0.999. It moves after each update,
  there every second.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.flat import initialise_uniform
from rlkit.nn.moving_average import MovingAverage
from rlkit.nn.ranks import gathered, rank_and_ranks
from rlkit.ops.collapse import collapsed_softmax_loss
from rlkit.ops.contrastive import bilinear_logits, info_nce, own_columns
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.types import Metrics


class CURLConfig(MethodConfig):
    """Defaults: Laskin et al. 2020, unless a field says otherwise."""

    views: ViewsName = "shift"
    """how views differ: none, shift, crop, simclr, moco, byol"""
    momentum: float = Field(0.95, ge=0, le=1)
    """how much of the slow encoder stays in an update"""


class CURL(Objective):
    """Contrast of two views by a bilinear product.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.

    Attributes:
        target: The slow encoder.
    """

    Config = CURLConfig
    views: Views

    def __init__(self, config: CURLConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.views = config, Views(config.views, task)
        self.product = nn.Linear(encoder.feature_size, encoder.feature_size, bias=False)  # W
        initialise_uniform(self.product, seeding.torch_generator(task.seed, "heads"))
        self._average = MovingAverage(encoder, buffers="own")
        self.target = self._average.module

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 4 with the bilinear product, the mean over the pictures."""
        first, second = self.views.of(batch.first, self.generator)
        query = _normalised(self.encoder(first))
        with torch.no_grad():
            key = gathered(_normalised(self.target(second)))
        logits = bilinear_logits(query, key, self.product.weight)
        return info_nce(logits, own_columns(logits, rank_and_ranks()[0] * len(query))).mean(), {}

    def after_update(self, progress: float) -> None:
        """The slow encoder follows."""
        self._average.update(self.encoder, self.config.momentum)

    @property
    def uninformed_loss(self) -> float:
        """That of N pictures, ln N."""
        return collapsed_softmax_loss(self.config.batch_size)


def _normalised(features: Tensor) -> Tensor:
    return functional.layer_norm(features, features.shape[1:])
