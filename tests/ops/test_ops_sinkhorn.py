"""Assignments in equal shares and swapped predictions: marginals, numbers by hand, float64 loops from the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from rlkit.errors import UsageError
from rlkit.ops import sinkhorn as ops

SIZES = st.integers(1, 6)


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosines(rows: int, prototypes: int, width: int, seed: int = 0) -> Tensor:
    return ops.prototype_scores(double(rows, width, seed=seed), double(prototypes, width, seed=seed + 5000))


def assignments_by_division(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """Diag(u) exp(C'Z / ε) Diag(v) by dividing entries, prototypes to mass 1 / K and rows to 1 / B (appendix A.1)."""
    rows, prototypes = scores.shape
    q = [[math.exp(score / epsilon) for score in row] for row in scores]
    for _ in range(iterations):
        for k in range(prototypes):
            mass = math.fsum(q[row][k] for row in range(rows))
            for row in range(rows):
                q[row][k] /= mass * prototypes
        for row in range(rows):
            mass = math.fsum(q[row])
            q[row] = [value / (mass * rows) for value in q[row]]
    return rows * np.array(q)


def swapped(scores: np.ndarray, assignments: np.ndarray, temperature: float) -> float:
    """Equations 2 and 6, averaged over their terms, one number at a time."""
    terms = []
    for g, of_target in enumerate(assignments):
        for v, of_view in enumerate(scores):
            for q, s in zip(of_target, of_view, strict=True):
                log_total = math.log(math.fsum(math.exp(score / temperature) for score in s))
                if v != g:
                    terms.append(-math.fsum(a * (b / temperature - log_total) for a, b in zip(q, s, strict=True)))
    return math.fsum(terms) / len(terms)


# --- scores --------------------------------------------------------------------------------------------------------


def test_scores_are_cosines_whatever_the_lengths() -> None:
    z, prototypes = double(5, 4), double(3, 4, seed=1)
    scores = ops.prototype_scores(z, prototypes)
    for row in range(5):
        for k in range(3):
            wanted = torch.nn.functional.cosine_similarity(z[row], prototypes[k], dim=0)
            torch.testing.assert_close(scores[row, k], wanted, rtol=0, atol=1e-12)
    longer = ops.prototype_scores(100 * z, 1e-3 * prototypes)
    torch.testing.assert_close(longer, scores, rtol=0, atol=1e-12)
    assert ops.prototype_scores(double(2, 5, 4), prototypes).shape == (2, 5, 3)


def test_scores_have_gradients_by_features_and_prototypes() -> None:
    z, prototypes = double(3, 4).requires_grad_(), double(2, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(ops.prototype_scores, (z, prototypes))


# --- assignments ---------------------------------------------------------------------------------------------------


def test_two_rows_and_two_prototypes_by_hand() -> None:
    """exp(S / ε) = [[3, 1], [1, 1]]; columns [[3/4, 1/2], [1/4, 1/2]]; rows [[3/5, 2/5], [1/3, 2/3]]."""
    scores = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    found = ops.sinkhorn(scores, epsilon=1.0, iterations=1)
    torch.testing.assert_close(found, torch.tensor([[3 / 5, 2 / 5], [1 / 3, 2 / 3]]))


@settings(max_examples=30, deadline=None)
@given(rows=SIZES, prototypes=SIZES, iterations=st.integers(1, 5), seed=st.integers(0, 1000))
def test_assignments_equal_division_in_float64(rows: int, prototypes: int, iterations: int, seed: int) -> None:
    scores = cosines(rows, prototypes, 3, seed)
    found = ops.sinkhorn(scores, iterations=iterations).numpy()
    np.testing.assert_allclose(found, assignments_by_division(scores.numpy(), 0.05, iterations), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_every_row_sums_to_one_after_any_number_of_iterations(
    dtype: torch.dtype, close: float, iterations: int
) -> None:
    sums = ops.sinkhorn(cosines(64, 16, 8).to(dtype), iterations=iterations).sum(dim=1)
    torch.testing.assert_close(sums, torch.ones(64, dtype=dtype), rtol=0, atol=close)


def test_prototypes_share_the_rows_the_better_the_more_iterations() -> None:
    """The worst column of 256 rows and 64 prototypes of 128 features, as the docstring tells."""
    deviations = {1: [], 3: [], 10: []}
    for seed in range(20):
        scores = cosines(256, 64, 128, seed)
        for iterations, found in deviations.items():
            mass = ops.sinkhorn(scores, iterations=iterations).sum(dim=0)
            found.append((mass / (256 / 64) - 1).abs().max().item())
    assert 0.2 < np.median(deviations[1]) < 0.3
    assert 0.005 < np.median(deviations[3]) < 0.015
    assert max(deviations[10]) < 1e-4


def test_assignments_are_scaled_rows_and_columns_of_the_exponentials() -> None:
    """log Q - S / ε = u_b + v_k (equation 5): with both marginals right this is the maximum of equation 3."""
    scores = cosines(9, 5, 16)
    q = ops.sinkhorn(scores, iterations=200)
    rest = q.log() - scores / 0.05
    torch.testing.assert_close(rest - rest[:1] - rest[:, :1] + rest[0, 0], torch.zeros_like(rest), rtol=0, atol=1e-10)
    torch.testing.assert_close(q.sum(dim=0), torch.full((5,), 9 / 5, dtype=torch.float64), rtol=0, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(shift=st.floats(-1000, 1000), seed=st.integers(0, 100))
def test_a_number_added_to_all_scores_changes_nothing(shift: float, seed: int) -> None:
    scores = cosines(7, 4, 3, seed)
    torch.testing.assert_close(ops.sinkhorn(scores + shift), ops.sinkhorn(scores), rtol=0, atol=1e-9)


def test_a_number_added_to_a_row_or_a_column_changes_nothing_in_the_end() -> None:
    scores, by_row, by_column = cosines(7, 4, 16), double(7, 1, seed=1), double(4, seed=2)
    found, wanted = (ops.sinkhorn(s, iterations=300) for s in (scores + by_row + by_column, scores))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_scores_and_small_epsilon_do_not_overflow(dtype: torch.dtype) -> None:
    """exp(1e4 / 0.05) is beyond every float."""
    q = ops.sinkhorn((1e4 * double(8, 4)).to(dtype))
    assert q.isfinite().all()
    torch.testing.assert_close(q.sum(dim=1), torch.ones(8, dtype=dtype))


def test_a_large_epsilon_gives_equal_shares_and_a_small_one_the_best_pairs() -> None:
    scores = cosines(6, 6, 3)
    torch.testing.assert_close(ops.sinkhorn(scores, epsilon=1e9), torch.full_like(scores, 1 / 6), rtol=0, atol=1e-8)
    sharp = ops.sinkhorn(scores, epsilon=0.005, iterations=2000)
    _, best = linear_sum_assignment(scores.numpy(), maximize=True)
    assert scores.argmax(dim=1).tolist() != best.tolist()  # not what each row likes best
    torch.testing.assert_close(sharp, torch.eye(6, dtype=torch.float64)[best], rtol=0, atol=1e-2)


def test_all_rows_alike_are_spread_over_all_prototypes() -> None:
    """What keeps SwAV from collapsing: one prototype cannot take everything."""
    same = cosines(1, 5, 8).expand(10, 5)
    torch.testing.assert_close(ops.sinkhorn(same), torch.full((10, 5), 0.2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_order_of_rows_and_prototypes_does_not_matter() -> None:
    scores, generator = cosines(8, 5, 6), torch.Generator().manual_seed(3)
    rows, columns = torch.randperm(8, generator=generator), torch.randperm(5, generator=generator)
    found, wanted = ops.sinkhorn(scores[rows][:, columns]), ops.sinkhorn(scores)[rows][:, columns]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)


def test_views_in_one_call_are_assigned_each_by_itself() -> None:
    scores = torch.stack([cosines(6, 4, 8, seed) for seed in range(3)])
    assert torch.equal(ops.sinkhorn(scores), torch.stack([ops.sinkhorn(view) for view in scores]))


def test_assignments_can_be_differentiated() -> None:
    assert torch.autograd.gradcheck(lambda s: ops.sinkhorn(s, epsilon=0.5), (cosines(4, 3, 5).requires_grad_(),))


# --- swapped prediction --------------------------------------------------------------------------------------------


def test_the_swapped_loss_of_two_views_by_hand() -> None:
    scores = torch.tensor([[[math.log(3.0), 0.0]], [[0.0, 0.0]]])  # predictions 3/4, 1/4 and 1/2, 1/2
    assignments = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    loss = ops.swav_loss(scores, assignments, temperature=1.0)
    torch.testing.assert_close(loss, torch.tensor((math.log(2) + math.log(4)) / 2))


@settings(max_examples=25, deadline=None)
@given(more=st.integers(0, 4), rows=SIZES, prototypes=SIZES, seed=st.integers(0, 1000))
def test_the_swapped_loss_equals_loops_in_float64(more: int, rows: int, prototypes: int, seed: int) -> None:
    scores = torch.stack([cosines(rows, prototypes, 4, seed + 10 * view) for view in range(2 + more)])
    q = ops.sinkhorn(scores[:2])
    found = ops.swav_loss(scores, q, temperature=0.2).item()
    assert found == pytest.approx(swapped(scores.numpy(), q.numpy(), 0.2), abs=1e-10)


@pytest.mark.parametrize("prototypes", [21, 512, 3000])
def test_predictions_that_tell_nothing_cost_the_logarithm_of_the_prototypes(prototypes: int) -> None:
    q = ops.sinkhorn(cosines(4, prototypes, 8)).expand(2, 4, prototypes)
    loss = ops.swav_loss(torch.full((8, 4, prototypes), 0.3, dtype=torch.float64), q)
    assert loss.item() == pytest.approx(math.log(prototypes), abs=1e-10)


def test_swapping_the_large_crops_or_permuting_batch_and_small_crops_changes_nothing() -> None:
    scores = torch.stack([cosines(5, 4, 6, seed) for seed in range(4)])
    order = torch.tensor([3, 0, 4, 1, 2])
    loss = ops.swav_loss(scores, ops.sinkhorn(scores[:2]))
    for other in (scores[[1, 0, 2, 3]], scores[[0, 1, 3, 2]], scores[:, order]):
        torch.testing.assert_close(ops.swav_loss(other, ops.sinkhorn(other[:2])), loss, rtol=0, atol=1e-12)


def test_predictions_have_a_gradient_and_assignments_have_none() -> None:
    scores = torch.stack([cosines(3, 4, 6, seed) for seed in range(3)]).requires_grad_()
    q = ops.sinkhorn(scores[:2])
    by_scores, by_q = torch.autograd.grad(ops.swav_loss(scores, q), (scores, q), allow_unused=True)
    assert by_q is None
    assert by_scores.abs().sum() > 0
    assert torch.autograd.gradcheck(lambda s: ops.swav_loss(s, q.detach()), (scores,))


def test_too_few_views_are_refused() -> None:
    with pytest.raises(UsageError, match="2 views give targets and 1 give predictions"):
        ops.swav_loss(double(1, 3, 4), double(2, 3, 4))


def test_nothing_is_made_on_another_device_than_the_arguments() -> None:
    scores = ops.prototype_scores(torch.empty(3, 5, 4, device="meta"), torch.empty(6, 4, device="meta"))
    assert ops.swav_loss(scores, ops.sinkhorn(scores[:2])).device.type == "meta"
