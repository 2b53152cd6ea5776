"""Distributions over actions, from the outputs of a policy network: what acting draws and what an update needs.

Acting is plain numpy. `raw` actions are what learning stores: numbers from zero for discrete ones, [N, K], and the
Gaussian's own draw [N, A] for a Box, of which the environment gets the part within its bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple, Protocol, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlkit.errors import UnsupportedTaskError
from rlkit.ops import categorical, gaussian
from rlkit.types import Array, Bools, Floats

Space: TypeAlias = gymnasium.Space[Any]


class Drawn(NamedTuple):
    """Actions drawn at random for N observations."""

    raw: Array  # [N, K]
    log_prob: Floats  # [N]


class HeadTrace(Protocol):
    """The distributions of B rows, seen from the actions taken."""

    @property
    def log_prob(self) -> Tensor:
        """Log-probability [B] of the actions."""

    @property
    def entropy(self) -> Tensor:
        """Entropy of each row, [B]."""

    def gradient(self, by_log_prob: Tensor, by_entropy: float) -> tuple[Tensor, Tensor]:
        """Gradients of a loss by the network's outputs [B, size] and by `log_std`.

        Given those by each log-probability, [B], and by each row's entropy, the same for all.
        """


class ActionHead(Protocol):
    """A family of distributions over one action space."""

    size: int
    """Outputs that it takes of a policy network."""
    log_stds: int
    """Parameters of its own, which no observation changes."""
    raw_size: int
    """K, numbers in one raw action."""
    raw_dtype: np.dtype[Any]

    def draw(self, outputs: Floats, log_std: Floats, rng: np.random.Generator, mask: Bools | None) -> Drawn:
        """Raw actions for outputs [N, size]; `mask` [N, size] tells which discrete ones are allowed."""

    def mode(self, outputs: Floats, mask: Bools | None) -> Array:
        """The raw actions [N, K] of highest probability."""

    def to_environment(self, raw: Array) -> Array:
        """Actions [N, *A] as the environment takes them."""

    def trace(self, outputs: Tensor, log_std: Tensor, raw: Tensor, mask: Tensor | None) -> HeadTrace:
        """Log-probabilities and entropies of outputs [B, size] and raw actions [B, K], with their gradients."""


class CategoricalHead:
    """Discrete and MultiDiscrete actions; the components of one action are independent.

    Attributes:
        ends: where the outputs of each component begin, and where the last ones end, [K + 1].
    """

    log_stds = 0
    raw_dtype = np.dtype(np.int64)

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        choices = [int(space.n)] if isinstance(space, spaces.Discrete) else [int(n) for n in space.nvec.flat]
        self.ends = np.cumsum([0, *choices])
        self._parts = [slice(int(begin), int(end)) for begin, end in pairwise(self.ends)]
        self.size, self.raw_size = int(self.ends[-1]), len(choices)
        self._space = space
        self._shape: tuple[int, ...] = () if isinstance(space, spaces.Discrete) else space.nvec.shape

    def draw(self, outputs: Floats, log_std: Floats, rng: np.random.Generator, mask: Bools | None) -> Drawn:
        """Each component by itself."""
        if len(self._parts) == 1:
            return _draw_choice(outputs, mask, rng)
        drawn = [_draw_choice(outputs[:, part], _part_of(mask, part), rng) for part in self._parts]
        log_prob: Floats = sum((part.log_prob for part in drawn[1:]), drawn[0].log_prob)
        return Drawn(np.concatenate([part.raw for part in drawn], axis=1), log_prob)

    def mode(self, outputs: Floats, mask: Bools | None) -> Array:
        """The best of each component."""
        logits = outputs if mask is None else np.where(mask, outputs, -np.inf)
        return np.stack([logits[:, part].argmax(axis=1) for part in self._parts], axis=1)

    def to_environment(self, raw: Array) -> Array:
        """Actions from the space's `start` on."""
        actions = raw.reshape(len(raw), *self._shape) + self._space.start
        return actions.astype(self._space.dtype, copy=False)

    def trace(self, outputs: Tensor, log_std: Tensor, raw: Tensor, mask: Tensor | None) -> HeadTrace:
        """Distributions of all components."""
        if len(self._parts) == 1:
            return _ChoiceTrace(categorical.log_probabilities(outputs, mask), raw[:, 0], log_std)
        masks = [None if mask is None else mask[:, part] for part in self._parts]
        log_ps = [categorical.log_probabilities(outputs[:, p], m) for p, m in zip(self._parts, masks, strict=True)]
        return _ChoicesTrace(
            [_ChoiceTrace(log_p, action, log_std) for log_p, action in zip(log_ps, raw.unbind(1), strict=True)]
        )


