"""Networks on a core that remembers, used like those without: they take steps of sequences where those take rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from rlkit.nn.cores import Core, Memory
from rlkit.nn.ensemble import Ensemble, EnsembleTrace
from rlkit.nn.flat import flatten_parameters
from rlkit.nn.mlp import MLP, Trace
from rlkit.nn.recurrent_actor_critic import Sequences
from rlkit.types import Floats

HeadT = TypeVar("HeadT", bound=MLP | Ensemble)


class Steps(NamedTuple):
    """Some steps of sequences, with what came before each in its episode."""

    sequences: Sequences  # of M rows, L steps each
    place: Tensor  # int64 [B], of each step among the M · L, row after row
    action: Tensor | None = None  # [B, A] what was done there, for networks that take it beside the observation

    def with_action(self, action: Tensor) -> Steps:
        """The same steps with actions [B, A]."""
        return self._replace(action=action)


class OnCore(Generic[HeadT]):
    """A core, and an `MLP` or an `Ensemble` on its features; what they offer, for `Steps` in place of rows.

    The core sees observations alone; actions join its features.

    Args:
        core: On its device.
        head: On its device; takes features of the core, then perhaps actions. Its parameters move into `flat`.

    Attributes:
        flat: every parameter, those of the core first.
    """

    def __init__(self, core: Core, head: HeadT) -> None:
        assert isinstance(core, nn.Module)
        self.core: Core = core
        self.head: HeadT = head
        if isinstance(head, Ensemble):
            size = head.flat.numel()
            self.flat = flatten_parameters(nn.ModuleList([core, *head.members]))
            head.flat = self.flat[-size:]  # where its parameters have moved
        else:
            self.flat = flatten_parameters(nn.ModuleList([core, head]))

    @property
    def members(self) -> tuple[Member, ...]:
        """The networks of an ensemble, each on the core."""
        assert isinstance(self.head, Ensemble)
        return tuple(Member(self.core, network) for network in self.head.members)

    @torch.inference_mode()
    def step(self, obs: Floats, memory: Memory) -> tuple[Floats, Memory]:
        """Features [N, size] of observations [N, O], and what is remembered now."""
        features, memory = self.core.step(torch.from_numpy(obs).to(self.flat.device), memory)
        found: Floats = features.cpu().numpy()
        return found, memory

    def numpy_forward(self, features: Floats) -> Floats:
        """Outputs [N, out] for features [N, size] that `step` gave."""
        assert isinstance(self.head, MLP)
        return self.head.numpy_forward(features)

    @torch.inference_mode()
    def __call__(self, steps: Steps) -> Tensor:
        """Outputs [B, out], of an ensemble [K, B, out], without gradients."""
        features = self.core.unroll(*steps.sequences).flatten(0, 1)[steps.place]
        outputs: Tensor = self.head(_rows(features, steps.action))
        return outputs

    def trace(self, steps: Steps) -> StepsTrace:
        """Outputs with what their gradients need, for a `learn` under `torch.inference_mode()`."""
        return _trace(self.core, self.head, steps)

    def copy_from(self, source: OnCore[HeadT]) -> None:
        """Take over the parameters of a network of the same shape."""
        self.flat.copy_(source.flat)

    def polyak_(self, source: OnCore[HeadT], tau: float) -> None:
        """Move the parameters the fraction `tau` of the way to those of `source`."""
        self.flat.lerp_(source.flat, tau)


class Member(NamedTuple):
    """One network of an ensemble on its core."""

    core: Core
    network: MLP

    def trace(self, steps: Steps) -> StepsTrace:
        """As `OnCore.trace`, of this network alone."""
        return _trace(self.core, self.network, steps)


@dataclass(frozen=True, slots=True)
class StepsTrace:
    """One pass over B steps; its gradient by the weights can be taken once."""

    core: Core
    features: Tensor  # [B, size], part of a graph
    head: Trace | EnsembleTrace

    @property
    def output(self) -> Tensor:
        """Outputs [B, out], of an ensemble [K, B, out]."""
        return self.head.output

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        """Gradient of a loss in the layout of `OnCore.flat`, given its gradient by the outputs."""
        assert isinstance(self.core, nn.Module)
        by_features = self.head.input_gradient(gradient)[:, : self.features.shape[1]]
        with torch.inference_mode(False):
            by_core = torch.autograd.grad(self.features, list(self.core.parameters()), by_features.clone())
        return torch.cat([*(part.reshape(-1) for part in by_core), self.head.weight_gradient(gradient)])

    def input_gradient(self, gradient: Tensor, first_column: int = 0) -> Tensor:
        """Gradient of a loss by features and actions [B, size + A], or by the columns from `first_column` on."""
        return self.head.input_gradient(gradient)[:, first_column:]


def _trace(core: Core, head: MLP | Ensemble, steps: Steps) -> StepsTrace:
    with torch.inference_mode(False), torch.enable_grad():
        features = core.unroll(*steps.sequences.copied()).flatten(0, 1)[steps.place.clone()]
    return StepsTrace(core, features, head.trace(_rows(features.detach(), steps.action)))


def _rows(features: Tensor, action: Tensor | None) -> Tensor:
    return features if action is None else torch.cat((features, action), dim=1)
