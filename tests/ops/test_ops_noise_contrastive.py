"""Noise-contrastive estimation over memory banks: plain loops over the papers' sums, posteriors, known values."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlkit.ops import noise_contrastive as ops
from rlkit.ops.contrastive import info_nce

EXACT = {"rtol": 0, "atol": 1e-10}


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact(value: float | list[float] | list[list[float]]) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scores_by_loop(features: Tensor, bank: Tensor, index: list[list[int]], temperature: float) -> list[list[float]]:
    """v_jᵀ f / τ for each wanted row of the bank, one product after the other."""
    found = []
    for feature, rows in zip(features.tolist(), index, strict=True):
        length = math.sqrt(sum(x * x for x in feature))
        found.append(
            [sum(x * v for x, v in zip(feature, bank[j].tolist(), strict=True)) / length / temperature for j in rows]
        )
    return found


def nce_by_loop(scores: list[float], z: float, size: int) -> float:
    """Equations 4 to 7 for one row: probabilities, posteriors, logarithms."""
    noise = len(scores) - 1
    posteriors = [math.exp(score) / z / (math.exp(score) / z + noise / size) for score in scores]
    return -math.log(posteriors[0]) - sum(math.log(1 - h) for h in posteriors[1:])


def test_a_new_bank_is_uniform_with_unit_length_in_the_mean() -> None:
    bank = ops.uniform_bank(4000, 12, generator()).double()
    assert bank.shape == (4000, 12)
    assert bank.abs().max().item() == pytest.approx(0.5, abs=1e-3)  # √(3/12)
    assert bank.square().sum(dim=1).mean().item() == pytest.approx(1.0, abs=0.02)
    assert bank.mean().item() == pytest.approx(0.0, abs=0.01)
    assert torch.equal(ops.uniform_bank(4000, 12, generator()).double(), bank)


def test_updated_rows_are_the_mixture_with_unit_features_at_unit_length() -> None:
    rows, features = double(4, 3), double(4, 3, seed=1)
    found = ops.updated_rows(rows, features, 0.75)
    for row in range(4):
        f = features[row] / math.sqrt(sum(x * x for x in features[row].tolist()))
        mixed = [0.75 * v + 0.25 * x for v, x in zip(rows[row].tolist(), f.tolist(), strict=True)]
        length = math.sqrt(sum(x * x for x in mixed))
        torch.testing.assert_close(found[row], exact([x / length for x in mixed]), **EXACT)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4).double(), **EXACT)
    torch.testing.assert_close(ops.updated_rows(rows, 9 * features, 0.75), found, **EXACT)


def test_rows_end_where_their_features_stay() -> None:
    rows, features = double(2, 3), torch.nn.functional.normalize(double(2, 3, seed=1), dim=1)
    torch.testing.assert_close(ops.updated_rows(rows, features, 0.0), features, **EXACT)
    for _ in range(60):
        rows = ops.updated_rows(rows, features)
    torch.testing.assert_close(rows, features, **EXACT)


def test_a_bank_keeps_no_gradient() -> None:
    features = double(2, 3).requires_grad_()
    assert not ops.updated_rows(double(2, 3, seed=1), features).requires_grad


def test_noise_is_drawn_from_all_instances_alike() -> None:
    own = torch.zeros(100, dtype=torch.int64)
    noise = ops.drawn_noise(own, 5, 400, generator())
    counts = noise.flatten().bincount(minlength=5)
    assert noise.shape == (100, 400)
    assert len(counts) == 5
    assert (counts / 40_000 - 0.2).abs().max() < 0.01  # five standard deviations


@pytest.mark.parametrize("mine", [0, 2, 4])
def test_excluding_its_own_leaves_the_others_alike(mine: int) -> None:
    noise = ops.drawn_noise(torch.full((100,), mine), 5, 400, generator(), exclude_own=True)
    counts = noise.flatten().bincount(minlength=5)
    assert counts[mine] == 0
    others = counts[torch.arange(5) != mine]
    assert (others / 40_000 - 0.25).abs().max() < 0.011


def test_each_row_excludes_its_own() -> None:
    own = torch.arange(6)
    noise = ops.drawn_noise(own, 6, 200, generator(), exclude_own=True)
    for row in range(6):
        assert set(noise[row].tolist()) == set(range(6)) - {row}


def test_draws_are_those_of_their_generator() -> None:
    own = torch.arange(4)
    first = ops.drawn_noise(own, 90, 30, generator(1))
    assert torch.equal(ops.drawn_noise(own, 90, 30, generator(1)), first)
    assert not torch.equal(ops.drawn_noise(own, 90, 30, generator(2)), first)


def test_bank_logits_are_products_with_the_rows_asked_for() -> None:
    features, bank = double(3, 4), double(7, 4, seed=1)
    index = torch.tensor([[0, 1, 6], [5, 5, 2], [3, 0, 3]])
    found = ops.bank_logits(features, bank, index, 0.07)
    right = exact(scores_by_loop(features, bank, index.tolist(), 0.07))
    torch.testing.assert_close(found, right, **EXACT)
    torch.testing.assert_close(ops.bank_logits(3 * features, bank, index, 0.07), found, **EXACT)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_the_constant_is_the_mean_exponential_times_the_size(scale: float) -> None:
    logits = double(4, 6)
    z = 100 * sum(math.exp(x) for x in logits.flatten().tolist()) / 24
    found = ops.log_partition(logits + scale, 100)  # the second scale is beyond exp in float32
    assert found.item() == pytest.approx(math.log(z) + scale, abs=1e-10)
    assert ops.log_partition((logits + scale).float(), 100).isfinite()


def test_the_constant_is_constant() -> None:
    logits = double(4, 6).requires_grad_()
    assert not ops.log_partition(logits, 100).requires_grad


def test_the_posterior_is_p_over_p_and_the_noise() -> None:
    logits, log_z = double(3, 5), exact(2.0)
    found = torch.sigmoid(ops.data_log_odds(logits, log_z, 4, 50))
    p = (logits - log_z).exp()
    torch.testing.assert_close(found, p / (p + 4 / 50), **EXACT)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(7, 1000))
def test_the_loss_is_the_papers_sum(seed: int, noise: int, size: int) -> None:
    logits = 2 * double(4, 1 + noise, seed=seed)
    found = ops.noise_contrastive_loss(logits, exact(1.5), size)
    for row in range(4):
        right = nce_by_loop(logits[row].tolist(), math.exp(1.5), size)
        assert found[row].item() == pytest.approx(right, abs=1e-10)


@pytest.mark.parametrize("noise", [1, 4, 4096])
def test_at_p_equal_to_the_noise_each_term_is_ln_two(noise: int) -> None:
    """P = K/n makes h = 1/2, so that the loss is (K + 1) ln 2."""
    size = 10_000
    logits = torch.full((2, 1 + noise), 3.0, dtype=torch.float64)
    log_z = exact(3.0 - math.log(noise / size))
    found = ops.noise_contrastive_loss(logits, log_z, size)
    torch.testing.assert_close(
        found, torch.full((2,), (noise + 1) * math.log(2), dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_the_order_of_the_noise_does_not_matter() -> None:
    logits, log_z = double(3, 6), exact(0.5)
    found = ops.noise_contrastive_loss(logits[:, [0, 4, 2, 5, 1, 3]], log_z, 40)
    torch.testing.assert_close(found, ops.noise_contrastive_loss(logits, log_z, 40), **EXACT)


def test_the_gradient_raises_the_own_logit_by_one_less_h_and_lowers_noise_by_h() -> None:
    logits, log_z = double(3, 5).requires_grad_(), exact(0.5)
    ops.noise_contrastive_loss(logits, log_z, 50).sum().backward()
    h = torch.sigmoid(ops.data_log_odds(logits.detach(), log_z, 4, 50))
    right = torch.cat([h[:, :1] - 1, h[:, 1:]], dim=1)
    torch.testing.assert_close(logits.grad, right, **EXACT)
    assert torch.autograd.gradcheck(lambda logits: ops.noise_contrastive_loss(logits, log_z, 50), logits)


def test_a_model_that_is_the_distribution_of_the_data_stays_there() -> None:
    """Gutmann and Hyvärinen's theorem, in full expectation: the gradient is zero at P = P_d, with Z = 1.

    Row i has instance i as its data, weighted by P_d(i), and every instance once as noise: K = n draws of 1/n each.
    """
    p = torch.softmax(double(6), dim=0)
    for logits, stays in ((p.log(), True), (torch.zeros(6).double() - math.log(6), False)):
        logits.requires_grad_()
        rows = torch.cat([logits[:, None], logits.expand(6, 6)], dim=1)  # [6, 1 + 6]
        (p * ops.noise_contrastive_loss(rows, exact(0.0), 6)).sum().backward()
        assert (logits.grad.abs().max().item() < 1e-12) == stays


def test_single_precision_survives_the_smallest_temperatures() -> None:
    logits = torch.tensor([[1000.0, -1000.0, 900.0]], requires_grad=True)
    loss = ops.noise_contrastive_loss(logits, torch.tensor(950.0), 100)
    loss.sum().backward()
    odds = [50 + math.log(50), -50 + math.log(50)]  # of the own and of the last; the other's loss is e⁻¹⁹⁴⁶
    assert loss.item() == pytest.approx(math.log1p(math.exp(-odds[0])) + math.log1p(math.exp(odds[1])), rel=1e-5)
    assert logits.grad.isfinite().all()


def test_both_directions_of_two_views_are_added_each_with_its_constant() -> None:
    first, second = double(3, 5), double(3, 5, seed=1)
    constants = exact(0.5), exact(1.5)
    found = ops.multiview_noise_contrastive_loss((first, second), constants, 60)
    for row in range(3):
        right = nce_by_loop(first[row].tolist(), math.exp(0.5), 60) + nce_by_loop(
            second[row].tolist(), math.exp(1.5), 60
        )
        assert found[row].item() == pytest.approx(right, abs=1e-10)
    swapped = ops.multiview_noise_contrastive_loss((second, first), constants[::-1], 60)
    torch.testing.assert_close(swapped, found, **EXACT)


def test_two_views_look_into_each_others_bank() -> None:
    """Features that agree across views but not within them: only crossed banks make the loss small."""
    bank_1, bank_2 = torch.eye(4).double(), torch.eye(4).double().roll(1, 0)
    own = torch.arange(4)
    index = torch.cat([own[:, None], ops.drawn_noise(own, 4, 8, generator(), exclude_own=True)], dim=1)
    view_1, view_2 = bank_2, bank_1  # each predicts the other
    constant = exact(math.log(math.exp(10) + 3))  # the true Z, as each row has one hit

    def loss(banks: tuple[Tensor, Tensor]) -> float:
        logits = [ops.bank_logits(view, bank, index, 0.1) for view, bank in zip((view_1, view_2), banks, strict=True)]
        return ops.multiview_noise_contrastive_loss((logits[0], logits[1]), (constant, constant), 4).mean().item()

    h = 1 / (1 + 8 / 4)  # P = 1
    assert loss((bank_2, bank_1)) == pytest.approx(-2 * math.log(h), abs=1e-2)
    assert loss((bank_1, bank_2)) > 20


def test_the_full_softmax_is_the_papers_sum_over_all_instances() -> None:
    features, bank, own = double(3, 4), double(9, 4, seed=1), torch.tensor([8, 0, 4])
    found = ops.instance_softmax_loss(features, bank, own, 0.5)
    scores = scores_by_loop(features, bank, [list(range(9))] * 3, 0.5)
    for row in range(3):
        p = math.exp(scores[row][own[row]]) / sum(math.exp(score) for score in scores[row])
        assert found[row].item() == pytest.approx(-math.log(p), abs=1e-10)
    everyone = torch.cat([own[:, None], torch.arange(9).expand(3, 9)], dim=1)
    sampled = ops.bank_logits(features, bank, everyone, 0.5)[:, 1:]
    torch.testing.assert_close(info_nce(sampled, own), found, **EXACT)


def test_the_full_softmax_of_equal_logits_is_ln_n() -> None:
    found = ops.instance_softmax_loss(torch.ones(2, 3), torch.ones(50, 3), torch.tensor([3, 49]), 0.07)
    torch.testing.assert_close(found, torch.full((2,), math.log(50)))


def test_no_gradient_reaches_the_bank() -> None:
    features, bank = double(2, 3).requires_grad_(), double(5, 3, seed=1).requires_grad_()
    own = torch.tensor([1, 4])
    log_z = exact(1.0)

    def loss(features: Tensor) -> Tensor:
        sampled = ops.bank_logits(features, bank, torch.tensor([[1, 0, 2], [4, 4, 3]]), 0.3)
        return ops.noise_contrastive_loss(sampled, log_z, 5) + ops.instance_softmax_loss(features, bank, own, 0.3)

    loss(features).sum().backward()
    assert bank.grad is None
    assert torch.autograd.gradcheck(loss, features)
