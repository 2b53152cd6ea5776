"""Policy and value networks on a core that remembers, with all their parameters in one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from rlkit.nn.action_heads import ActionHead, HeadTrace
from rlkit.nn.actor_critic import POLICY_GAIN
from rlkit.nn.cores import Core, Memory
from rlkit.nn.flat import flatten_parameters
from rlkit.nn.mlp import MLP, Activation
from rlkit.nn.paired_core import PairedCore, halves
from rlkit.nn.precision import Precision
from rlkit.types import Array, Bools, Floats


class Sequences(NamedTuple):
    """Steps of B rows in their order; episodes may begin anywhere."""

    obs: Tensor  # [B, T, O]
    is_first: Tensor  # bool [B, T]
    beginning: Memory | None  # what each row goes on from; None: nothing

    def copied(self) -> Sequences:
        """Copies for a pass with gradients, in which what was made under inference mode takes no part."""
        beginning = None if self.beginning is None else tuple(part.clone() for part in self.beginning)
        return Sequences(self.obs.clone(), self.is_first.clone(), beginning)


class RecurrentActorCritic(nn.Module):
    """A core that both networks share or one for each, and a perceptron on it for each, orthogonal at the start.

    Attributes:
        flat: every parameter: those of all cores and of the policy, the log stds, then those of the value.
    """

    def __init__(
        self,
        core: Core,
        hidden: Sequence[int],
        head: ActionHead,
        *,
        activation: Activation,
        log_std: float,
        generator: torch.Generator,
        precision: Precision,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.precision = precision
        self.head = head
        of_policy, of_value = (core.policy.size, core.value.size) if isinstance(core, PairedCore) else 2 * (core.size,)
        self.policy_columns, self.value_columns = slice(of_policy), slice(core.size - of_value, core.size)
        self.policy = MLP(
            of_policy, hidden, head.size, activation=activation, final_gain=POLICY_GAIN, generator=generator
        )  # fmt: skip
        assert isinstance(core, nn.Module)
        self.core: Core = core
        self.log_std = nn.Parameter(torch.full((head.log_stds,), log_std))
        self.value = MLP(of_value, hidden, 1, activation=activation, final_gain=1.0, generator=generator)
        self.to(device)
        self.core_parameters = tuple(core.parameters())
        self._in_order = (*self.core_parameters, self.policy.flat, self.log_std, self.value.flat)
        self.flat = self.joined_with(())
        self.policy_size = self.flat.numel() - self.value.flat.numel()

    def joined_with(self, others: Sequence[nn.Parameter]) -> Tensor:
        """One vector of all parameters and `others` after them, of which all of them are views from now on."""
        joined = flatten_parameters(nn.ParameterList([*self._in_order, *others]))
        self.flat = joined[: sum(parameter.numel() for parameter in self._in_order)]
        return joined

    @torch.inference_mode()
    def act(
        self, obs: Array, memory: Memory, rng: np.random.Generator | None, mask: Bools | None
    ) -> tuple[Array, Array, Floats | None, Memory]:
        """Actions for observations [N, O], as `ActorCritic.act` gives them, and what is remembered now.

        Without a generator nobody will learn from the step, and what only the value is for is left out.
        """
        step = self.core.policy_step if rng is None and isinstance(self.core, PairedCore) else self.core.step
        features, memory = step(torch.from_numpy(obs).to(self.flat.device), memory)
        outputs = self.policy.numpy_forward(np.ascontiguousarray(features.cpu().numpy()[:, self.policy_columns]))
        if rng is None:
            raw = self.head.mode(outputs, mask)
            return self.head.to_environment(raw), raw, None, memory
        log_std = cast(Floats, self.log_std.detach().cpu().numpy())
        drawn = self.head.draw(outputs, log_std, rng, mask)
        return self.head.to_environment(drawn.raw), drawn.raw, drawn.log_prob, memory

    @torch.inference_mode()
    def values(self, sequences: Sequences) -> Floats:
        """V(s) [B, T] of every step."""
        if isinstance(self.core, PairedCore):
            obs, is_first, beginning = sequences
            features = self.core.value.unroll(obs, is_first, None if beginning is None else halves(beginning)[1])
        else:
            features = self.core.unroll(*sequences)
        return cast(Floats, self.value(features)[..., 0].cpu().numpy())

    def trace(self, sequences: Sequences, raw: Tensor, mask: Tensor | None) -> RecurrentTrace:
        """What an update needs of B x T steps and the raw actions [B · T, K] taken there, row after row."""
        with torch.inference_mode(False), torch.enable_grad():
            with self.precision.products():
                features = self.core.unroll(*sequences.copied()).flatten(0, 1).float()
            # oneDNN's products are slow on parts of rows
            outputs = self.policy(features[:, self.policy_columns].contiguous())
            value = self.value(features[:, self.value_columns].contiguous())[:, 0]
        distribution = self.head.trace(outputs.detach(), self.log_std.detach(), raw, mask)
        return RecurrentTrace(self, outputs, value, distribution)


@dataclass(frozen=True, slots=True)
class RecurrentTrace:
    """One pass over B x T steps; its gradient can be taken once."""

    network: RecurrentActorCritic
    outputs: Tensor  # [B · T, size]
    live_value: Tensor  # [B · T]
    distribution: HeadTrace

    @property
    def value(self) -> Tensor:
        """V(s), [B · T]."""
        return self.live_value.detach()

    def gradient(self, by_log_prob: Tensor, by_entropy: float, by_value: Tensor) -> Tensor:
        """As `ActorCriticTrace.gradient`, in the layout of `RecurrentActorCritic.flat`, times the precision's scale."""
        by_outputs, by_log_std = self.distribution.gradient(by_log_prob, by_entropy)
        network = self.network
        by_core_and_policy = [*network.core_parameters, network.policy.flat]
        with torch.inference_mode(False):
            gradients = torch.autograd.grad(
                [self.outputs, self.live_value],
                [*by_core_and_policy, network.value.flat],
                [network.precision.scaled(by_outputs.clone()), network.precision.scaled(by_value.clone())],
            )
        *first, by_value_weights = (gradient.reshape(-1) for gradient in gradients)
        return torch.cat((*first, network.precision.scaled(by_log_std), by_value_weights))
