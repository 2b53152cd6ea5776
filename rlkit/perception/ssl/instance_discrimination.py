"""InstDisc: every picture is a class of its own (Wu, Xiong, Yu and Lin 2018, arxiv.org/abs/1805.01978).

A view of each picture goes through the encoder and a linear layer to features of length one; the classes' weights are
what a memory bank holds of the pictures (equation 2). The softmax over all of them is computed, which for 30,000
pictures takes as long as 500 of noise for each, or approximated by noise-contrastive estimation (`softmax: nce`,
equations 4 to 8). After an update the bank takes in half of what its pictures have shown. The bank has a row for every
picture of the recording, half a megabyte for a thousand of them, and checkpoints hold it.

Deviations
- The full softmax is the default, and τ is 0.2, not 0.07. A recording holds many pictures that look the same and cannot
  be told apart: NCE with a Z that was estimated once then has a loss that grows, at 0.07 until features collapse. It
  learns with a larger τ, such as 0.5.
- A batch norm follows the linear layer. The paper's ResNet has norms throughout; the encoders here have none, features
  of pictures are all alike at first, and without it they stay so.
- Adam in the place of momentum with a step size that falls by tens, and no weight decay.
- Views move by some pixels by default (`views: moco` is nearest to the paper's, which has no blur).
- 512 noise pictures instead of 4,096: the bank's rows are gathered for each, which is most of an update's memory.
- Features are mixed into the bank by halves and the proximal term is left out, as in the authors' code, see
  `rlkit.ops.noise_contrastive`. Z is estimated from the noise of the first batch alone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.projection_heads import HeadDesign
from rlkit.ops.collapse import collapsed_noise_contrastive_loss, collapsed_softmax_loss
from rlkit.ops.noise_contrastive import instance_softmax_loss, noise_contrastive_loss
from rlkit.perception.ssl.memory_bank import MemoryBank, own_and_noise
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask, Views, ViewsName
from rlkit.types import Metrics


class InstanceDiscriminationConfig(MethodConfig):
    """Defaults: Wu et al. 2018, unless a field says otherwise."""

    views: ViewsName = "shift"
    """how pictures are changed: none, shift, crop, simclr, moco, byol (the first of two unlike views)"""
    softmax: Literal["full", "nce"] = "full"
    """over all pictures: computed, or estimated from noise"""
    noise: int = Field(512, ge=1)
    """K, pictures that are drawn for each as noise, with nce (in the paper 4,096)"""
    temperature: float = Field(0.2, gt=0)
    """τ of the logits (in the paper 0.07)"""
    bank_momentum: float = Field(0.5, ge=0, lt=1)
    """how much of a row stays when its picture is seen (as in the authors' code)"""
    head_size: int = Field(128, ge=1)
    """width of features and bank, as in the paper"""


class InstanceDiscrimination(Objective):
    """Recognition of each picture by what was remembered of it.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures, whose number is that of the bank's rows, and seed.

    Attributes:
        bank: What is remembered.
    """

    Config = InstanceDiscriminationConfig
    views: Views

    def __init__(self, config: InstanceDiscriminationConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.views, self._pictures = config, Views(config.views, task), task.pictures
        design = HeadDesign((), config.head_size, last="norm")
        self.head = design.head(encoder.feature_size, seeding.torch_generator(task.seed, "heads"))
        self.bank = MemoryBank(task.pictures, config.head_size, seeding.torch_generator(task.seed, "bank"))
        self._seen: tuple[Tensor, Tensor] | None = None

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 7, or equation 3 with all pictures, the mean over the batch."""
        config, bank = self.config, self.bank
        features = self.head(self.encoder(self.views.first_of(batch.first, self.generator)))
        self._seen = batch.index, features.detach()
        if config.softmax == "full":
            return instance_softmax_loss(features, bank.rows, batch.index, config.temperature).mean(), {}
        index = own_and_noise(batch.index, self._pictures, config.noise, self.generator)
        logits, log_z = bank.logits(features, index, config.temperature)
        return noise_contrastive_loss(logits, log_z, self._pictures).mean(), {}

    def after_update(self, progress: float) -> None:
        """Take in what was seen."""
        assert self._seen is not None
        self.bank.update(*self._seen, self.config.bank_momentum)

    @property
    def uninformed_loss(self) -> float:
        """That of n pictures, ln n; of K as noise ln(K + 1) + K ln(1 + 1/K), where Z is of the same features."""
        if self.config.softmax == "full":
            return collapsed_softmax_loss(self._pictures)
        return collapsed_noise_contrastive_loss(self.config.noise)
