"""Policy and value networks of an on-policy agent, with all their parameters in one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from rlkit.nn.action_heads import ActionHead, HeadTrace
from rlkit.nn.flat import flatten_parameters
from rlkit.nn.mlp import MLP, Activation, Trace
from rlkit.types import Array, Bools, Floats

POLICY_GAIN = 0.01
"""Gain of the policy's last layer: first actions hardly depend on what is seen (Andrychowicz et al. 2021, 3.2)."""
_NONE: Floats = np.zeros(0, np.float32)
_FEW_ROWS = 32  # up to here numpy's forward pass is the faster one


class ActorCritic(nn.Module):
    """Two perceptrons that share nothing, orthogonal at the start, and the log stds of the action head.

    Attributes:
        flat: every parameter: those of the policy, the log stds, then those of the value.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        head: ActionHead,
        *,
        activation: Activation,
        log_std: float,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.head = head
        self.policy = MLP(
            inputs, hidden, head.size, activation=activation, final_gain=POLICY_GAIN, generator=generator
        )  # fmt: skip
        self.log_std = nn.Parameter(torch.full((head.log_stds,), log_std))
        self.value = MLP(inputs, hidden, 1, activation=activation, final_gain=1.0, generator=generator)
        self.to(device)
        self._sizes = [self.policy.flat.numel(), head.log_stds, self.value.flat.numel()]
        self.flat = self._one_vector()

    def _one_vector(self) -> Tensor:
        parts = nn.ParameterList([self.policy.flat, self.log_std, self.value.flat])  # in this order
        return flatten_parameters(parts)

    def act(
        self, obs: Floats, rng: np.random.Generator | None, mask: Bools | None
    ) -> tuple[Array, Array, Floats | None]:
        """Actions for observations [N, O]: as the environment takes them, raw [N, K], and their log-probabilities [N].

        Drawn with `rng`; without it the most probable ones, and no log-probabilities.
        """
        outputs = self.policy.numpy_forward(obs)
        if rng is None:
            raw = self.head.mode(outputs, mask)
            return self.head.to_environment(raw), raw, None
        drawn = self.head.draw(outputs, self._numpy_log_std(), rng, mask)
        return self.head.to_environment(drawn.raw), drawn.raw, drawn.log_prob

    def _numpy_log_std(self) -> Floats:
        return cast(Floats, self.log_std.detach().cpu().numpy()) if self.head.log_stds else _NONE

    def values(self, obs: Floats) -> Floats:
        """V(s) [M] of observations [M, O]."""
        if len(obs) <= _FEW_ROWS:
            return self.value.numpy_forward(obs)[:, 0]
        with torch.no_grad():
            values = self.value.trace(torch.from_numpy(obs).to(self.flat.device)).output
        return cast(Floats, values[:, 0].cpu().numpy())

    def trace(self, obs: Tensor, raw: Tensor, mask: Tensor | None) -> ActorCriticTrace:
        """What an update needs of observations [B, O] and the raw actions [B, K] taken there."""
        policy, value = self.policy.trace(obs), self.value.trace(obs)
        distribution = self.head.trace(policy.output, self.log_std.detach(), raw, mask)
        return ActorCriticTrace(policy, value, distribution, self._sizes)


@dataclass(frozen=True, slots=True)
class ActorCriticTrace:
    """One pass over B rows; gradients are right until the parameters change."""

    policy: Trace
    value_trace: Trace
    distribution: HeadTrace
    sizes: Sequence[int]

    @property
    def value(self) -> Tensor:
        """V(s), [B]."""
        return self.value_trace.output[:, 0]

    def gradient(self, by_log_prob: Tensor, by_entropy: float, by_value: Tensor) -> Tensor:
        """Gradient of a loss in the layout of `ActorCritic.flat`.

        Given those by each log-probability and each value, [B], and by the entropy of each row, the same for all.
        """
        by_outputs, by_log_std = self.distribution.gradient(by_log_prob, by_entropy)
        gradient = by_outputs.new_empty(sum(self.sizes))
        policy, log_std, value = gradient.split_with_sizes(list(self.sizes))
        self.policy.weight_gradient(by_outputs, out=policy)
        log_std.copy_(by_log_std)
        self.value_trace.weight_gradient(by_value.unsqueeze(1), out=value)
        return gradient
