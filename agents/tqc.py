"""Truncated quantile critics (Kuznetsov et al. 2020, https://arxiv.org/abs/2005.04269).

Soft actor-critic whose critics predict quantiles of the return. The target pools the quantiles of all critics and drops
the largest; critics learn by the quantile Huber loss, and the actor climbs the mean of all quantiles.

Deviations from the paper
- Two critics of 256x256, as in sb3-contrib (paper: five of 512x512x512, `critics` and `hidden`).
- Those of SAC, see `rlkit.agents.sac`.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from rlkit.agents.off_policy import Tensors, joined
from rlkit.agents.sac import SAC, SACConfig, drawn
from rlkit.errors import UsageError
from rlkit.nn.ensemble import Ensemble
from rlkit.ops import truncated_quantiles as truncated
from rlkit.types import Task


class TQCConfig(SACConfig):
    """Defaults: Kuznetsov et al. 2020, unless a field says otherwise."""

    critics: int = Field(2, ge=1)
    """networks K that predict quantiles (sb3-contrib; Kuznetsov 2020: 5)"""
    quantiles: int = Field(25, ge=1)
    """quantiles N that each predicts"""
    dropped_quantiles: int = Field(2, ge=0)
    """largest quantiles dropped for each critic (HalfCheetah 0, Hopper 5)"""


class TQC(SAC):
    """SAC with critics of quantiles."""

    Config: type[TQCConfig] = TQCConfig

    def __init__(self, config: TQCConfig, task: Task) -> None:
        if config.dropped_quantiles >= config.quantiles:
            raise UsageError(
                f"agent.dropped_quantiles is {config.dropped_quantiles}, it must be below "
                f"agent.quantiles, which is {config.quantiles}"
            )
        self.quantile_config = config
        super().__init__(config, task)

    def _critics(self, weights: torch.Generator) -> Ensemble:
        return self.ensemble(self.quantile_config.critics, self.quantile_config.quantiles, weights)

    @torch.inference_mode()
    def target(self, batch: Tensors, noise: Tensor, temperature: Tensor) -> Tensor:
        """What the quantiles should be, [B, J]: the smallest of the pool, with the entropy."""
        following = drawn(self.actor(self.actors_view(batch.next_obs)[0]), noise)
        quantiles = self.target_critics(joined(batch.next_obs, following.action))  # [K, B, N]
        kept = truncated.truncated_quantiles(quantiles, self.quantile_config.dropped_quantiles)
        return truncated.soft_quantile_target(batch.reward, batch.discount, kept, following.log_prob, temperature)

    def critic_loss(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Quantile Huber loss, and its gradient by the quantiles, [K, B, N]."""
        return truncated.quantile_critics_loss(outputs, target)

    def value(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of all quantiles, [B], and its gradient by them, [K, B, N]."""
        return truncated.mean_value(outputs)
