"""Estimates of mutual information: plain loops over the papers' sums, Gaussians of known information, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlkit.ops import mutual_information as ops
from rlkit.ops.contrastive import info_nce, own_columns

SEEDS = st.integers(0, 10_000)
EXACT = {"rtol": 0, "atol": 1e-10}
LOSSES = [ops.jensen_shannon_loss, ops.donsker_varadhan_loss, ops.local_info_nce_loss]


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def jensen_shannon_by_loop(t: np.ndarray) -> float:
    """Equation 4, negated, with ln 2 added to each expectation."""
    count, _, places = t.shape
    positive, negative = 0.0, 0.0
    for b in range(count):
        for c in range(count):
            for place in range(places):
                if b == c:
                    positive += -softplus(-t[b, c, place]) / (count * places)
                else:
                    negative += softplus(t[b, c, place]) / (count * (count - 1) * places)
    return -((positive + math.log(2)) - (negative - math.log(2)))


def donsker_varadhan_by_loop(t: np.ndarray) -> float:
    """Equation 2, negated."""
    count, _, places = t.shape
    joint, product = 0.0, 0.0
    for b in range(count):
        for c in range(count):
            for place in range(places):
                if b == c:
                    joint += t[b, c, place] / (count * places)
                else:
                    product += math.exp(t[b, c, place]) / (count * (count - 1) * places)
    return -(joint - math.log(product))


def info_nce_by_loop(t: np.ndarray) -> float:
    """Equation 5, negated: each place against those of all other images, under the same global features."""
    count, _, places = t.shape
    total = 0.0
    for b in range(count):
        negatives = sum(math.exp(t[b, c, place]) for c in range(count) if c != b for place in range(places))
        for place in range(places):
            positive = math.exp(t[b, b, place])
            total += -math.log(positive / (positive + negatives)) / (count * places)
    return total


BY_LOOP = [jensen_shannon_by_loop, donsker_varadhan_by_loop, info_nce_by_loop]


def gaussians(count: int, correlation: float, width: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, float]:
    """`count` pairs of vectors whose coordinates have this correlation, and their mutual information in nats."""
    x, noise = double(count, width, seed=seed), double(count, width, seed=seed + 1)
    y = correlation * x + math.sqrt(1 - correlation**2) * noise
    return x, y, -width / 2 * math.log(1 - correlation**2)


def best_critic(x: Tensor, y: Tensor, correlation: float) -> Tensor:
    """log p(y|x) / p(y) of all pairs, [B, B]."""
    spread = 1 - correlation**2
    squared = (y[None] - correlation * x[:, None]).square().sum(2)
    return y.square().sum(1)[None] / 2 - squared / (2 * spread) - x.shape[1] / 2 * math.log(spread)


def test_scores_are_products_of_a_whole_with_the_places_of_another() -> None:
    whole, parts = double(3, 4), double(3, 2, 4, seed=1)
    found = ops.local_scores(whole, parts)
    for b in range(3):
        for c in range(3):
            for place in range(2):
                right = sum(w * p for w, p in zip(whole[b].tolist(), parts[c, place].tolist(), strict=True))
                assert found[b, c, place].item() == pytest.approx(right, abs=1e-12)


@pytest.mark.parametrize(("loss", "by_loop"), list(zip(LOSSES, BY_LOOP, strict=True)))
@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, count=st.integers(2, 4), places=st.integers(1, 3))
def test_losses_are_the_papers_sums(loss, by_loop, seed, count, places) -> None:
    scores = 3 * double(count, count, places, seed=seed)
    assert loss(scores).item() == pytest.approx(by_loop(scores.numpy()), abs=1e-10)


def test_scores_of_zero_tell_nothing() -> None:
    zeros = torch.zeros(5, 5, 3).double()
    assert ops.jensen_shannon_loss(zeros).item() == 0.0
    assert ops.donsker_varadhan_loss(zeros).item() == pytest.approx(0.0, abs=1e-12)
    assert ops.local_info_nce_loss(zeros).item() == pytest.approx(math.log(1 + 4 * 3), abs=1e-12)


@pytest.mark.parametrize("constant", [-40.0, 1.0, 1000.0])
def test_constants_tell_nothing_either_but_to_jensen_shannon(constant: float) -> None:
    scores = double(4, 4, 3)
    for loss in (ops.donsker_varadhan_loss, ops.local_info_nce_loss):
        torch.testing.assert_close(loss(scores + constant), loss(scores), **EXACT)
    alike = torch.full((4, 4, 3), constant).double()
    assert ops.jensen_shannon_loss(alike).item() == pytest.approx(
        abs(constant) + 2 * math.log1p(math.exp(-abs(constant))) - 2 * math.log(2), abs=1e-10
    )


def test_the_best_scores_reach_the_least_jensen_shannon_loss() -> None:
    scores = 400 * torch.eye(4).double()[:, :, None].expand(4, 4, 2) - 200
    assert ops.jensen_shannon_loss(scores).item() == pytest.approx(-2 * math.log(2), abs=1e-12)
    assert ops.jensen_shannon_loss(-scores).item() == pytest.approx(400 - 2 * math.log(2), abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.floats(0.1, 100.0))
def test_jensen_shannon_is_never_below_its_least_value(seed: int, scale: float) -> None:
    assert ops.jensen_shannon_loss(scale * double(3, 3, 2, seed=seed)).item() >= -2 * math.log(2)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_order_of_observations_and_places_does_not_matter(loss) -> None:
    scores = double(4, 4, 3)
    order, places = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    moved = scores[order][:, order][:, :, places]
    torch.testing.assert_close(loss(moved), loss(scores), **EXACT)


def test_nothing_of_the_positives_leaks_into_the_negatives() -> None:
    """A mask of -10 would leave e⁻¹⁰ of them, and more the larger the positives are."""
    scores = torch.zeros(3, 3, 2).double()
    scores[torch.arange(3), torch.arange(3)] = 500.0
    assert ops.donsker_varadhan_loss(scores).item() == pytest.approx(-500.0, abs=1e-9)
    assert ops.local_info_nce_loss(scores).item() == pytest.approx(0.0, abs=1e-12)


def test_candidates_are_places_of_others_and_not_globals_of_others() -> None:
    """Row b of the scores has one global vector: a score that is large for another global is no candidate of b."""
    scores = torch.zeros(2, 2, 1).double()
    scores[1, 0] = 50.0  # global of 1 with the place of 0: the negative of row 1 alone
    assert ops.local_info_nce_loss(scores).item() == pytest.approx((math.log(2) + 50.0) / 2, abs=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_have_their_own_gradient(loss) -> None:
    assert torch.autograd.gradcheck(loss, double(3, 3, 2).requires_grad_())


def test_the_gradient_of_jensen_shannon_is_a_mean_of_logistic_functions() -> None:
    scores = double(3, 3, 2).requires_grad_()
    ops.jensen_shannon_loss(scores).backward()
    t, own = scores.detach(), torch.eye(3, dtype=torch.bool)[:, :, None]
    right = torch.where(own, -torch.sigmoid(-t) / (3 * 2), torch.sigmoid(t) / (3 * 2 * 2))
    torch.testing.assert_close(scores.grad, right, **EXACT)


def test_the_gradient_of_donsker_varadhan_is_a_softmax_of_the_negatives() -> None:
    scores = double(3, 3, 2).requires_grad_()
    ops.donsker_varadhan_loss(scores).backward()
    own = torch.eye(3, dtype=torch.bool)[:, :, None].expand(3, 3, 2)
    negatives = torch.softmax(scores.detach().masked_fill(own, -torch.inf).flatten(), 0).view(3, 3, 2)
    torch.testing.assert_close(scores.grad, torch.where(own, -1.0 / 6, negatives), **EXACT)


@pytest.mark.parametrize("loss", LOSSES)
def test_large_scores_are_finite_in_single_precision(loss) -> None:
    scores = (1e4 * double(3, 3, 2)).float().requires_grad_()
    found = loss(scores)
    found.backward()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), loss(scores.double()), rtol=1e-5, atol=1e-5)
    assert scores.grad.isfinite().all()


def test_softplus_is_exact_where_torchs_is_linear() -> None:
    scores = 21 * torch.ones(2, 2, 1).double()
    right = math.log1p(math.exp(-21)) + 21 + math.log1p(math.exp(-21)) - 2 * math.log(2)
    assert ops.jensen_shannon_loss(scores).item() == pytest.approx(right, abs=1e-13)


def test_prior_losses_are_the_logarithms_of_the_discriminators_probabilities() -> None:
    prior, encoded = double(5), double(3, 2, seed=1)
    found = ops.prior_discriminator_loss(prior, encoded).item()
    d_prior, d_encoded = ([1 / (1 + math.exp(-x)) for x in logits.flatten().tolist()] for logits in (prior, encoded))
    others = sum(math.log(1 - d) for d in d_encoded) / 6
    assert found == pytest.approx(-sum(math.log(d) for d in d_prior) / 5 - others, abs=1e-10)
    assert ops.prior_encoder_loss(encoded).item() == pytest.approx(others, abs=1e-10)
    right = -sum(math.log(d) for d in d_encoded) / 6
    assert ops.prior_encoder_loss(encoded, saturates=False).item() == pytest.approx(right, abs=1e-10)


def test_an_undecided_discriminator_loses_two_ln_two() -> None:
    assert ops.prior_discriminator_loss(torch.zeros(3), torch.zeros(4)).item() == pytest.approx(2 * math.log(2))


def test_both_encoder_losses_fall_as_features_look_more_like_the_prior() -> None:
    for saturates, slope in ((True, -1 / (1 + math.exp(8))), (False, -1 / (1 + math.exp(-8)))):
        encoded = torch.tensor([-8.0], dtype=torch.float64, requires_grad=True)
        ops.prior_encoder_loss(encoded, saturates=saturates).backward()
        assert encoded.grad.item() == pytest.approx(slope, rel=1e-9)


def test_sure_discriminators_are_finite_and_prior_losses_have_their_own_gradient() -> None:
    sure = torch.tensor([1e4, -1e4])
    assert ops.prior_discriminator_loss(sure, sure).item() == pytest.approx(1e4)
    prior, encoded = double(3).requires_grad_(), double(4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(ops.prior_discriminator_loss, (prior, encoded))
    assert torch.autograd.gradcheck(lambda x: ops.prior_encoder_loss(x), encoded)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(2, 12), st.floats(0.1, 1000.0))
def test_no_scores_prove_more_than_the_logarithm_of_the_candidates(seed: int, count: int, scale: float) -> None:
    logits = scale * (double(count, count, seed=seed) + 2 * torch.eye(count))
    bound = ops.information_bound(info_nce(logits, own_columns(logits)).mean(), count)
    assert bound.item() <= math.log(count)
    places = ops.information_bound(ops.local_info_nce_loss(logits[:, :, None]), count)
    torch.testing.assert_close(places, bound, **EXACT)  # one place: plain InfoNCE


@pytest.mark.parametrize(("correlation", "width", "tolerance"), [(0.5, 1, 0.02), (0.6, 2, 0.03), (0.8, 2, 0.04)])
def test_the_best_critic_finds_the_information_of_correlated_gaussians(correlation, width, tolerance) -> None:
    """Within four standard errors of the 40 batches."""
    bounds, estimates = [], []
    for seed in range(40):
        x, y, information = gaussians(256, correlation, width, seed=2 * seed)
        logits = best_critic(x, y, correlation)
        bounds.append(ops.information_bound(info_nce(logits, own_columns(logits)).mean(), 256).item())
        estimates.append(-ops.donsker_varadhan_loss(logits[:, :, None]).item())
    assert np.mean(bounds) == pytest.approx(information, abs=tolerance)
    assert np.mean(estimates) == pytest.approx(information, abs=tolerance)


def test_more_information_than_ln_n_saturates_there() -> None:
    x, y, information = gaussians(64, 0.99, 20)
    assert information > 39
    logits = best_critic(x, y, 0.99)
    bound = ops.information_bound(info_nce(logits, own_columns(logits)).mean(), 64).item()
    assert math.log(64) - 1e-6 < bound <= math.log(64)


def test_independent_variables_have_none() -> None:
    x, y, information = gaussians(256, 0.0)
    logits = best_critic(x, y, 0.0)
    assert information == 0.0
    assert ops.information_bound(info_nce(logits, own_columns(logits)).mean(), 256).item() == pytest.approx(0, abs=1e-9)


def test_jensen_shannon_finds_twice_the_divergence_of_correlated_gaussians() -> None:
    """Against the integral over a grid, of p ln(2p / (p + q)) + q ln(2q / (p + q))."""
    correlation = 0.8
    axis = np.linspace(-7, 7, 701)
    x, y = np.meshgrid(axis, axis)
    q = np.exp(-(x**2 + y**2) / 2) / (2 * np.pi)
    spread = 1 - correlation**2
    p = np.exp(-(x**2 - 2 * correlation * x * y + y**2) / (2 * spread)) / (2 * np.pi * np.sqrt(spread))
    p, q = np.maximum(p, 1e-300), np.maximum(q, 1e-300)
    divergence = (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))).sum() * (axis[1] - axis[0]) ** 2
    losses = []
    for seed in range(40):
        a, b, _ = gaussians(256, correlation, seed=2 * seed)
        losses.append(ops.jensen_shannon_loss(best_critic(a, b, correlation)[:, :, None]).item())
    assert -np.mean(losses) == pytest.approx(divergence, abs=0.02)


def info_nce_over_places(products: list[list[list[float]]]) -> float:
    """Mean over places and anchors of equation 1, given the product of anchor b with candidate c at each place."""
    total, terms = 0.0, 0
    for of_place in products:
        for b, row in enumerate(of_place):
            total += -math.log(math.exp(row[b]) / sum(math.exp(score) for score in row))
            terms += 1
    return total / terms


def products(anchors: Tensor, parts: Tensor, place: int) -> list[list[float]]:
    """Of each anchor [B, E] with this place of each next observation [B, L, E]."""
    return [[sum(x * y for x, y in zip(a, p[place], strict=True)) for p in parts.tolist()] for a in anchors.tolist()]


def test_the_global_local_loss_is_the_papers_sum_over_its_places() -> None:
    mapped, parts = double(4, 3), double(4, 2, 3, seed=1)
    found = ops.global_local_loss(mapped, parts).item()
    assert found == pytest.approx(
        info_nce_over_places([products(mapped, parts, place) for place in range(2)]), abs=1e-10
    )


def test_the_local_local_loss_is_the_papers_sum_over_its_places() -> None:
    mapped, parts = double(4, 2, 3), double(4, 2, 3, seed=1)
    found = ops.local_local_loss(mapped, parts).item()
    right = info_nce_over_places([products(mapped[:, place], parts, place) for place in range(2)])
    assert found == pytest.approx(right, abs=1e-10)


def test_uniform_features_in_space_and_time_cost_ln_b_whatever_the_map() -> None:
    for places in (1, 7):
        parts = torch.ones(6, places, 3).double()
        assert ops.global_local_loss(torch.ones(6, 3).double(), parts).item() == pytest.approx(math.log(6), abs=1e-12)
        assert ops.local_local_loss(parts, parts).item() == pytest.approx(math.log(6), abs=1e-12)


def test_the_mean_of_two_ranks_losses_in_space_and_time_is_the_loss_of_all() -> None:
    mapped, parts = double(4, 2, 3), double(4, 2, 3, seed=1)
    of_places = sum(ops.local_local_loss(mapped[rank : rank + 2], parts, rank) for rank in (0, 2)) / 2
    torch.testing.assert_close(of_places, ops.local_local_loss(mapped, parts), **EXACT)
    whole = mapped[:, 0]
    of_wholes = sum(ops.global_local_loss(whole[rank : rank + 2], parts, rank) for rank in (0, 2)) / 2
    torch.testing.assert_close(of_wholes, ops.global_local_loss(whole, parts), **EXACT)


def test_places_are_not_compared_with_each_other() -> None:
    """Every observation alike, but places that differ: nothing tells the observations apart."""
    parts = double(3, 4).expand(5, 3, 4)
    assert ops.local_local_loss(parts, parts).item() == pytest.approx(math.log(5), abs=1e-12)


def test_losses_in_space_and_time_normalise_over_the_next_observations() -> None:
    """An anchor of great length has large scores with all: only a softmax over anchors would see it."""
    mapped, parts = double(4, 3), torch.ones(4, 2, 3).double()
    assert ops.global_local_loss(mapped, parts).item() == pytest.approx(math.log(4), abs=1e-12)
    assert ops.local_local_loss(mapped[:, None].expand(4, 2, 3), parts).item() == pytest.approx(math.log(4), abs=1e-12)


def test_losses_in_space_and_time_have_their_own_gradient() -> None:
    mapped, parts = double(3, 2).requires_grad_(), double(3, 2, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(ops.global_local_loss, (mapped, parts))
    assert torch.autograd.gradcheck(ops.local_local_loss, (double(3, 2, 2, seed=2).requires_grad_(), parts))
