"""Contrastive predictive coding: a plain loop over the paper's sums, ends of episodes, padding, known information."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlkit.ops import predictive_coding as ops
from rlkit.ops.contrastive import contrastive_accuracy, info_nce

EXACT = {"rtol": 0, "atol": 1e-10}
BOTH = pytest.mark.parametrize("across_time", [False, True])
B, T, K, D = 3, 5, 3, 2


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flags(*shape: int, seed: int = 0, share: float = 0.3) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def never(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.bool)


def losses_by_loop(predictions, z, starts, present, across_time) -> tuple[list[float], list[int]]:
    """Every context, its candidates one by one, and a walk from t to t + k that must not meet a start."""
    count, batch, time, _ = predictions.shape
    losses, numbers = [], []
    for k in range(1, count + 1):
        total, number = 0.0, 0
        for b in range(batch):
            for t in range(time - k):
                if any(starts[b, t + 1 : t + k + 1]) or not (present[b, t] and present[b, t + k]):
                    continue
                steps = range(time) if across_time else [t + k]
                scores = {
                    (n, u): math.exp(sum(predictions[k - 1, b, t, d].item() * z[n, u, d].item() for d in range(D)))
                    for n in range(batch)
                    for u in steps
                    if present[n, u]
                }
                total -= math.log(scores[b, t + k] / sum(scores.values()))
                number += 1
        losses.append(total / number if number else 0.0)
        numbers.append(number)
    return losses, numbers


def test_the_same_episode_ends_where_the_next_one_starts() -> None:
    starts = torch.tensor([[True, False, False, True, False], [False, True, True, False, False]])
    assert ops.same_episode(starts, 1).tolist() == [[True, True, False, True], [False, False, True, True]]
    assert ops.same_episode(starts, 2).tolist() == [[True, False, False], [False, False, True]]
    assert ops.same_episode(starts, 4).tolist() == [[False], [False]]
    assert ops.same_episode(starts, 5).shape == (2, 0)
    assert ops.same_episode(starts, 9).shape == (2, 0)


def test_the_start_of_the_first_step_does_not_matter() -> None:
    starts = flags(4, 8)
    for first in (True, False):
        starts[:, 0] = first
        assert ops.same_episode(starts, 3).tolist() == [
            [not any(row[t + 1 : t + 4]) for t in range(5)] for row in starts.tolist()
        ]


@BOTH
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), padded=st.booleans())
def test_losses_are_the_papers_sums_over_valid_pairs(across_time: bool, seed: int, padded: bool) -> None:
    predictions, z = double(K, B, T, D, seed=seed), double(B, T, D, seed=seed + 1)
    starts, present = flags(B, T, seed=seed), ~never(B, T)
    if padded:
        present = flags(B, T, seed=seed + 1, share=0.7)
    right, numbers = losses_by_loop(predictions, z, starts, present, across_time)
    found, pairs = ops.predictive_coding_losses(
        predictions, z, starts, present=present if padded else None, across_time=across_time
    )
    torch.testing.assert_close(found, torch.tensor(right, dtype=torch.float64), **EXACT)
    assert pairs.tolist() == numbers


def test_one_step_by_hand() -> None:
    """Two sequences of two steps: contexts 1 and 2 see the candidates 1 and 3."""
    predictions = torch.tensor([1.0, 9.0, 2.0, 9.0], dtype=torch.float64).view(1, 2, 2, 1)
    z = torch.tensor([7.0, 1.0, 7.0, 3.0], dtype=torch.float64).view(2, 2, 1)
    found, pairs = ops.predictive_coding_losses(predictions, z, never(2, 2))
    first, second = math.log1p(math.exp(3 - 1)), math.log1p(math.exp(2 - 6))
    assert found.item() == pytest.approx((first + second) / 2, abs=1e-12)
    assert pairs.tolist() == [2]


def test_uniform_features_cost_the_logarithm_of_the_candidates() -> None:
    predictions, z = torch.ones(K, 4, 6, D).double(), torch.ones(4, 6, D).double()
    for across_time, candidates in ((False, 4), (True, 24)):
        found, _ = ops.predictive_coding_losses(predictions, z, never(4, 6), across_time=across_time)
        torch.testing.assert_close(found, torch.full((K,), math.log(candidates), dtype=torch.float64), **EXACT)


@BOTH
def test_the_softmax_is_over_candidates_and_not_over_contexts(across_time: bool) -> None:
    """Contexts of very different lengths, and candidates all alike: only a softmax over contexts could tell."""
    predictions, z = 10 * double(K, B, T, D), torch.ones(B, T, D).double()
    found, _ = ops.predictive_coding_losses(predictions, z, never(B, T), across_time=across_time)
    candidates = B * T if across_time else B
    torch.testing.assert_close(found, torch.full((K,), math.log(candidates), dtype=torch.float64), **EXACT)


@BOTH
def test_pairs_across_the_end_of_an_episode_teach_nothing(across_time: bool) -> None:
    starts = never(B, T)
    starts[1, 2] = True
    predictions = double(1, B, T, D).requires_grad_()
    found, pairs = ops.predictive_coding_losses(predictions, double(B, T, D, seed=1), starts, across_time=across_time)
    found.sum().backward()
    taught = predictions.grad[0].abs().sum(2) > 0
    right = ~never(B, T)
    right[:, -1] = False  # nothing comes after
    right[1, 1] = False  # another episode comes after
    assert torch.equal(taught, right)
    assert pairs.tolist() == [right.sum().item()]


@BOTH
def test_padding_is_neither_context_nor_candidate(across_time: bool) -> None:
    present = torch.arange(T) < torch.tensor([[5], [3], [4]])
    predictions, z = double(K, B, T, D), double(B, T, D, seed=1)
    found, _ = ops.predictive_coding_losses(predictions, z, never(B, T), present=present, across_time=across_time)
    other_z = torch.where(present[..., None], z, 1e3).requires_grad_()
    other_predictions = torch.where(present[..., None], predictions, -1e3).requires_grad_()
    again, _ = ops.predictive_coding_losses(
        other_predictions, other_z, never(B, T), present=present, across_time=across_time
    )
    torch.testing.assert_close(again, found, **EXACT)
    again.sum().backward()
    assert torch.equal(other_z.grad[~present], torch.zeros(3, D).double())
    assert torch.equal(other_predictions.grad[:, ~present], torch.zeros(K, 3, D).double())
    assert other_z.grad.isfinite().all()


@BOTH
def test_steps_ahead_without_a_pair_cost_nothing_and_keep_gradients_finite(across_time: bool) -> None:
    predictions, z = double(6, B, T, D).requires_grad_(), double(B, T, D, seed=1).requires_grad_()
    starts, present = never(B, T), ~never(B, T)
    present[:, 4] = False  # at t + 4 nobody has a step, and at t + 5 and t + 6 there is none
    found, pairs = ops.predictive_coding_losses(predictions, z, starts, present=present, across_time=across_time)
    assert pairs.tolist() == [9, 6, 3, 0, 0, 0]
    assert found[3:].tolist() == [0.0] * 3
    found.sum().backward()
    assert predictions.grad.isfinite().all()
    assert z.grad.isfinite().all()
    assert torch.equal(predictions.grad[3:], torch.zeros(3, B, T, D).double())


@BOTH
def test_rows_without_a_candidate_are_still_numbers(across_time: bool) -> None:
    logits, positive = ops.prediction_logits(
        double(B, T, D), double(B, T, D), 1, present=never(B, T), across_time=across_time
    )
    assert torch.equal(info_nce(logits, positive), torch.zeros(B, T - 1).double())
    assert torch.equal(contrastive_accuracy(logits, positive), torch.ones(B, T - 1).double())


@BOTH
def test_the_order_of_sequences_does_not_matter(across_time: bool) -> None:
    predictions, z, starts = double(K, B, T, D), double(B, T, D, seed=1), flags(B, T)
    order = torch.tensor([2, 0, 1])
    found, pairs = ops.predictive_coding_losses(predictions, z, starts, across_time=across_time)
    moved = ops.predictive_coding_losses(predictions[:, order], z[order], starts[order], across_time=across_time)
    torch.testing.assert_close(moved[0], found, **EXACT)
    assert torch.equal(moved[1], pairs)


@BOTH
def test_losses_have_their_own_gradient(across_time: bool) -> None:
    starts, present = flags(B, T), flags(B, T, seed=1, share=0.8)

    def losses(predictions: Tensor, z: Tensor) -> Tensor:
        return ops.predictive_coding_losses(predictions, z, starts, present=present, across_time=across_time)[0]

    assert torch.autograd.gradcheck(losses, (double(K, B, T, D).requires_grad_(), double(B, T, D).requires_grad_()))


@BOTH
def test_logits_and_columns_give_the_accuracy(across_time: bool) -> None:
    z = torch.eye(B * T).double().view(B, T, B * T)
    prediction = z.roll(-2, 1)  # what comes two steps later
    logits, positive = ops.prediction_logits(prediction, z, 2, across_time=across_time)
    assert logits.shape == (B, T - 2, B * T if across_time else B)
    assert torch.equal(contrastive_accuracy(logits, positive), torch.ones(B, T - 2).double())
    assert logits.sum().item() == B * (T - 2)  # a one for each positive, zeros elsewhere


def test_the_best_critic_finds_the_information_of_an_autoregressive_process() -> None:
    """Neighbours of x_t+1 = ρ x_t + noise have I = -½ ln(1 - ρ²ᵏ), and log p(x_t+k|x_t) / p(x_t+k) is bilinear in
    (x_t, 1) and (x_t+k, x²_t+k), up to a function of x_t, which the softmax ignores."""
    rho, batch, time = 0.9, 512, 7
    noise = double(batch, time)
    x = [noise[:, 0]]
    for t in range(1, time):
        x.append(rho * x[-1] + math.sqrt(1 - rho**2) * noise[:, t])
    x = torch.stack(x, 1)
    z = torch.stack([x, x.square()], 2)
    correlations = [rho**k for k in (1, 2, 3)]
    predictions = torch.stack(
        [torch.stack([c * x, torch.full_like(x, -(c**2) / 2)], 2) / (1 - c**2) for c in correlations]
    )
    found, _ = ops.predictive_coding_losses(predictions, z, never(batch, time))
    for loss, c in zip(found.tolist(), correlations, strict=True):
        assert math.log(batch) - loss == pytest.approx(-math.log(1 - c**2) / 2, abs=0.05)


def test_sure_predictions_saturate_at_the_logarithm_of_the_candidates() -> None:
    z = torch.eye(4)[:, None].expand(4, 3, 4)
    found, _ = ops.predictive_coding_losses(1e4 * z[None], z, never(4, 3))
    assert found.tolist() == [0.0]  # the estimate ln N - loss is ln N, and single precision does not overflow


@BOTH
def test_a_part_of_the_predictions_finds_its_own_among_all_sequences(across_time: bool) -> None:
    prediction, z = double(B, T, D), double(B, T, D, seed=1)
    logits, positive = ops.prediction_logits(prediction, z, 2, across_time=across_time)
    part, own = ops.prediction_logits(prediction[1:], z, 2, across_time=across_time, offset=1)
    torch.testing.assert_close(part, logits[1:], **EXACT)
    assert torch.equal(own, positive[1:])
