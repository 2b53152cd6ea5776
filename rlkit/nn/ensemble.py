"""Several MLPs on one input, their parameters one flat vector: one optimiser step and one Polyak average for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlkit.errors import UsageError
from rlkit.nn.flat import flatten_parameters
from rlkit.nn.mlp import MLP, Trace


class Ensemble:
    """K networks of the same shape, such as twin critics; they differ by their initial weights.

    Hidden layers are followed by ReLU, outputs are linear.

    Args:
        members: The networks, on their device. Their parameters move into `flat`, one network after another.

    >>> generator = torch.Generator().manual_seed(0)
    >>> twins = Ensemble([MLP(3, (16,), 1, generator=generator) for _ in range(2)])
    >>> twins(torch.zeros(5, 3)).shape
    torch.Size([2, 5, 1])
    """

    def __init__(self, members: Sequence[MLP]) -> None:
        if not members or any(member.widths != members[0].widths for member in members):
            raise UsageError(f"members of an ensemble have widths {[m.widths for m in members]}, they must be alike")
        for member in members:
            if member.output != "linear":
                raise UsageError(f"a member of an ensemble has the output {member.output!r}, it must be 'linear'")
            if member.activation != "relu":
                raise UsageError(f"a member of an ensemble has the activation {member.activation!r}, it must be 'relu'")
        self.members = tuple(members)
        self.flat = flatten_parameters(nn.ModuleList(members))

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs [K, B, out] for rows [B, in], outside autograd."""
        return self.trace(x).output

    def trace(self, x: Tensor) -> EnsembleTrace:
        """Outputs for rows [B, in] with what their gradients need, outside autograd."""
        return EnsembleTrace(tuple(member.trace(x) for member in self.members))

    def copy_from(self, source: Ensemble) -> None:
        """Take over the parameters of an ensemble of the same shape."""
        self.flat.copy_(source.flat)

    def polyak_(self, source: Ensemble, tau: float) -> None:
        """Move the parameters the fraction `tau` of the way to those of `source`."""
        self.flat.lerp_(source.flat, tau)


@dataclass(frozen=True, slots=True)
class EnsembleTrace:
    """One forward pass of every member; gradients are right until the weights change."""

    members: tuple[Trace, ...]

    @property
    def output(self) -> Tensor:
        """Outputs [K, B, out]."""
        return torch.stack([member.output for member in self.members])

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        """Gradient of a loss in the layout of `Ensemble.flat`, given its gradient [K, B, out] by the outputs."""
        flat = gradient.new_empty(sum(trace.views.flat.numel() for trace in self.members))
        for trace, by_output, out in zip(self.members, gradient, flat.chunk(len(self.members)), strict=True):
            trace.weight_gradient(by_output, out)
        return flat

    def input_gradient(self, gradient: Tensor, first_column: int = 0) -> Tensor:
        """Gradient [B, in] of a loss by the common input, or by its columns from `first_column` on.

        Args:
            gradient: Gradient [K, B, out] of the loss by the outputs.
            first_column: Where the part of the input begins whose gradient is wanted, such as an action.
        """
        pairs = zip(self.members, gradient, strict=True)
        first, *more = (trace.input_gradient(by_output, first_column) for trace, by_output in pairs)
        return sum(more, first)
