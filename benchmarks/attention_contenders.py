"""Who is measured by `attention_gpu.py`, on which shapes, and the clock."""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from rlkit.attention.mask import AttentionMask

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
ROTATED_BYTES = 256_000_000
"""Sets of buffers take turns until they are several times the L2 of an H100 (50 MB) or H200 (60 MB)."""
REPEATS = 20


@dataclass(frozen=True)
class Shape:
    """One of S1 to S7 of the notes.

    Attributes:
        what: Where it occurs.
        rows: Batch.
        queries: T.
        keys: S.
        heads: H, of queries and of keys.
        size: D.
        causal: Whether later keys are hidden.
        window: Keys seen up to the query's own.
        episode: Mean length of packed episodes.
        valid: Mean number of keys that are no padding.
        floors: Microseconds forward and backward that the notes count for an H100, 3.0 TB/s.
    """

    what: str
    rows: int
    queries: int
    keys: int
    heads: int
    size: int
    floors: tuple[float, float]
    causal: bool = False
    window: int | None = None
    episode: int | None = None
    valid: int | None = None

    def tiny(self) -> Shape:
        """The same in small, for the interpreter."""
        small = {"rows": 2, "queries": min(self.queries, 20), "keys": min(self.keys, 20), "heads": 2, "size": 16}
        episode, window, valid = (None if x is None else 6 for x in (self.episode, self.window, self.valid))
        return replace(self, **small, episode=episode, window=window, valid=valid)

    def mask(self, device: str, rows: int | None = None) -> AttentionMask:
        """A mask with random boundaries, on the device without waiting for it."""
        rows = rows or self.rows
        if self.episode is not None:
            is_first = torch.rand(rows, self.queries, device=device) < 1 / self.episode
            return AttentionMask.episodes(is_first, window=self.window, causal=self.causal)
        length = None
        if self.valid is not None:
            length = torch.randint(1, 2 * self.valid, (rows,), device=device, dtype=torch.int32).clamp(max=self.keys)
        return AttentionMask(self.causal, self.window, key_length=length)

    def moved(self, backward: bool, item: int = 2) -> int:
        """Bytes if each tensor is moved once: q, k, v, out and log_sum; with their gradients and the row sums."""
        of_q, of_k = (self.rows * self.heads * n * self.size * item for n in (self.queries, self.keys))
        sums = 4 * self.rows * self.heads * self.queries
        return (4 * of_q + 4 * of_k + 2 * sums) if backward else (2 * of_q + 2 * of_k + sums)


SHAPES = {
    "S1": Shape("PPO with memory", 256, 128, 128, 4, 32, (11.4, 22.7), causal=True, episode=40),
    "S2": Shape("PPO, packed", 64, 512, 512, 4, 64, (22.5, 45), causal=True, window=128, episode=64),
    "S3": Shape("Decision Transformer, Atari", 128, 90, 90, 8, 16, (4.1, 8.1), causal=True),
    "S4": Shape("ViT-S/16", 128, 197, 197, 6, 64, (26, 52)),
    "S5": Shape("entities", 1024, 64, 64, 4, 32, (22.7, 45), valid=24),
    "S6 self": Shape("DiT action head", 256, 16, 16, 8, 64, (5.6, 11)),
    "S6 cross": Shape("DiT action head", 256, 16, 64, 8, 64, (14, 28)),
    "S7": Shape("OadTR", 128, 65, 65, 8, 128, (23, 46)),
}


@dataclass(frozen=True)
class Decode:
    """S8: a step of one token per row. Floor in microseconds per layer, None where launches decide."""

    rows: int
    heads: int
    kv_heads: int
    size: int
    capacity: int
    floor: float | None

    def tiny(self) -> Decode:
        """The same in small."""
        return replace(self, rows=2, heads=2, kv_heads=min(self.kv_heads, 2), size=16, capacity=8)

    def moved(self, item: int = 2) -> int:
        """Bytes of the caches, read once."""
        return 2 * self.rows * self.kv_heads * self.capacity * self.size * item


DECODES = {
    "S8 C=64": Decode(1024, 8, 8, 32, 64, 23), "S8 C=256": Decode(1024, 8, 8, 32, 256, 90),
    "S8 C=1024": Decode(1024, 8, 8, 32, 1024, 358), "S8 MQA C=64": Decode(1024, 8, 1, 32, 64, 3.2),
    "S8 MQA C=256": Decode(1024, 8, 1, 32, 256, 11.5), "S8 MQA C=1024": Decode(1024, 8, 1, 32, 1024, 45),
    "S8b 64 envs": Decode(64, 8, 8, 32, 256, 5.6), "S8b 1 env": Decode(1, 8, 8, 32, 256, None),
}  # fmt: skip


