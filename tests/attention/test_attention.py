"""The operation: every backend against the reference, isolation, rows alone and in a batch, and bad input."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlkit.attention.attention import _FEW_QUERIES, attention, attention_weights
from rlkit.attention.backends import Hidden, Situation, choose_backend
from rlkit.attention.mask import AttentionMask
from rlkit.attention.reference import attention_reference
from rlkit.errors import UsageError

ON_CPU = ("explicit", "sdpa", "gathered", "tiled")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def starts(rows: int, steps: int, every: float = 0.1, seed: int = 1) -> Tensor:
    return torch.rand(rows, steps, generator=torch.Generator().manual_seed(seed)) < every


CASES = {
    "everything": (AttentionMask(), 20, 33),
    "causal": (AttentionMask(causal=True), 33, 33),
    "window": (AttentionMask(causal=True, window=5), 150, 150),
    "episodes": (AttentionMask.episodes(starts(2, 150)), 150, 150),
    "episodes both ways": (AttentionMask.episodes(starts(2, 70), causal=False), 70, 70),
    "memory and window": (AttentionMask.episodes(starts(2, 20), window=12, memory=11), 20, 31),
    "padding": (AttentionMask(key_length=torch.tensor([0, 9])), 7, 17),
}


def inputs(queries: int, keys: int, *, rows: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = ((rows, 4, queries, 8), (rows, 2, keys, 8), (rows, 2, keys, 8))
    return [draw(*shape, seed=seed, dtype=dtype).requires_grad_() for seed, shape in enumerate(shapes)]


@pytest.mark.parametrize("backend", ["auto", *ON_CPU])
@pytest.mark.parametrize("case", CASES)
def test_every_backend_gives_the_references_outputs_and_gradients(case: str, backend: str) -> None:
    mask, queries, keys = CASES[case]
    q, k, v = inputs(queries, keys)
    wanted, _ = attention_reference(q, k, v, mask, scale=0.3)
    by_out = draw(*wanted.shape, seed=9)
    right = torch.autograd.grad(wanted, (q, k, v), by_out)
    out = attention(q, k, v, mask, scale=0.3, backend=backend)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-10)
    for found, gradient in zip(torch.autograd.grad(out, (q, k, v), by_out), right, strict=True):
        torch.testing.assert_close(found, gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", ["auto", "explicit", "tiled"])
@pytest.mark.parametrize("case", CASES)
def test_a_sink_is_a_logit_more(case: str, backend: str) -> None:
    mask, queries, keys = CASES[case]
    q, k, v = inputs(queries, keys)
    sink = draw(4, seed=3).requires_grad_()
    wanted, _ = attention_reference(q, k, v, mask, sink=sink)
    by_out = draw(*wanted.shape, seed=9)
    right = torch.autograd.grad(wanted, (q, k, v, sink), by_out)
    out = attention(q, k, v, mask, sink=sink, backend=backend)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-10)
    for found, gradient in zip(torch.autograd.grad(out, (q, k, v, sink), by_out), right, strict=True):
        torch.testing.assert_close(found, gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_dtype_changes_on_the_way(backend: str, dtype: torch.dtype) -> None:
    q, k, v = inputs(9, 9, dtype=dtype)
    out = attention(q, k, v, AttentionMask(causal=True), backend=backend)
    assert out.dtype == dtype
    assert torch.autograd.grad(out.sum(), k)[0].dtype == dtype


def test_weights_on_request() -> None:
    mask, queries, keys = CASES["padding"]
    q, k, v = inputs(queries, keys)
    out, weights = attention_weights(q, k, v, mask)
    wanted, right = attention_reference(q, k, v, mask)
    torch.testing.assert_close(weights, right)
    torch.testing.assert_close(out, wanted)


def test_dropout_drops_weights() -> None:
    q, k, v = inputs(40, 40, dtype=torch.float32)
    one = torch.ones_like(v)
    torch.manual_seed(0)
    for sink in (None, torch.full((4,), -torch.inf)):
        out = attention(q, k, one, dropout=0.5, sink=sink)
        assert 0.8 < float(out.detach().mean()) < 1.2
        assert float(out.detach().std()) > 0.05


@pytest.mark.parametrize("backend", ["auto", *ON_CPU])
def test_other_episodes_do_not_leak(backend: str) -> None:
    first = torch.zeros(1, 100, dtype=torch.bool)
    first[:, [0, 30, 70]] = True
    mask = AttentionMask.episodes(first)
    q, k, v = inputs(100, 100, rows=1, dtype=torch.float32)
    other = torch.ones(100, dtype=torch.bool)
    other[30:70] = False
    clean = attention(q, k, v, mask, backend=backend)[:, :, 30:70]
    loud_k, loud_v = (torch.where(other[:, None], torch.full_like(x, 1e4), x).detach().requires_grad_() for x in (k, v))
    loud = attention(q, loud_k, loud_v, mask, backend=backend)[:, :, 30:70]
    assert torch.equal(clean, loud)
    for gradient in torch.autograd.grad(loud.sum(), (loud_k, loud_v)):
        assert bool((gradient[:, :, other] == 0).all())


@pytest.mark.parametrize("backend", ["auto", *ON_CPU])
@pytest.mark.parametrize("steps", [1, 60, 130])
def test_a_row_has_the_same_bits_alone_and_in_a_batch(backend: str, steps: int) -> None:
    keys = max(steps, 96)
    q, k, v = (x.detach() for x in inputs(steps, keys, rows=16, dtype=torch.float32))
    mask = AttentionMask.episodes(starts(16, steps, 0.05), memory=keys - steps)
    together = attention(q, k, v, mask, backend=backend)
    assert mask.start is not None
    for row in (0, 7, 15):
        one = slice(row, row + 1)
        own = AttentionMask(causal=True, start=mask.start[one], offset=mask.offset)
        assert torch.equal(attention(q[one], k[one], v[one], own, backend=backend)[0], together[row]), row


@given(seed=st.integers(0, 1000), every=st.floats(0.02, 0.5))
@settings(max_examples=40, deadline=None)
def test_packed_episodes_equal_separate_ones(seed: int, every: float) -> None:
    steps = 90
    first = starts(1, steps, every, seed)
    first[0, 0] = True
    q, k, v = (x.detach() for x in inputs(steps, steps, rows=1))
    packed = attention(q, k, v, AttentionMask.episodes(first))
    bounds = [*torch.nonzero(first[0])[:, 0].tolist(), steps]
    for begin, end in pairwise(bounds):
        alone = attention(*(x[:, :, begin:end] for x in (q, k, v)), AttentionMask(causal=True))
        torch.testing.assert_close(packed[:, :, begin:end], alone, rtol=0, atol=1e-10)


def test_the_order_of_keys_does_not_matter() -> None:
    q, k, v = (x.detach() for x in inputs(5, 12))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attention(q, k[:, :, order], v[:, :, order]), attention(q, k, v))


@pytest.mark.parametrize(
    "mask",
    [
        AttentionMask(causal=True),
        AttentionMask(key_length=torch.tensor([3, 12])),
        AttentionMask.episodes(starts(2, 150)),
    ],
)
def test_it_compiles_into_one_graph(mask: AttentionMask) -> None:
    steps = 150 if mask.start is not None else 12
    q, k, v = (x.detach() for x in inputs(steps, steps, dtype=torch.float32))
    compiled = torch.compile(lambda *given: attention(*given, mask), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(q, k, v), attention(q, k, v, mask))


BF16 = torch.bfloat16


@pytest.mark.parametrize(
    ("situation", "backend"),
    [
        (Situation("cuda", BF16, 64, 197, 197), "sdpa"),
        (Situation("cuda", BF16, 64, 197, 197, "later", has_triton=True), "sdpa"),
        (Situation("cuda", BF16, 32, 512, 512, "intervals", has_triton=True), "triton"),
        (Situation("cuda", BF16, 32, 512, 512, "intervals"), "sdpa"),
        (Situation("cuda", BF16, 48, 512, 512, "intervals", has_triton=True), "triton"),
        (Situation("cuda", BF16, 40, 512, 512, "intervals", has_triton=True), "sdpa"),
        (Situation("cuda", torch.float64, 32, 512, 512, "intervals", has_triton=True), "sdpa"),
        (Situation("cuda", BF16, 32, 512, 512, "intervals", has_triton=True, has_dropout=True), "sdpa"),
        (Situation("cuda", BF16, 32, 512, 512, "intervals", has_triton=True, has_sink=True), "triton"),
        (Situation("cuda", BF16, 32, 512, 512, "intervals", has_triton=True, wants_weights=True), "explicit"),
        (Situation("cpu", torch.float32, 32, 512, 512, "intervals", gathered_share=0.25), "gathered"),
        (Situation("cpu", torch.float32, 32, 512, 512, "intervals", gathered_share=0.75), "sdpa"),
        (Situation("cpu", torch.float32, 32, 1, 256, "intervals"), "sdpa"),
        (Situation("cpu", torch.float32, 32, 512, 512, has_sink=True), "tiled"),
        (Situation("cpu", torch.float32, 32, 1, 64, has_sink=True), "explicit"),
        (Situation("mps", torch.float32, 32, 512, 512, "intervals"), "sdpa"),
    ],
)
def test_the_choice_for_any_machine(situation: Situation, backend: str) -> None:
    choice = choose_backend(situation)
    assert choice.backend == backend
    assert choice.reason


@given(
    queries=st.integers(1, 128), keys=st.integers(1, 4096), hidden=st.sampled_from(["nothing", "later", "intervals"])
)
@settings(max_examples=50, deadline=None)
def test_few_queries_on_a_processor_need_not_ask(queries: int, keys: int, hidden: Hidden) -> None:
    asked = choose_backend(Situation("cpu", torch.float32, 32, queries, keys, hidden))
    assert asked.backend == _FEW_QUERIES.backend


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"k": draw(2, 3, 9, 8), "v": draw(2, 3, 9, 8)},
            "4 heads of queries and 3 of keys: the first must be a multiple",
        ),
        ({"k": draw(2, 2, 9, 6)}, r"queries \[2, 4, 9, 8\], keys \[2, 2, 9, 6\]"),
        ({"v": draw(2, 2, 7, 8)}, "that agree"),
        ({"q": draw(4, 9, 8)}, r"takes tensors \[batch, heads, steps, size\]"),
        ({"q": draw(2, 4, 9, 8).float()}, "needs one dtype, queries are torch.float32"),
        ({"mask": AttentionMask.episodes(starts(3, 9))}, "mask is for 3 rows, the batch has 2"),
        ({"mask": AttentionMask.episodes(starts(2, 8))}, "start of the attention mask is for 8 queries, there are 9"),
        ({"sink": torch.zeros(2)}, r"a logit per head \[4\], this one is \[2\]"),
        ({"backend": "flash"}, "'flash', allowed: auto, explicit, sdpa, gathered, tiled, triton"),
        ({"backend": "triton"}, "'triton' cannot do this: Triton cannot run on cpu here.\nUse 'auto', .* 'sdpa' here"),
        ({"backend": "sdpa", "sink": torch.zeros(4)}, "it has no attention sink"),
        ({"backend": "tiled", "dropout": 0.1}, "it has no dropout"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    given = dict(zip("qkv", inputs(9, 9), strict=True)) | change
    with pytest.raises(UsageError, match=message):
        attention(**given)  # type: ignore[arg-type]