@dataclass(frozen=True, slots=True)
class _ChoiceTrace:
    """One component."""

    log_p: Tensor  # [B, A]
    action: Tensor  # [B]
    log_std: Tensor  # [0]

    @property
    def log_prob(self) -> Tensor:
        return categorical.log_prob(self.log_p, self.action)

    @property
    def entropy(self) -> Tensor:
        return categorical.entropy(self.log_p)

    def gradient(self, by_log_prob: Tensor, by_entropy: float) -> tuple[Tensor, Tensor]:
        by_outputs = categorical.log_prob_gradient(self.log_p, self.action).mul_(by_log_prob.unsqueeze(1))
        if by_entropy:
            by_outputs.add_(categorical.entropy_gradient(self.log_p), alpha=by_entropy)
        return by_outputs, self.log_std


@dataclass(frozen=True, slots=True)
class _ChoicesTrace:
    """Several components: log-probabilities and entropies add up."""

    parts: Sequence[_ChoiceTrace]

    @property
    def log_prob(self) -> Tensor:
        return torch.stack([part.log_prob for part in self.parts]).sum(dim=0)

    @property
    def entropy(self) -> Tensor:
        return torch.stack([part.entropy for part in self.parts]).sum(dim=0)

    def gradient(self, by_log_prob: Tensor, by_entropy: float) -> tuple[Tensor, Tensor]:
        by_outputs = [part.gradient(by_log_prob, by_entropy)[0] for part in self.parts]
        return torch.cat(by_outputs, dim=1), self.parts[0].log_std


class GaussianHead:
    """Box actions: a Gaussian around the network's outputs, its log std learned beside the network.

    Nothing squashes it: the environment gets the draw clipped to its bounds, learning has the draw itself.
    """

    raw_dtype = np.dtype(np.float32)

    def __init__(self, space: spaces.Box) -> None:
        self.size = self.log_stds = self.raw_size = prod(space.shape)
        self._space = space

    def draw(self, outputs: Floats, log_std: Floats, rng: np.random.Generator, mask: Bools | None) -> Drawn:
        """Mean plus std times a standard normal; masks mean nothing here."""
        z = rng.standard_normal(outputs.shape, dtype=np.float32)
        constant = log_std.sum() + np.float32(0.5 * np.log(2 * np.pi) * self.size)
        log_prob: Floats = np.float32(-0.5) * (z * z).sum(axis=1) - constant
        return Drawn(outputs + np.exp(log_std) * z, log_prob)

    def mode(self, outputs: Floats, mask: Bools | None) -> Array:
        """The mean."""
        return outputs

    def to_environment(self, raw: Array) -> Array:
        """The draw within the bounds."""
        space = self._space
        actions: Array = np.clip(raw.reshape(len(raw), *space.shape), space.low, space.high)
        return actions.astype(space.dtype, copy=False)

    def trace(self, outputs: Tensor, log_std: Tensor, raw: Tensor, mask: Tensor | None) -> HeadTrace:
        """Gaussians around the outputs."""
        return _GaussianTrace(outputs, log_std, raw)


@dataclass(frozen=True, slots=True)
class _GaussianTrace:
    mean: Tensor  # [B, A]
    log_std: Tensor  # [A]
    raw: Tensor  # [B, A]

    @property
    def log_prob(self) -> Tensor:
        return gaussian.log_prob(self.mean, self.log_std, self.raw)

    @property
    def entropy(self) -> Tensor:
        return gaussian.entropy(self.log_std).expand(len(self.mean))

    def gradient(self, by_log_prob: Tensor, by_entropy: float) -> tuple[Tensor, Tensor]:
        by_mean, by_log_std = gaussian.log_prob_gradient(self.mean, self.log_std, self.raw)
        rows = by_log_prob.unsqueeze(1)
        return by_mean.mul_(rows), by_log_std.mul_(rows).sum(dim=0).add_(by_entropy * len(self.mean))


def action_head(space: Space) -> ActionHead:
    """The head for an action space. Raises UnsupportedTaskError, see `action_head_reason`."""
    reason = action_head_reason(space)
    if reason is not None:
        raise UnsupportedTaskError(reason)
    if isinstance(space, spaces.Box):
        return GaussianHead(space)
    assert isinstance(space, (spaces.Discrete, spaces.MultiDiscrete))
    return CategoricalHead(space)


def action_head_reason(space: Space) -> str | None:
    """Why there is no distribution for an action space; None if there is one."""
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return None
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return None
    return f"it needs Discrete, MultiDiscrete or continuous (float Box) actions, these are {space}"


def _part_of(mask: Bools | None, part: slice) -> Bools | None:
    return None if mask is None else mask[:, part]


def _draw_choice(logits: Floats, mask: Bools | None, rng: np.random.Generator) -> Drawn:
    """Numbers [N, 1] drawn from the softmax of logits [N, A] over what is allowed."""
    if mask is not None:
        logits = np.where(mask, logits, np.float32(-np.inf))
    logits = logits - logits.max(axis=1, keepdims=True)
    cumulative = np.exp(logits).cumsum(axis=1)
    total = cumulative[:, -1]
    # forbidden actions add nothing to the sum, so the first sum above the draw is never one of theirs
    raw = np.count_nonzero(rng.random(len(total)) * total >= cumulative.T, axis=0)
    log_prob: Floats = logits[np.arange(len(raw)), raw] - np.log(total)
    return Drawn(raw[:, None], log_prob)
