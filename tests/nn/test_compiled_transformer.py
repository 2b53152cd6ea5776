"""Compiled steps of a transformer beside the ordinary ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlkit.nn.compiled_transformer import MOST_ROWS, CompiledSteps, exp, product, take_gelu
from rlkit.nn.cores import TransformerCore
from rlkit.nn.flat import flatten_parameters


class Squared(nn.Module):
    """An encoder."""

    feature_size = 6

    def forward(self, x: Tensor) -> Tensor:
        return x.square()

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        return {}


def core_of(**options: object) -> TransformerCore:
    given = {"layers": 2, "heads": 4, "context": 5, "generator": torch.Generator().manual_seed(0)} | options
    core = TransformerCore(6, 16, **given)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.normal_(std=0.4, generator=torch.Generator().manual_seed(1))
    return core


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 3, 4, 9])
@pytest.mark.parametrize("kv_heads", [None, 2])
def test_steps_with_resets_are_those_of_the_core(rows: int, kv_heads: int | None) -> None:
    core = core_of(kv_heads=kv_heads)
    compiled, random = CompiledSteps(core), torch.Generator().manual_seed(rows)
    memory, expected = core.empty(rows), core.empty(rows)
    for _ in range(14):
        x, ended = torch.randn(rows, 6, generator=random), torch.rand(rows, generator=random) < 0.1
        assert compiled.fits(x, memory)
        y, memory = compiled.step(x, core.reset(memory, ended))
        wanted, expected = core.step(x, core.reset(expected, ended))
        torch.testing.assert_close(y, wanted, atol=2e-5, rtol=1e-5)
        for one, other in zip(memory, expected, strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


@torch.inference_mode()
def test_weights_that_change_or_move_are_seen() -> None:
    core, x = core_of(), torch.ones(2, 6)
    compiled = CompiledSteps(core)

    def difference() -> float:
        found = compiled.step(x, core.empty(2))[0]
        return float((found - core.step(x, core.empty(2))[0]).abs().max())

    assert difference() < 1e-5
    core.blocks[0].widen.weight += 0.1  # type: ignore[union-attr, operator]
    assert difference() < 1e-5
    flat = flatten_parameters(core)
    flat *= 0.9
    assert difference() < 1e-5


def test_it_does_not_fit_where_something_is_learned_or_large_or_gated() -> None:
    def fits(x: Tensor, **options: object) -> bool:
        core = core_of(**options)
        return CompiledSteps(core).fits(x, core.empty(len(x)))

    assert not fits(torch.zeros(2, 6))  # gradients
    with torch.no_grad():
        assert fits(torch.zeros(2, 6))
        assert not fits(torch.zeros(2, 6).double())
        assert not fits(torch.zeros(MOST_ROWS + 1, 6))
        assert not fits(torch.zeros(2, 6), gate="gru")


@torch.inference_mode()
def test_an_encoder_comes_first() -> None:
    core, x = core_of(encoder=Squared()), torch.full((2, 6), 3.0)
    found, wanted = CompiledSteps(core).step(x, core.empty(2))[0], core.step(x, core.empty(2))[0]
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("rows", "units"), [(8, 6), (1, 1), (5, 3), (3, 2)])
def test_a_product_is_right_for_any_number_of_rows_and_units(rows: int, units: int) -> None:
    random = np.random.default_rng(0)
    x, weight, bias = (random.normal(size=shape).astype(np.float32) for shape in ((rows, 7), (units, 7), units))
    out = np.zeros((rows, units), np.float32)
    product(x, weight, bias, out)
    np.testing.assert_allclose(out, x.astype(np.float64) @ weight.T + bias, atol=1e-5)


def test_the_exponential_and_gelu_are_right_to_rounding() -> None:
    x = np.concatenate([np.linspace(-90, 0, 5001), np.linspace(-8, 8, 5001)]).astype(np.float32)
    error = [exp(each) / np.exp(np.float64(each)) - 1 for each in x[::50] if each >= -87]
    assert np.abs(error / (1 + np.abs(x[::50][x[::50] >= -87]))).max() < 1e-7
    y = x.copy()
    take_gelu(y)
    expected = [each / 2 * (1 + math.erf(each / math.sqrt(2))) for each in x.astype(np.float64)]
    assert np.abs(y - expected).max() < 1e-6
