"""SimCLR: tell the other view of a picture among the views of a batch (Chen et al. 2020, arxiv.org/abs/2002.05709).

Two views of each picture go through the encoder and a projection head; the loss is equation 1 with the views of all
ranks as candidates (algorithm 1). With `head_layers: 3` it is version 2 (Chen et al. 2020b, arxiv.org/abs/2006.10029).

Deviations
- Adam in the place of LARS, which large batches need (`optimizer: lars` has it); τ is 0.2, between 0.1 (ImageNet) and
  0.5 (CIFAR-10, appendix B.9).
- Views move by some pixels by default: crops and colours can hide what an agent has to see (`views: simclr` has the
  paper's).
- Heads are narrower than the paper's 2,048. Version 2 fine-tunes from the head's first layer and distils into a smaller
  network; here the head is always left behind, and nothing is distilled.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.projection_heads import HeadDesign
from rlkit.nn.ranks import gathered, rank_and_ranks
from rlkit.ops.collapse import collapsed_nt_xent
from rlkit.ops.contrastive import nt_xent
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.types import Metrics


class SimCLRConfig(MethodConfig):
    """Defaults: Chen et al. 2020, unless a field says otherwise."""

    views: ViewsName = "shift"
    """how views differ: none, shift, crop, simclr, moco, byol"""
    temperature: float = Field(0.2, gt=0)
    """τ of the logits"""
    head_layers: int = Field(2, ge=1)
    """layers of the projection head; 3 in version 2"""
    head_width: int = Field(512, ge=1)
    """width of its hidden layers"""
    head_size: int = Field(128, ge=1)
    """width of its output (section 4.2)"""
    weight_decay: float = Field(1e-6, ge=0)
    """section 2.2"""


class SimCLR(Objective):
    """Contrast of two views among those of a batch.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.
    """

    Config = SimCLRConfig
    views: Views

    def __init__(self, config: SimCLRConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.views = config, Views(config.views, task)
        design = HeadDesign((config.head_width,) * (config.head_layers - 1), config.head_size, last="norm")
        self.head = design.head(encoder.feature_size, seeding.torch_generator(task.seed, "heads"))

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 1, the mean over both views of all pictures."""
        views = torch.cat(self.views.of(batch.first, self.generator))
        z = self.head(self.encoder(views)).unflatten(0, (2, -1))  # [2, B, D]
        candidates = gathered(z.transpose(0, 1)).transpose(0, 1)
        return nt_xent(z, self.config.temperature, candidates, rank_and_ranks()[0] * z.shape[1]), {}

    @property
    def uninformed_loss(self) -> float:
        """ln(2N - 1) of N pictures."""
        return collapsed_nt_xent(self.config.batch_size)
