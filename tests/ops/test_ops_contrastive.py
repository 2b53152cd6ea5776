"""Contrastive losses: numbers by hand, plain loops over the papers' sums, known values, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlkit.ops import contrastive as ops

SEEDS = st.integers(0, 10_000)
EXACT = {"rtol": 0, "atol": 1e-10}


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    products = norm_a = norm_b = 0.0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        products, norm_a, norm_b = products + x * y, norm_a + x * x, norm_b + y * y
    return products / math.sqrt(norm_a * norm_b)


def cross_entropy(scores: list[float], positive: int) -> float:
    return math.log(sum(math.exp(score) for score in scores)) - scores[positive]


def distance_pair(distance: float) -> tuple[Tensor, Tensor]:
    """Two rows of one pair at this distance."""
    return torch.tensor([[0.6, 0.8]], dtype=torch.float64) * distance, torch.zeros(1, 2).double()


@pytest.mark.parametrize(
    ("distance", "similar", "margin", "loss"),
    [
        (0.0, True, 1.0, 0.0),
        (2.0, True, 1.0, 2.0),  # d² / 2, without a margin
        (1.0, False, 1.0, 0.0),
        (3.0, False, 1.0, 0.0),
        (0.0, False, 1.0, 0.5),  # m² / 2
        (0.0, False, 3.0, 4.5),
        (0.25, False, 1.0, 0.28125),  # (3/4)² / 2
    ],
)
def test_one_pair_costs_what_its_distance_and_label_say(distance, similar, margin, loss):
    found = ops.margin_pair_loss(*distance_pair(distance), torch.tensor([similar]), margin)
    assert found.item() == pytest.approx(loss, abs=1e-12)


def test_the_pair_loss_is_a_plain_loop_over_pairs():
    a, b = double(9, 3), double(9, 3, seed=1)
    similar = torch.arange(9) % 2 == 0
    total = 0.0
    for row in range(9):
        squared = sum((a[row, column] - b[row, column]).item() ** 2 for column in range(3))
        total += squared if similar[row] else max(2.5 - math.sqrt(squared), 0.0) ** 2
    assert ops.margin_pair_loss(a, b, similar, 2.5).item() == pytest.approx(total / 18, abs=1e-12)


def test_pairs_that_differ_are_pushed_apart_and_pairs_alike_pulled_together():
    a = torch.tensor([[0.5], [0.5], [2.0]], dtype=torch.float64, requires_grad=True)
    b = torch.zeros(3, 1, dtype=torch.float64)
    ops.margin_pair_loss(a, b, torch.tensor([True, False, False])).backward()
    # d / N for the first, -(m - d) / N for the second, nothing beyond the margin; d grows with a
    torch.testing.assert_close(a.grad, torch.tensor([[0.5 / 3], [-0.5 / 3], [0.0]]).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("similar", [True, False])
def test_the_gradient_of_equal_features_is_zero_and_not_nan(similar, dtype):
    a = torch.ones(2, 3, dtype=dtype, requires_grad=True)
    b = torch.ones(2, 3, dtype=dtype, requires_grad=True)
    ops.margin_pair_loss(a, b, torch.tensor([similar, similar])).backward()
    assert torch.equal(a.grad, torch.zeros_like(a))
    assert torch.equal(b.grad, torch.zeros_like(b))


def test_the_pair_loss_has_its_own_gradient():
    similar = torch.tensor([True, False, True, False])
    a, b = double(4, 3).requires_grad_(), double(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: ops.margin_pair_loss(a, b, similar, 3.0), (a, b))


def test_info_nce_by_hand():
    logits = torch.tensor([[math.log(2.0), 0.0, math.log(5.0)]]).double()
    assert ops.info_nce(logits, 0).item() == pytest.approx(math.log(8 / 2))
    assert ops.info_nce(logits, torch.tensor([2])).item() == pytest.approx(math.log(8 / 5))


def test_info_nce_keeps_all_leading_axes():
    logits, positive = double(2, 3, 5), torch.tensor([[0, 1, 2], [4, 3, 0]])
    found = ops.info_nce(logits, positive)
    assert found.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            right = cross_entropy(logits[i, j].tolist(), positive[i, j].item())
            assert found[i, j].item() == pytest.approx(right, abs=1e-12)


def test_a_candidate_at_minus_infinity_is_not_there_at_all():
    logits = double(4, 6).requires_grad_()
    absent = torch.zeros(4, 6, dtype=torch.bool)
    absent[:, 5] = True
    masked = ops.info_nce(logits.masked_fill(absent, -torch.inf), 2)
    assert torch.equal(masked, ops.info_nce(logits[:, :5], 2))
    masked.sum().backward()
    assert torch.equal(logits.grad[:, 5], torch.zeros(4).double())
    assert logits.grad.isfinite().all()


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.floats(-50, 50), st.permutations(range(6)))
def test_info_nce_ignores_constants_and_the_order_of_candidates(seed, constant, order):
    logits = double(3, 6, seed=seed)
    found = ops.info_nce(logits, 0)
    torch.testing.assert_close(ops.info_nce(logits + constant, 0), found, rtol=0, atol=1e-12)
    torch.testing.assert_close(ops.info_nce(logits[:, order], order.index(0)), found, rtol=0, atol=1e-12)


def test_the_gradient_of_info_nce_is_the_softmax_less_the_positive():
    logits, positive = double(4, 5).requires_grad_(), torch.tensor([1, 0, 4, 4])
    ops.info_nce(logits, positive).sum().backward()
    right = torch.softmax(logits.detach(), dim=1)
    right[torch.arange(4), positive] -= 1
    torch.testing.assert_close(logits.grad, right, **EXACT)
    assert torch.autograd.gradcheck(lambda logits: ops.info_nce(logits, positive), logits)


def test_info_nce_survives_logits_beyond_the_range_of_exp():
    logits = torch.tensor([[1000.0, 999.0], [-1000.0, 1000.0]], requires_grad=True)
    loss = ops.info_nce(logits, 0)
    torch.testing.assert_close(loss, torch.tensor([math.log1p(math.exp(-1)), 2000.0]))
    loss.sum().backward()
    assert logits.grad.isfinite().all()


def test_accuracy_counts_ties_in_parts_so_that_collapse_is_chance():
    assert ops.contrastive_accuracy(torch.zeros(5, 8), 0).tolist() == [0.125] * 5
    logits = torch.tensor([[3.0, 1.0, 3.0, 0.0], [0.0, 1.0, 2.0, 3.0], [0.0, 5.0, 2.0, 3.0]])
    assert ops.contrastive_accuracy(logits, torch.tensor([2, 2, 1])).tolist() == [0.5, 0.0, 1.0]


def test_accuracy_without_ties_is_that_of_argmax():
    logits, positive = double(3, 40, 4), torch.arange(120).view(3, 40) % 4
    found = ops.contrastive_accuracy(logits, positive)
    assert torch.equal(found, (logits.argmax(dim=2) == positive).double())


def nt_xent_by_loop(z: np.ndarray, temperature: float) -> float:
    """Equation 1 for every ordered pair, with its indicator that leaves out the anchor itself."""
    rows = [*z[0], *z[1]]
    pairs = len(z[0])
    total = 0.0
    for anchor in range(2 * pairs):
        scores, positive = [], -1
        for other in range(2 * pairs):
            if other != anchor:
                if abs(other - anchor) == pairs:
                    positive = len(scores)
                scores.append(cosine(rows[anchor], rows[other]) / temperature)
        total += cross_entropy(scores, positive)
    return total / (2 * pairs)


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.integers(1, 5), st.sampled_from([0.07, 0.5, 1.0]))
def test_nt_xent_is_the_papers_sum(seed, pairs, temperature):
    z = double(2, pairs, 4, seed=seed)
    assert ops.nt_xent(z, temperature).item() == pytest.approx(nt_xent_by_loop(z.numpy(), temperature), abs=1e-10)


def test_nt_xent_of_two_pairs_by_hand():
    """Views agree and pairs are at right angles: each anchor has its positive at cosine 1 and two others at 0."""
    z = torch.eye(2).double().expand(2, 2, 2)
    assert ops.nt_xent(z, 0.5).item() == pytest.approx(math.log(1 + 2 * math.exp(-2)))


@pytest.mark.parametrize("pairs", [1, 2, 16])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_nt_xent_of_collapsed_features_is_the_logarithm_of_the_others(pairs, temperature):
    z = torch.ones(2, pairs, 3).double()
    assert ops.nt_xent(z, temperature).item() == pytest.approx(math.log(2 * pairs - 1), abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.floats(1e-3, 1e3), st.permutations(range(5)))
def test_nt_xent_ignores_scale_order_of_pairs_and_which_view_is_first(seed, scale, order):
    z = double(2, 5, 4, seed=seed)
    found = ops.nt_xent(z, 0.2)
    for other in (scale * z, z[:, order], z.flip(0)):
        torch.testing.assert_close(ops.nt_xent(other, 0.2), found, **EXACT)


def test_ranks_together_have_the_loss_and_gradient_of_one_large_batch():
    whole = double(2, 6, 4).requires_grad_()
    (right,) = torch.autograd.grad(ops.nt_xent(whole, 0.3), whole)

    parts = [whole[:, 2 * rank : 2 * rank + 2] for rank in range(3)]
    losses = [ops.nt_xent(part, 0.3, whole, offset=2 * rank) for rank, part in enumerate(parts)]
    loss = torch.stack(losses).mean()
    torch.testing.assert_close(loss, ops.nt_xent(whole, 0.3), **EXACT)
    (found,) = torch.autograd.grad(loss, whole)
    torch.testing.assert_close(found, right, **EXACT)


def test_nt_xent_has_its_own_gradient():
    assert torch.autograd.gradcheck(lambda z: ops.nt_xent(z, 0.5), double(2, 3, 4).requires_grad_())


@pytest.mark.parametrize("temperature", [0.07, 1e-3])
def test_small_temperatures_do_not_overflow_in_single_precision(temperature):
    z = double(2, 8, 4)
    found = ops.nt_xent(z.float().requires_grad_(), temperature)
    torch.testing.assert_close(found.double(), ops.nt_xent(z, temperature), rtol=1e-4, atol=1e-4)
    assert found.dtype == torch.float32


def test_momentum_contrast_logits_are_cosines_with_the_key_then_the_queue():
    query, key, queue = double(3, 4), double(3, 4, seed=1), double(5, 4, seed=2)
    found = ops.momentum_contrast_logits(query, key, queue, 0.2)
    assert found.shape == (3, 6)
    for row in range(3):
        for column, other in enumerate([key[row], *queue]):
            assert found[row, column].item() == pytest.approx(
                cosine(query[row].numpy(), other.numpy()) / 0.2, abs=1e-10
            )


def test_collapsed_keys_give_the_logarithm_of_the_queue_and_one():
    logits = ops.momentum_contrast_logits(torch.ones(4, 3), 2 * torch.ones(4, 3), torch.ones(63, 3), 0.07)
    torch.testing.assert_close(ops.info_nce(logits, 0), torch.full((4,), math.log(64)))


def test_no_gradient_reaches_the_keys_of_momentum_contrast():
    query, key, queue = (double(3, 4, seed=seed).requires_grad_() for seed in range(3))
    ops.info_nce(ops.momentum_contrast_logits(query, key, queue, 0.2), 0).sum().backward()
    assert key.grad is None
    assert queue.grad is None
    assert query.grad.abs().sum() > 0
    assert torch.autograd.gradcheck(lambda query: ops.momentum_contrast_logits(query, key, queue, 0.2), query)


def test_the_length_of_features_does_not_matter_to_momentum_contrast():
    query, key, queue = (double(3, 4, seed=seed) for seed in range(3))
    found = ops.momentum_contrast_logits(5 * query, 1e-3 * key, 7 * queue, 0.2)
    torch.testing.assert_close(found, ops.momentum_contrast_logits(query, key, queue, 0.2), **EXACT)


@pytest.mark.parametrize(("size", "batch"), [(6, 2), (7, 3), (4, 4)])
def test_the_queue_holds_the_last_keys_and_forgets_the_oldest(size, batch):
    queue, pointer, past = torch.zeros(size), 0, []
    for step in range(9):
        keys = torch.arange(step * batch, (step + 1) * batch) + 1.0
        places, after = ops.queue_places(pointer, batch, size)
        queue[places] = keys
        assert after == (pointer + batch) % size
        pointer, past = after, (past + keys.tolist())[-size:]
    assert queue.roll(-pointer).tolist() == past  # in order from the oldest, which is next to go


def test_shuffling_back_restores_the_order():
    order, inverse = ops.shuffle_order(50, torch.Generator().manual_seed(3))
    x = torch.arange(50)
    assert not torch.equal(x[order], x)
    assert torch.equal(x[order][inverse], x)
    assert torch.equal(order, ops.shuffle_order(50, torch.Generator().manual_seed(3))[0])


def symmetric_by_loop(queries: list[np.ndarray], keys: list[np.ndarray], temperature: float) -> float:
    total = 0.0
    for side in range(2):
        q, k = queries[side], keys[1 - side]
        for row in range(len(q)):
            scores = [cosine(q[row], candidate) / temperature for candidate in k]
            total += 2 * temperature * cross_entropy(scores, row) / len(q)
    return total


def test_the_symmetric_loss_is_the_papers_sum_times_two_temperatures():
    q_1, q_2, k_1, k_2 = (double(5, 3, seed=seed) for seed in range(4))
    found = ops.symmetric_contrast_loss((q_1, q_2), (k_1, k_2), 0.2)
    right = symmetric_by_loop([q_1.numpy(), q_2.numpy()], [k_1.numpy(), k_2.numpy()], 0.2)
    assert found.item() == pytest.approx(right, abs=1e-10)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_each_side_of_collapsed_features_costs_two_temperatures_ln_n(temperature):
    ones = torch.ones(8, 3).double()
    found = ops.symmetric_contrast_loss((ones, ones), (ones, ones), temperature)
    assert found.item() == pytest.approx(2 * (2 * temperature * math.log(8)), abs=1e-12)


def test_swapping_the_views_changes_nothing():
    q_1, q_2, k_1, k_2 = (double(5, 3, seed=seed) for seed in range(4))
    found = ops.symmetric_contrast_loss((q_1, q_2), (k_1, k_2), 0.2)
    torch.testing.assert_close(ops.symmetric_contrast_loss((q_2, q_1), (k_2, k_1), 0.2), found, **EXACT)
    assert ops.symmetric_contrast_loss((q_1, q_2), (k_2, k_1), 0.2).item() != pytest.approx(found.item(), abs=1e-3)


def test_the_labels_of_a_rank_start_at_its_offset():
    """Queries equal the keys of rank 1 alone: only with its offset is the loss near zero."""
    keys = torch.eye(6).double()
    mine = keys[2:4]
    right = ops.symmetric_contrast_loss((mine, mine), (keys, keys), 0.05, offset=2)
    wrong = ops.symmetric_contrast_loss((mine, mine), (keys, keys), 0.05)
    assert right.item() == pytest.approx(4 * 0.05 * math.log1p(5 * math.exp(-20)), abs=1e-12)
    assert wrong.item() == pytest.approx(4 * 0.05 * (20 + math.log1p(5 * math.exp(-20))), abs=1e-12)
    assert ops.own_columns(torch.zeros(2, 6), 2).tolist() == [2, 3]


def test_ranks_together_have_the_symmetric_loss_of_one_large_batch():
    queries = double(6, 3), double(6, 3, seed=1)
    keys = double(6, 3, seed=2), double(6, 3, seed=3)
    whole = ops.symmetric_contrast_loss(queries, keys, 0.2)
    parts = [
        ops.symmetric_contrast_loss((queries[0][at : at + 3], queries[1][at : at + 3]), keys, 0.2, offset=at)
        for at in (0, 3)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), whole, **EXACT)


def test_only_queries_have_a_gradient_in_the_symmetric_loss():
    q_1, q_2, k_1, k_2 = (double(3, 4, seed=seed).requires_grad_() for seed in range(4))
    ops.symmetric_contrast_loss((q_1, q_2), (k_1, k_2), 0.2).backward()
    assert k_1.grad is None
    assert k_2.grad is None
    assert torch.autograd.gradcheck(lambda *queries: ops.symmetric_contrast_loss(queries, (k_1, k_2), 0.2), (q_1, q_2))


def test_bilinear_logits_are_products_less_the_largest_of_the_row():
    anchor, candidates, weight = double(3, 2), double(4, 5, seed=1), double(2, 5, seed=2)
    found = ops.bilinear_logits(anchor, candidates, weight)
    for b in range(3):
        row = [
            sum(anchor[b, d].item() * weight[d, e].item() * candidates[n, e].item() for d in range(2) for e in range(5))
            for n in range(4)
        ]
        for n in range(4):
            assert found[b, n].item() == pytest.approx(row[n] - max(row), abs=1e-10)
    assert torch.equal(found.amax(dim=1), torch.zeros(3).double())


def test_taking_the_largest_away_changes_neither_the_loss_nor_its_gradient():
    tensors = [
        double(4, 3).requires_grad_(),
        double(4, 3, seed=1).requires_grad_(),
        double(3, 3, seed=2).requires_grad_(),
    ]
    logits = ops.bilinear_logits(*tensors)
    plain = tensors[0] @ tensors[2] @ tensors[1].T
    losses = [ops.info_nce(of, ops.own_columns(of)).mean() for of in (logits, plain)]
    torch.testing.assert_close(losses[0], losses[1], **EXACT)
    for found, right in zip(*(torch.autograd.grad(loss, tensors) for loss in losses), strict=True):
        torch.testing.assert_close(found, right, **EXACT)


def test_the_bilinear_critic_is_not_symmetric():
    weight = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    logits = ops.bilinear_logits(torch.eye(2), torch.eye(2), weight)
    assert logits.tolist() == [[-1.0, 0.0], [0.0, 0.0]]


def test_features_of_zero_are_at_a_right_angle_to_all():
    a = torch.zeros(1, 3).double().requires_grad_()
    found = ops.cosine_logits(a, double(4, 3), 0.1)
    assert found.tolist() == [[0.0] * 4]
    found.sum().backward()
    assert a.grad.isfinite().all()
