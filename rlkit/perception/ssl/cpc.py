"""CPC, contrastive predictive coding: tell the features of the steps to come among those of a batch of clips.

Van den Oord et al. 2018 (https://arxiv.org/abs/1807.03748): the encoder makes features z_t of every picture, a GRU a
context c_t of those up to t, and a matrix W_k for each number of steps k a prediction of z_t+k; the loss is InfoNCE
with z_t+kᵀ W_k c_t (equations 3 and 4), for k = 1 … K. As for AtariARI (Anand et al. 2019,
https://arxiv.org/abs/1906.08226), features are of whole frames, and steps of the same clip are candidates too.

Deviations
- Clips have 16 pictures and K is 8, all steps of them; AtariARI's have 100, 64 in a batch, and its code takes every
  fourth step up to 97 ahead: an update then sees 6,400 frames, a quarter of a minute on one core. With 16 clips in
  a batch it sees as many as the other methods do.
- The loss is the mean over k, there the sum. The candidates are all steps of all clips, there those after the first k.
- The GRU has one layer of 256, as the paper's; two in AtariARI's code. W_k has no bias, as in equation 3; it has there.
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.cores import RecurrentCore
from rlkit.nn.flat import initialise_uniform
from rlkit.nn.ranks import gathered, rank_and_ranks
from rlkit.ops.collapse import collapsed_softmax_loss
from rlkit.ops.contrastive import info_nce
from rlkit.ops.predictive_coding import prediction_logits
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask
from rlkit.types import Metrics


class CPCConfig(MethodConfig):
    """Defaults: Anand et al. 2019, as in their code for AtariARI, unless a field says otherwise."""

    steps: int = Field(8, ge=1)
    """K, how many steps ahead are predicted; 97 in AtariARI, 12 in the paper"""
    sequence_length: int = Field(16, ge=2)
    """pictures in a clip, more than K; 100 in AtariARI"""
    across_time: bool = True
    """whether all steps of all clips are candidates, or only those at the same place in their clip"""
    context: int = Field(256, ge=1)
    """width of the GRU"""
    batch_size: int = Field(16, ge=2)
    """clips in one update; 64 in AtariARI"""

    @model_validator(mode="after")
    def _predicts_within_a_clip(self) -> Self:
        if self.steps >= self.sequence_length:
            raise ValueError(
                f"steps is {self.steps}, with clips of {self.sequence_length} pictures it can be 1 to "
                f"{self.sequence_length - 1}; take a larger sequence_length"
            )
        return self


class CPC(Objective):
    """Prediction of features to come, by contrast.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.
    """

    Config = CPCConfig

    def __init__(self, config: CPCConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.clip_length = config, config.sequence_length
        weights = seeding.torch_generator(task.seed, "heads")
        self.context = RecurrentCore("gru", encoder.feature_size, config.context, weights)
        self.ahead = nn.Linear(config.context, config.steps * encoder.feature_size, bias=False)  # W_1 … W_K
        initialise_uniform(self.ahead, weights)

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 4, the mean over k, clips and steps."""
        rows, length = batch.pictures.shape[:2]
        z = self.encoder(batch.pictures.flatten(0, 1)).unflatten(0, (rows, length))  # [B, T, D]
        nothing_ends = torch.zeros(rows, length, dtype=torch.bool, device=z.device)
        context = self.context.unroll(z, nothing_ends)
        predictions = self.ahead(context).unflatten(2, (self.config.steps, -1)).unbind(dim=2)
        candidates, offset = gathered(z), rank_and_ranks()[0] * rows
        losses = []
        for steps, prediction in enumerate(predictions, 1):
            logits, positive = prediction_logits(
                prediction, candidates, steps, across_time=self.config.across_time, offset=offset
            )
            losses.append(info_nce(logits, positive).mean())
        return torch.stack(losses).mean(), {}

    @property
    def uninformed_loss(self) -> float:
        """That of N candidates, ln N."""
        config = self.config
        return collapsed_softmax_loss(config.batch_size * (config.sequence_length if config.across_time else 1))
