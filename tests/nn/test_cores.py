"""Cores: stepping through episodes gives what an unroll gives, and no episode hears of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlkit.errors import UsageError
from rlkit.nn.cores import RecurrentCore, TransformerCore

Made: TypeAlias = RecurrentCore | TransformerCore


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


CORES: dict[str, Callable[[], Made]] = {
    "gru": lambda: RecurrentCore("gru", 5, 8, generator()),
    "lstm": lambda: RecurrentCore("lstm", 5, 8, generator()),
    "transformer": lambda: TransformerCore(5, 8, layers=2, heads=2, context=7, generator=generator()),
    "gated transformer": lambda: TransformerCore(
        5, 8, layers=2, heads=2, kv_heads=1, context=7, gate="gru", generator=generator()
    ),
}
every_core = pytest.mark.parametrize("name", CORES)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def starts(rows: int, steps: int, every: float, seed: int = 0) -> Tensor:
    return torch.rand(rows, steps, generator=generator(seed)) < every


def stepped(core: Made, x: Tensor, first: Tensor) -> Tensor:
    memory = core.empty(len(x))
    found = []
    for now in range(x.shape[1]):
        y, memory = core.step(x[:, now], core.reset(memory, first[:, now]))
        found.append(y)
    return torch.stack(found, 1)


@every_core
@given(seed=st.integers(0, 10_000), every=st.floats(0.0, 0.5))
@settings(max_examples=25, deadline=None)
def test_steps_with_random_resets_equal_the_unroll(name: str, seed: int, every: float) -> None:
    core, x, first = CORES[name](), draw(3, 25, 5, seed=seed), starts(3, 25, every, seed)
    with torch.no_grad():
        torch.testing.assert_close(stepped(core, x, first), core.unroll(x, first), rtol=0, atol=1e-5)


@every_core
def test_no_gradient_and_no_bit_comes_from_another_episode(name: str) -> None:
    core, x = CORES[name](), draw(1, 20, 5)
    first = torch.zeros(1, 20, dtype=torch.bool)
    first[:, [0, 6, 14]] = True
    clean = core.unroll(x, first)[:, 6:14]
    loud = x.clone()
    loud[:, :6], loud[:, 14:] = 1e4, -1e4
    loud.requires_grad_()
    heard = core.unroll(loud, first)[:, 6:14]
    assert torch.equal(heard, clean)
    (gradient,) = torch.autograd.grad(heard.square().sum(), loud)
    assert bool((gradient[:, :6] == 0).all())
    assert bool((gradient[:, 14:] == 0).all())
    assert bool((gradient[:, 6:14] != 0).any())


@every_core
def test_rows_do_not_depend_on_each_other(name: str) -> None:
    core, x, first = CORES[name](), draw(6, 12, 5), starts(6, 12, 0.2)
    with torch.no_grad():
        together = core.unroll(x, first)
        for row in range(6):
            alone = core.unroll(x[row : row + 1], first[row : row + 1])
            torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-6)


@every_core
@given(seed=st.integers(0, 10_000), every=st.floats(0.0, 0.4), before=st.integers(0, 20))
@settings(max_examples=25, deadline=None)
def test_an_unroll_goes_on_from_what_is_remembered(name: str, seed: int, every: float, before: int) -> None:
    core, x, first = CORES[name](), draw(3, before + 12, 5, seed=seed), starts(3, before + 12, every, seed)
    with torch.no_grad():
        memory = core.empty(3)
        for now in range(before):
            _, memory = core.step(x[:, now], core.reset(memory, first[:, now]))
        for parameter in core.parameters():
            parameter.mul_(1.1)  # an update, after which acting goes on
        beginning = core.beginning(memory)
        memory = core.refreshed(memory)
        found = []
        for now in range(before, before + 12):
            y, memory = core.step(x[:, now], core.reset(memory, first[:, now]))
            found.append(y)
        wanted = core.unroll(x[:, before:], first[:, before:], beginning)
    torch.testing.assert_close(torch.stack(found, 1), wanted, rtol=0, atol=1e-5)


@every_core
def test_refreshing_by_the_same_weights_changes_nothing_within_the_context(name: str) -> None:
    core, x, first = CORES[name](), draw(3, 9, 5), torch.zeros(3, 9, dtype=torch.bool)
    first[1, 3], first[2, 5] = True, True
    with torch.no_grad():
        memory = core.empty(3)
        for now in range(6):
            _, memory = core.step(x[:, now], core.reset(memory, first[:, now]))
        refreshed = core.refreshed(memory)
        for now in range(6, 9):
            y, memory = core.step(x[:, now], memory)
            again, refreshed = core.step(x[:, now], refreshed)
            torch.testing.assert_close(again, y, rtol=0, atol=1e-6)


def test_a_transformer_sees_its_context_and_no_further() -> None:
    core = TransformerCore(5, 8, layers=1, heads=2, context=4, generator=generator())
    x, first = draw(1, 10, 5), torch.zeros(1, 10, dtype=torch.bool)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(core.unroll(x, first)[0, 9].sum(), x)
    assert (gradient[0].abs().sum(-1) > 0).tolist() == [False] * 6 + [True] * 4


def test_what_a_new_transformer_attends_to_tells_how_large_features_are() -> None:
    """Without a bias in the embedding the norm before the first attention would give the same for all sizes."""
    core = TransformerCore(2, 32, layers=2, heads=2, context=4, generator=torch.Generator().manual_seed(0))
    x = 0.3 * torch.randn(8, 2, generator=torch.Generator().manual_seed(1))

    def change() -> float:
        """Of the values of the first block when features double, as a share."""
        with torch.no_grad():
            once, twice = (core.step(part, core.empty(8))[1][1][:, 0] for part in (x, 2 * x))
        return float((twice - once).norm() / once.norm())

    assert change() > 0.1
    nn.init.zeros_(core.embed.bias)
    assert change() < 0.01


def test_an_lstms_weights_start_orthogonal() -> None:
    core = RecurrentCore("lstm", 5, 8, generator())
    weight = dict(core.cell.named_parameters())["weight_hh_l0"].detach()
    torch.testing.assert_close(weight.T @ weight, torch.eye(8), rtol=0, atol=1e-5)
    assert isinstance(core.cell, nn.LSTM)


@every_core
def test_the_generator_makes_the_weights(name: str) -> None:
    one, other = CORES[name](), CORES[name]()
    for mine, yours in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, yours)


def test_impossible_transformers_are_named() -> None:
    with pytest.raises(UsageError, match="0 layers and a context of 4"):
        TransformerCore(5, 8, layers=0, heads=2, context=4, generator=generator())
