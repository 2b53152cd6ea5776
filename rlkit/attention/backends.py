"""Which implementation computes an attention, and why: a pure function, so that any machine's choice can be tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch

from rlkit.errors import UsageError

Backend: TypeAlias = Literal["explicit", "sdpa", "gathered", "tiled", "triton"]
Hidden: TypeAlias = Literal["nothing", "later", "intervals"]

TRITON_HEADS = range(16, 129, 16)
"""Sizes of a head that the kernels take."""
_TRITON_TYPES = (torch.float32, torch.float16, torch.bfloat16)
_FEW_LOGITS = 64 * 64
_WORTH_GATHERING = 0.5
"""Share of all logits below which copying keys beside their queries pays (measured: 512 steps, episodes of 64)."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the choice depends on.

    Attributes:
        device: Kind of device, such as "cpu" or "cuda".
        dtype: Of queries, keys and values.
        head_size: Width of a head of queries and keys.
        queries: Number of queries, T.
        keys: Number of keys, S.
        hidden: What the mask hides: nothing, keys later than the query (same T and S), or anything else.
        gathered_share: Logits that `gathered` computes, as a share of T x S; None where that is not known.
        has_sink: Whether there is an attention sink.
        has_dropout: Whether weights are dropped.
        wants_weights: Whether the weights are to be returned.
        has_triton: Whether Triton's kernels can run there.
    """

    device: str
    dtype: torch.dtype
    head_size: int
    queries: int
    keys: int
    hidden: Hidden = "nothing"
    gathered_share: float | None = None
    has_sink: bool = False
    has_dropout: bool = False
    wants_weights: bool = False
    has_triton: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend, and why it was chosen."""

    backend: Backend
    reason: str


def choose_backend(situation: Situation) -> Choice:
    """The fastest backend that can do it.

    >>> choose_backend(Situation("cuda", torch.bfloat16, 32, 512, 512, "intervals", has_triton=True)).backend
    'triton'
    """
    on_cpu = situation.device == "cpu"
    if situation.wants_weights:
        return Choice("explicit", "only the explicit form has the weights")
    if situation.has_dropout:
        if situation.has_sink:
            return Choice("explicit", "only the explicit form has both a sink and dropout")
        return Choice("sdpa", "dropout is torch's own")
    if situation.has_sink:
        if not on_cpu and refusal("triton", situation) is None:
            return Choice("triton", "a sink needs the logarithm of the sum, which the kernel gives")
        if situation.queries * situation.keys <= _FEW_LOGITS:
            return Choice("explicit", "few logits")
        return Choice("tiled", "a sink needs the logarithm of the sum, which the tiles give")
    if situation.hidden != "intervals":
        return Choice("sdpa", f"torch's own is fastest where {situation.hidden} is hidden")
    if on_cpu:
        share = situation.gathered_share
        if share is not None and share <= _WORTH_GATHERING:
            return Choice("gathered", f"a tile of queries sees {share:.0%} of the keys at most")
        return Choice("sdpa", "most keys are seen: torch's own under a dense mask")
    missing = refusal("triton", situation)
    if missing is None:
        return Choice("triton", "tiles that the mask hides are skipped")
    return Choice("sdpa", f"no Triton kernel ({missing}): torch's own under a dense mask")


def refusal(backend: Backend, situation: Situation) -> str | None:
    """Why this backend cannot do it; None if it can."""
    if backend == "explicit":
        return None
    if situation.wants_weights:
        return "it does not have the weights"
    if situation.has_dropout and backend != "sdpa":
        return "it has no dropout"
    if situation.has_sink and backend in ("sdpa", "gathered"):
        return "it has no attention sink"
    if backend == "gathered" and situation.device != "cpu":
        return f"it is for processors, this is {situation.device}"
    if backend == "triton":
        if not situation.has_triton:
            return f"Triton cannot run on {situation.device} here"
        if situation.dtype not in _TRITON_TYPES:
            return f"it takes float32, float16 and bfloat16, not {str(situation.dtype).removeprefix('torch.')}"
        if situation.head_size not in TRITON_HEADS:
            return f"it takes heads of multiples of 16 up to 128, not of {situation.head_size}"
    return None


def asked_for(name: str, situation: Situation) -> Choice:
    """The backend of this name.

    Raises:
        UsageError: there is none of this name, or it cannot do it.
    """
    for backend in get_args(Backend):
        if backend == name:
            missing = refusal(backend, situation)
            if missing is not None:
                raise UsageError(
                    f"attention backend {name!r} cannot do this: {missing}.\nUse 'auto', which would take "
                    f"{choose_backend(situation).backend!r} here."
                )
            return Choice(backend, "asked for")
    raise UsageError(f"attention backend is {name!r}, allowed: auto, {', '.join(get_args(Backend))}")
