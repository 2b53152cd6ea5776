"""The step that A2C and REINFORCE make: log-probabilities times advantages, beside values and entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.agents.policy_network import PolicyNetwork, RolloutTensors
from rlkit.ops import policy_gradient as ops
from rlkit.types import Metrics


def policy_gradient_step(
    network: PolicyNetwork,
    batch: RolloutTensors,
    advantage: Tensor,
    value_coefficient: float,
    entropy_coefficient: float,
) -> tuple[Metrics, Tensor]:
    """Losses of A2C and REINFORCE, and the gradient of their weighted sum in the layout of `network.flat`."""
    trace = network.trace(batch.obs, batch.action, batch.action_mask)
    policy_loss = ops.policy_gradient_loss(trace.distribution.log_prob, advantage)
    value_loss = ops.value_loss(trace.value, batch.target)
    entropy = trace.distribution.entropy.mean()

    gradient = trace.gradient(
        ops.policy_gradient_loss_gradient(advantage),
        -entropy_coefficient / len(advantage),
        ops.value_loss_gradient(trace.value, batch.target).mul_(value_coefficient),
    )
    losses = torch.stack((policy_loss, value_loss, -entropy)).tolist()
    return dict(zip(("train/policy_loss", "train/value_loss", "train/entropy_loss"), losses, strict=True)), gradient
