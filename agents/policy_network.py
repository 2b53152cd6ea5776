"""What PPO, A2C and REINFORCE ask of networks, and what these are given to learn from."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from rlkit.nn.action_heads import HeadTrace


class RolloutTensors(NamedTuple):
    """A batch of B steps on the device."""

    obs: Any  # [B, O]; `Sequences` of B steps for networks on a core
    action: Tensor  # [B, K] raw
    log_prob: Tensor  # [B]
    advantage: Tensor  # [B]
    target: Tensor  # [B]
    value: Tensor  # [B]
    action_mask: Tensor | None  # [B, A]


class PolicyTrace(Protocol):
    """One pass of both networks over B steps."""

    @property
    def distribution(self) -> HeadTrace:
        """The policy at these steps."""

    @property
    def value(self) -> Tensor:
        """V(s), [B]."""

    def gradient(self, by_log_prob: Tensor, by_entropy: float, by_value: Tensor) -> Tensor:
        """Gradient of a loss in the layout of the network's `flat`, see `ActorCriticTrace`."""


class PolicyNetwork(Protocol):
    """Networks of policy and value."""

    @property
    def flat(self) -> Tensor:
        """All parameters."""

    @property
    def log_std(self) -> Tensor:
        """The log stds among them."""

    def trace(self, obs: Any, raw: Tensor, mask: Tensor | None) -> PolicyTrace:
        """What an update needs of B steps, observed as `RolloutTensors` has them."""


class Optimizer(Protocol):
    """What moves a vector of weights."""

    def step(self, gradient: Tensor) -> None:
        """Once against `gradient`."""
