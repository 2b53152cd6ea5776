"""Two cores of one kind side by side, one for the policy and one for the value."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rlkit.nn.cores import Core, Memory


class PairedCore(nn.Module):
    """A core whose features are those of the policy's core, then those of the value's; what it remembers likewise.

    A value's loss is often many times the policy's, and through a core that both share it would decide what that one
    remembers.

    Args:
        policy: The policy's core.
        value: The value's, built alike.
    """

    def __init__(self, policy: Core, value: Core) -> None:
        super().__init__()
        assert isinstance(policy, nn.Module)
        assert isinstance(value, nn.Module)
        self.policy: Core = policy
        self.value: Core = value
        self.size = policy.size + value.size

    def empty(self, rows: int) -> Memory:
        """Nothing remembered."""
        return (*self.policy.empty(rows), *self.value.empty(rows))

    def reset(self, memory: Memory, ended: Tensor) -> Memory:
        """Rows [B] whose episode ended remember nothing."""
        first, second = halves(memory)
        return (*self.policy.reset(first, ended), *self.value.reset(second, ended))

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Features [B, size] of both, and what both remember."""
        first, second = halves(memory)
        of_policy, first = self.policy.step(x, first)
        of_value, second = self.value.step(x, second)
        return torch.cat((of_policy, of_value), -1), (*first, *second)

    def policy_step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """The policy's features [B, policy.size] alone; what the value's core remembers stays behind."""
        first, second = halves(memory)
        of_policy, first = self.policy.step(x, first)
        return of_policy, (*first, *second)

    def beginning(self, memory: Memory) -> Memory:
        """What both need to go on from here."""
        first, second = halves(memory)
        return (*self.policy.beginning(first), *self.value.beginning(second))

    def refreshed(self, memory: Memory) -> Memory:
        """As the present weights would have made it."""
        first, second = halves(memory)
        return (*self.policy.refreshed(first), *self.value.refreshed(second))

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """The policy's."""
        return self.policy.attention_maps(x)

    def unroll(self, x: Tensor, is_first: Tensor, beginning: Memory | None = None) -> Tensor:
        """Features [B, T, size] of both."""
        first, second = (None, None) if beginning is None else halves(beginning)
        return torch.cat((self.policy.unroll(x, is_first, first), self.value.unroll(x, is_first, second)), -1)


def halves(memory: Memory) -> tuple[Memory, Memory]:
    """What the policy's core remembers, and the value's."""
    middle = len(memory) // 2
    return tuple(memory[:middle]), tuple(memory[middle:])
