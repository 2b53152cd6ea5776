"""What the K outputs of an action mean: its value, a categorical distribution of returns, or quantiles of it.

A head turns outputs into values, forms targets and gives loss and gradient, each by the equations of
`rlkit.ops.value_learning` and `rlkit.ops.distributional`.
"""

from __future__ import annotations

import logging
from typing import Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from rlkit.ops.distributional import (
    categorical_loss,
    categorical_loss_gradient,
    categorical_projection,
    clipped_share,
    quantile_loss,
    quantile_midpoints,
)
from rlkit.ops.value_learning import (
    huber_loss,
    huber_loss_gradient,
    squared_loss,
    squared_loss_gradient,
    td_target,
)
from rlkit.types import Array

_LOG = logging.getLogger(__name__)
Loss: TypeAlias = Literal["huber", "squared"]


class HeadLoss(NamedTuple):
    """Loss [B] of each transition, its gradient [B, K] by the outputs of the action taken, and how wrong it was [B]."""

    loss: Tensor
    gradient: Tensor
    error: Tensor


class ReturnHead(Protocol):
    """The meaning of K outputs."""

    size: int
    """K; for implicit quantiles the number of levels drawn."""

    def values(self, outputs: Tensor) -> Tensor:
        """Expected returns [B, A] of outputs [B, A, K]."""

    def act_values(self, outputs: Array) -> Array:
        """Expected returns [N, A] of a few outputs [N, A, K] in numpy."""

    def target(self, reward: Tensor, discount: Tensor, next_outputs: Tensor) -> Tensor:
        """What the outputs of the action taken should become, [B, K], from those of the next action [B, K]."""

    def loss(self, outputs: Tensor, target: Tensor, levels: Tensor | None) -> HeadLoss:
        """How far outputs [B, K] of the action taken are from their target; `levels` [B, K] of implicit quantiles."""


class ValueHead:
    """K = 1: the expected return itself."""

    size = 1

    def __init__(self, loss: Loss) -> None:
        self._loss = huber_loss if loss == "huber" else squared_loss
        self._gradient = huber_loss_gradient if loss == "huber" else squared_loss_gradient

    def values(self, outputs: Tensor) -> Tensor:
        """The outputs themselves."""
        return outputs[:, :, 0]

    def act_values(self, outputs: Array) -> Array:
        """The outputs themselves."""
        return outputs[:, :, 0]

    def target(self, reward: Tensor, discount: Tensor, next_outputs: Tensor) -> Tensor:
        """The target r + γ Q(s', a')."""
        return td_target(reward, discount, next_outputs[:, 0]).unsqueeze(1)

    def loss(self, outputs: Tensor, target: Tensor, levels: Tensor | None) -> HeadLoss:
        """Huber's or the squared loss of the TD error."""
        error = outputs - target
        return HeadLoss(self._loss(error)[:, 0], self._gradient(error), error[:, 0].abs())


class CategoricalHead:
    """C51: logits of K atoms between `lowest` and `highest` return (Bellemare et al. 2017)."""

    def __init__(self, atoms: int, lowest: float, highest: float, device: torch.device) -> None:
        self.size = atoms
        self.support = torch.linspace(lowest, highest, atoms, device=device)
        self._targets = 0  # formed so far
        self._has_warned = False

    def values(self, outputs: Tensor) -> Tensor:
        """Σ_k z_k p_k."""
        return torch.softmax(outputs, dim=2) @ self.support

    def act_values(self, outputs: Array) -> Array:
        """Σ_k z_k p_k."""
        values: Array = self.values(torch.from_numpy(outputs).to(self.support.device)).cpu().numpy()
        return values

    def target(self, reward: Tensor, discount: Tensor, next_outputs: Tensor) -> Tensor:
        """The distribution of r + γ Z(s', a') on the same atoms."""
        probabilities = torch.softmax(next_outputs, dim=1)
        self._targets += 1
        if self._targets & (self._targets - 1) == 0:  # 1, 2, 4, 8 …: it costs a twentieth of an update
            self._warn_of_clipping(reward, discount, probabilities)
        return categorical_projection(self.support, reward, discount, probabilities)

    def _warn_of_clipping(self, reward: Tensor, discount: Tensor, probabilities: Tensor) -> None:
        """Say once that most returns of a batch lie outside the atoms, so that they cannot be told apart."""
        if not self._has_warned and clipped_share(self.support, reward, discount, probabilities) > 0.5:
            self._has_warned = True
            _LOG.warning(
                "most discounted returns lie outside the atoms from %g to %g and are clipped; "
                "choose --agent.lowest-return and --agent.highest-return around what an episode can give",
                float(self.support[0]), float(self.support[-1]),
            )  # fmt: skip

    def loss(self, outputs: Tensor, target: Tensor, levels: Tensor | None) -> HeadLoss:
        """Cross entropy, which is also the priority (Hessel et al. 2018, section "The integrated agent")."""
        loss = categorical_loss(outputs, target)
        return HeadLoss(loss, categorical_loss_gradient(outputs, target), loss)


class QuantileHead:
    """QR-DQN and IQN: K quantiles of the return, at fixed or drawn levels (Dabney et al. 2018)."""

    def __init__(self, quantiles: int, threshold: float, device: torch.device) -> None:
        self.size = quantiles
        self.midpoints = quantile_midpoints(quantiles).to(device)
        self._threshold = threshold

    def values(self, outputs: Tensor) -> Tensor:
        """Mean over the quantiles."""
        return outputs.mean(dim=2)

    def act_values(self, outputs: Array) -> Array:
        """Mean over the quantiles."""
        values: Array = outputs.mean(axis=2)
        return values

    def target(self, reward: Tensor, discount: Tensor, next_outputs: Tensor) -> Tensor:
        """The target r + γ Z(s', a'), quantile by quantile."""
        return reward[:, None] + discount[:, None] * next_outputs

    def loss(self, outputs: Tensor, target: Tensor, levels: Tensor | None) -> HeadLoss:
        """Quantile Huber loss; its error is the difference of the means."""
        at = self.midpoints if levels is None else levels
        loss, gradient = quantile_loss(outputs, at, target, self._threshold)
        return HeadLoss(loss, gradient, (outputs.mean(dim=1) - target.mean(dim=1)).abs())
