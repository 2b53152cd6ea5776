"""Attention to the whole past, whose weights fall by a factor with each step: one state for each query.

TeSTra (Zhao and Krähenbühl 2022, https://arxiv.org/abs/2209.09236, section 3.3): a query that does not change asks

    y_t = Σ_{n ≤ t} α^{t - n} exp(s_n) v_n / Σ_{n ≤ t} α^{t - n} exp(s_n)

with logits s_n and values v_n. Numerator and denominator go on with one product and one sum a step. The paper's code
takes the first step's logit off all others, so that both overflow as soon as logits have grown enough, and vanish where
they fall. Here what is taken off follows the decayed logits: it is the logarithm of their sum, as nearly as the number
type can hold it, and the denominator, which stays near one, holds the rest. In place of the numerator its quotient is
kept, which moves towards a new value by the value's share and is never larger than values are.

(A running maximum beside numerator and denominator is not enough in half precision: logits that grow as fast as they
decay still sum without end; a maximum so large that a step's decay is lost in rounding leaves the denominator to
vanish; and two numbers that are multiplied apart for a thousand steps no longer have the quotient they had.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ExponentialMemory(NamedTuple):
    """What each of M queries remembers of all steps n."""

    shift: Tensor  # [..., M]
    denominator: Tensor  # [..., M], Σ α^{t - n} exp(s_n - shift)
    output: Tensor  # [..., M, E], y; zero where nothing is remembered

    @classmethod
    def empty(cls, *shape: int, size: int, like: Tensor) -> ExponentialMemory:
        """Of nothing, for queries of `shape` [..., M] and values of `size` E; dtype and device of `like`."""
        shift = like.new_full(shape, torch.finfo(like.dtype).min)
        return cls(shift, like.new_zeros(shape), like.new_zeros(*shape, size))


def exponential_step(logits: Tensor, values: Tensor, memory: ExponentialMemory, log_decay: float) -> ExponentialMemory:
    """The memory after one more step.

    Args:
        logits: s_t, [..., M].
        values: v_t, [..., E], the same for all queries.
        memory: Before the step.
        log_decay: log α, not above 0.

    >>> memory = ExponentialMemory.empty(1, size=1, like=torch.zeros(1))
    >>> for value in (3.0, 6.0):
    ...     memory = exponential_step(torch.zeros(1), torch.tensor([value]), memory, torch.tensor(0.5).log().item())
    >>> memory.output
    tensor([[5.]])
    """
    # any shift gives the same output, so that gradients need not go through it
    largest = torch.maximum(memory.shift + log_decay, logits).detach()
    kept = torch.exp(memory.shift - largest + log_decay) * memory.denominator
    weight = torch.exp(logits - largest)
    total = kept + weight  # at least about one
    shift = (largest + total.log()).detach()
    share = (weight / total)[..., None]
    output = memory.output + share * (values[..., None, :] - memory.output)
    return ExponentialMemory(shift, total * torch.exp(largest - shift), output)


def exponential_attention(
    logits: Tensor, values: Tensor, is_first: Tensor, log_decay: float, *, chunk: int = 16
) -> Tensor:
    """y_t of every step, [B, T, *G, M, E], which is what `exponential_step` leads to.

    Args:
        logits: s, [B, T, *G, M].
        values: v, [B, T, *G, E].
        is_first: Where nothing older is remembered, bool [B, T]; the first step is always such.
        log_decay: log α, not above 0.
        chunk: Steps that are worked out together, each from all of them and from the memory before.
    """
    parts: list[Tensor] = []
    before: tuple[Tensor, Tensor] | None = None  # logarithm of the denominator [B, *G, M], output [B, *G, M, E]
    for start in range(0, logits.shape[1], chunk):
        steps = slice(start, start + chunk)
        log_sum, output = _chunk_outputs(logits[:, steps], values[:, steps], is_first[:, steps], log_decay, before)
        parts.append(output)
        before = log_sum[:, -1], output[:, -1]
    return torch.cat(parts, 1)


def _chunk_outputs(
    logits: Tensor, values: Tensor, is_first: Tensor, log_decay: float, before: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Logarithms of the denominators [B, C, *G, M] and outputs [B, C, *G, M, E] of C steps."""
    steps = logits.shape[1]
    age = torch.arange(steps, device=logits.device)[:, None] - torch.arange(steps, device=logits.device)
    segment = is_first.long().cumsum(1)  # 0: goes on from before
    seen = (age >= 0) & (segment[:, :, None] == segment[:, None])  # [B, C, C]
    decay = torch.where(seen, age * log_decay, -torch.inf).to(logits.dtype)
    ones = (1,) * (logits.dim() - 2)
    terms = logits[:, None] + decay.view(*decay.shape, *ones)  # [B, C, C, *G, M], the third is summed
    log_sum = terms.logsumexp(2)
    if before is not None:
        goes_on = torch.arange(1, steps + 1, device=logits.device) * log_decay
        goes_on = torch.where(segment == 0, goes_on, -torch.inf).to(logits.dtype).view(len(logits), steps, *ones)
        older = before[0][:, None] + goes_on
        log_sum = torch.logaddexp(log_sum, older)
    weight = torch.exp(terms - log_sum[:, :, None])
    output = torch.einsum("btn...m,bn...e->bt...me", weight, values)
    if before is not None:
        output = output + torch.exp(older - log_sum)[..., None] * before[1][:, None]
    return log_sum, output
