"""LARS on one flat parameter vector: each layer moves in proportion to its own length, for large batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlkit.errors import CheckpointError, UsageError

NORMALISATIONS = (nn.LayerNorm, nn.RMSNorm)
"""Those whose scales may have several dimensions; the scales of all others are vectors."""


class Slice(NamedTuple):
    """One parameter of a module within its flat vector."""

    size: int
    is_adapted: bool  # False: neither weight decay nor an adapted step size


def lars_slices(module: nn.Module) -> tuple[Slice, ...]:
    """The parameters of `module` in the order of `flatten_parameters`, and which of them LARS adapts.

    It does not adapt biases and the scales of normalisations (vectors, and the weights of `NORMALISATIONS`), as in
    SimCLR and BYOL (Grill et al. 2020, section 3.3). AdamW's weight decay is usually kept from the same parameters.

    >>> [is_adapted for _, is_adapted in lars_slices(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm((5, 2))))]
    [True, False, False, False]
    """
    scales = {
        parameter
        for layer in module.modules()
        if isinstance(layer, NORMALISATIONS)
        for parameter in layer.parameters(recurse=False)
    }
    return tuple(
        Slice(parameter.numel(), parameter.ndim > 1 and parameter not in scales) for parameter in module.parameters()
    )


class LARS:
    """Layer-wise adaptive rate scaling with momentum (You et al. 2017, https://arxiv.org/abs/1708.03888, algorithm 1).

    For each adapted parameter w with gradient g, trust coefficient η, weight decay β, momentum m and step size γ:
    λ = η |w| / (|g| + β |w|), then v ← m v + γ λ (g + β w) and w ← w - v. Others move by v ← m v + γ g.

    What differs from the paper: λ is 1 where |w| or |g| + β |w| is 0, as in the code of SimCLR. That code and BYOL's
    divide by |g + β w|, the same up to 2 β |w|; BYOL's multiplies by γ after the momentum, the same for a constant γ.

    Args:
        parameter: The vector to change in place.
        slices: What it consists of, see `lars_slices`.
        learning_rate: γ; may be assigned at any time (schedules). BYOL: 0.2 for each 256 rows of a batch.
        momentum: m.
        weight_decay: β; 1e-6 in SimCLR, 1.5e-6 in BYOL.
        trust_coefficient: η.

    Raises:
        UsageError: the slices do not make up the vector.
    """

    def __init__(
        self,
        parameter: Tensor,
        slices: Sequence[Slice],
        learning_rate: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust_coefficient: float = 1e-3,
    ) -> None:
        if sum(part.size for part in slices) != parameter.numel():
            raise UsageError(
                f"the slices hold {sum(part.size for part in slices)} numbers, the vector {parameter.numel()}; "
                f"take lars_slices of the module whose flatten_parameters gave the vector"
            )
        self.parameter = parameter
        self.slices = tuple(slices)
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.trust_coefficient = trust_coefficient
        self.velocity = torch.zeros_like(parameter, requires_grad=False)

    def step(self, gradient: Tensor) -> None:
        """Move the parameter once against `gradient`."""
        with torch.no_grad():
            scaled = gradient.clone()
            weights, gradients = self._adapted(self.parameter), self._adapted(scaled)
            if weights:
                factors = self._trust_ratios(weights, gradients)
                torch._foreach_add_(gradients, weights, alpha=self.weight_decay)
                torch._foreach_mul_(gradients, factors)
            self.velocity.mul_(self.momentum).add_(scaled, alpha=self.learning_rate)
            self.parameter.sub_(self.velocity)

    def _adapted(self, flat: Tensor) -> list[Tensor]:
        """Views of the adapted parts."""
        parts = flat.split_with_sizes([part.size for part in self.slices])
        return [view for view, part in zip(parts, self.slices, strict=True) if part.is_adapted]

    def _trust_ratios(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """λ of each adapted parameter, as scalars on its device."""
        w, g = (torch.stack(torch._foreach_norm(parts)) for parts in (weights, gradients))
        below = g.add_(w, alpha=self.weight_decay)
        ratio = torch.where((w > 0) & (below > 0), self.trust_coefficient * w / below, 1.0)
        return list(ratio.unbind())

    def state(self) -> dict[str, Any]:
        """A copy of the velocity, for a checkpoint."""
        return {"velocity": self.velocity.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        if state["velocity"].shape != self.velocity.shape:
            found, wanted = tuple(state["velocity"].shape), tuple(self.velocity.shape)
            raise CheckpointError(f"the optimiser's state has shape {found}, the network needs {wanted}")
        self.velocity.copy_(state["velocity"])