def buffers(shape: Shape, device: str, dtype: torch.dtype) -> list[list[Tensor]]:
    """Sets of q, k, v and the outputs' gradient, in memory as a projection leaves them: [B, T, H, D]."""
    count = 2 if device == "cpu" else max(2, min(16, -(-ROTATED_BYTES // shape.moved(backward=False))))
    lengths = (shape.queries, shape.keys, shape.keys, shape.queries)
    return [
        [
            torch.randn(shape.rows, length, shape.heads, shape.size, device=device, dtype=dtype).transpose(1, 2)
            for length in lengths
        ]
        for _ in range(count)
    ]


def timed(calls: Sequence[Callable[[], object]], device: str) -> tuple[float, str]:
    """Median microseconds of one call, and how it was measured: in a CUDA graph, by events, or by the CPU's clock."""
    if device == "cpu":
        started = time.perf_counter()
        for call in calls:
            call()
        return (time.perf_counter() - started) / len(calls) * 1e6, "cpu"
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what runs before a capture runs beside the default stream
        for _ in range(2):
            for call in calls:
                call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph, how = torch.cuda.CUDAGraph(), "graph"
    try:
        with torch.cuda.graph(graph):
            for call in calls:
                call()
        play: Callable[[], object] = graph.replay
    except Exception as problem:  # a contender that cannot be captured is timed with its launches
        how = f"events ({type(problem).__name__})"

        def play() -> None:
            for call in calls:
                call()

    torch.cuda.synchronize()
    for _ in range(3):
        play()
    times = []
    for _ in range(REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        play()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / len(calls))
    return statistics.median(times), how


def contenders(shape: Shape, mask: AttentionMask, device: str) -> Iterator[tuple[str, Callable[[], Attend]]]:
    """Names, and what prepares each; quick ones first, those that compile last."""
    yield "own", lambda: own(shape, mask, device)
    if mask.rows is not None:
        yield "own, bounds anew", lambda: own(shape, None, device)
    for name, backend in SDPA.items():
        yield f"SDPA {name}", lambda backend=backend: sdpa(shape, mask, device, backend, masked=True)
        if mask.rows is not None:
            yield f"SDPA {name}, mask ignored", lambda backend=backend: sdpa(shape, mask, device, backend, masked=False)
    yield "varlen", lambda: varlen(shape, mask, device)
    yield "Flex", lambda: flex(shape, mask, device, anew=False)
    if mask.rows is not None:
        yield "Flex, mask anew", lambda: flex(shape, mask, device, anew=True)


def own(shape: Shape, mask: AttentionMask | None, device: str, tile: Sequence[int] | None = None) -> Attend:
    """This repository's kernels; without a mask they are given new boundaries with every call."""
    from rlkit.attention.kernels import interval_attention

    bounds = None if mask is None else mask.intervals(shape.queries, shape.keys, device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        low, high = bounds or shape.mask(device).intervals(shape.queries, shape.keys, device)
        return interval_attention(q, k, v, low, high, shape.size**-0.5, tile=tile)[0]

    return attend


SDPA = {
    "flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH,
}  # fmt: skip


def sdpa(shape: Shape, mask: AttentionMask, device: str, backend: SDPBackend, masked: bool) -> Attend:
    """Torch's own, by one backend, with a dense mask where the mask is more than causal."""
    needed = masked and (mask.rows is not None or mask.window is not None)
    dense = mask.dense(shape.queries, shape.keys, device) if needed else None

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v, dense, is_causal=mask.causal and dense is None)

    return attend


def varlen(shape: Shape, mask: AttentionMask, device: str) -> Attend:
    """Torch's attention to sequences of different lengths, packed; the lengths are read back to the host once."""
    from torch.nn.attention.varlen import varlen_attn

    if mask.key_length is not None:
        raise NotImplementedError("varlen would need the keys packed without their padding")
    begins = torch.zeros(shape.rows, shape.queries, dtype=torch.bool, device=device)
    if mask.start is not None:
        begins = mask.start == torch.arange(shape.queries, device=device)
    begins[:, 0] = True
    if shape.queries != shape.keys:
        begins_k = torch.zeros(shape.rows, shape.keys, dtype=torch.bool, device=device)
        begins_k[:, 0] = True
    else:
        begins_k = begins
    ends = [
        torch.nn.functional.pad(x.flatten().nonzero()[:, 0], (0, 1), value=x.numel()).int() for x in (begins, begins_k)
    ]
    longest = [int(x.diff().max()) for x in ends]
    options: dict[str, Any] = {"is_causal": mask.causal}  # torch 2.10; later ones say it by the window
    if "window_size" in inspect.signature(varlen_attn).parameters:
        options = {"window_size": (-1 if mask.window is None else mask.window - 1, 0) if mask.causal else (-1, -1)}
    elif mask.window is not None:
        raise NotImplementedError("this torch's varlen_attn has no window")

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        flat = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
        out = varlen_attn(*flat, *ends, *longest, **options)
        return out.view(shape.rows, shape.queries, shape.heads, -1).transpose(1, 2)

    return attend


def flex(shape: Shape, mask: AttentionMask, device: str, anew: bool) -> Attend:
    """FlexAttention, compiled on a GPU, with its block mask prepared or built with every call."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    build, attention = create_block_mask, flex_attention
    if device != "cpu":
        torch._dynamo.reset()  # it keeps only so many shapes
        build, attention = torch.compile(build), torch.compile(attention, dynamic=False)  # type: ignore[assignment]

    low, high = mask.intervals(shape.queries, shape.keys, device)
    low, high = low.clone(), high.clone()

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        row = b if low.shape[0] > 1 else 0
        return (j >= low[row, i]) & (j < high[row, i])

    def block_mask() -> Any:
        if mask.hides_nothing:
            return None
        return build(sees, shape.rows if mask.rows else None, None, shape.queries, shape.keys, device=device)

    def with_new_bounds() -> Any:
        # in place, so that the compiled functions see the same tensors
        for bound, new in zip(
            (low, high), shape.mask(device).intervals(shape.queries, shape.keys, device), strict=True
        ):
            bound.copy_(new)
        return block_mask()

    prepared = block_mask()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, block_mask=with_new_bounds() if anew else prepared)

    return attend


def decoders(shape: Decode, device: str, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], list[Any]]]]:
    """Names, and what prepares the steps of as many layers as the caches need to leave the L2."""
    layers = 2 if device == "cpu" else max(4, min(16, -(-ROTATED_BYTES // shape.moved())))
    position = torch.full((shape.rows,), 3 * shape.capacity, dtype=torch.int32, device=device)

    def filled(*sizes: int) -> Tensor:
        return torch.randn(*sizes, device=device, dtype=dtype)

    heads = (shape.heads, shape.kv_heads, shape.kv_heads)
    tokens = [[filled(shape.rows, count, shape.size) for count in heads] for _ in range(layers)]
    caches = [[filled(shape.rows, shape.kv_heads, shape.capacity, shape.size) for _ in range(2)] for _ in range(layers)]
    angles = position[:, None] * 10_000 ** (-torch.arange(0, shape.size, 2, device=device) / shape.size)
    cos, sin = angles.cos(), angles.sin()

    def fused() -> list[Any]:
        from rlkit.attention.decode import decode_step

        def step(token: list[Tensor], cache: list[Tensor]) -> Tensor:
            return decode_step(*token, *cache, position, shape.size**-0.5, cos=cos, sin=sin)

        return [lambda t=token, c=cache: step(t, c) for token, cache in zip(tokens, caches, strict=True)]

    def by_parts() -> list[Any]:
        row = torch.arange(shape.rows, device=device)
        slots = torch.arange(shape.capacity, device=device)

        def rotated(x: Tensor) -> Tensor:
            first, second = x.float().chunk(2, -1)
            c, s = cos[:, None], sin[:, None]
            return torch.cat((first * c - second * s, second * c + first * s), -1).to(x.dtype)

        def step(token: list[Tensor], cache: list[Tensor]) -> Tensor:
            q, k, v = rotated(token[0]), rotated(token[1]), token[2]
            cache[0][row, :, (position % shape.capacity).long()] = k
            cache[1][row, :, (position % shape.capacity).long()] = v
            seen = slots <= position[:, None]
            return scaled_dot_product_attention(
                q[:, :, None], *cache, seen[:, None, None], enable_gqa=shape.heads != shape.kv_heads
            )[:, :, 0]

        return [lambda t=token, c=cache: step(t, c) for token, cache in zip(tokens, caches, strict=True)]

    yield "own", fused
    yield "SDPA by parts", by_parts
