"""Losses without negatives: identities of each method, numbers by hand, and float64 loops written from the papers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlkit.errors import UsageError
from rlkit.ops import self_distillation as ops
from rlkit.ops.view_pairs import cross_entropy_between_views

SYMMETRIC = pytest.mark.parametrize("loss", [ops.byol_loss, ops.simsiam_loss])
SIZES = st.integers(1, 5)


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """One pair of vectors, term by term."""
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))


def softmax(logits: np.ndarray) -> list[float]:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / math.fsum(powers) for power in powers]


def dino(student: np.ndarray, teacher: np.ndarray, centre: np.ndarray, τ_t: float, τ_s: float) -> float:
    """Algorithm 1 with its pairs, rows and outputs as loops."""
    terms = []
    for g, of_teacher in enumerate(teacher):
        for v, of_student in enumerate(student):
            if v == g:
                continue
            for t, s in zip(of_teacher, of_student, strict=True):
                target, p = softmax((t - centre) / τ_t), softmax(s / τ_s)
                terms.append(-math.fsum(q * math.log(x) for q, x in zip(target, p, strict=True)))
    return math.fsum(terms) / len(terms)


# --- cosines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_cosine_of_two_vectors_by_hand(dtype: torch.dtype) -> None:
    p, z = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=dtype), torch.tensor([[4.0, 3.0], [0.0, -9.0]], dtype=dtype)
    torch.testing.assert_close(ops.negative_cosine(p, z), torch.tensor([-0.96, 0.0], dtype=dtype))
    torch.testing.assert_close(ops.regression_loss(p, z), torch.tensor([0.08, 2.0], dtype=dtype))


def test_the_regression_loss_is_zero_for_the_same_direction_two_across_and_four_against() -> None:
    z = double(6, 4)
    torch.testing.assert_close(ops.regression_loss(3 * z, z), torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(ops.regression_loss(-z, z), torch.full((6,), 4.0, dtype=torch.float64))
    across = torch.stack((-z[:, 1], z[:, 0], -z[:, 3], z[:, 2]), dim=1)
    torch.testing.assert_close(ops.regression_loss(across, z), torch.full((6,), 2.0, dtype=torch.float64))


def test_the_regression_loss_is_the_squared_distance_of_unit_vectors() -> None:
    p, z = double(7, 5), double(7, 5, seed=1)
    apart = p / p.norm(dim=1, keepdim=True) - z / z.norm(dim=1, keepdim=True)
    torch.testing.assert_close(ops.regression_loss(p, z), apart.square().sum(dim=1), rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(rows=SIZES, width=SIZES, seed=st.integers(0, 1000))
def test_cosine_losses_equal_loops_in_float64(rows: int, width: int, seed: int) -> None:
    p, z = double(2, rows, width, seed=seed), double(2, rows, width, seed=seed + 5000)
    pairs = [(p[i, row].numpy(), z[1 - i, row].numpy()) for i in range(2) for row in range(rows)]
    cosines = [cosine(a, b) for a, b in pairs]
    byol, simsiam = float(ops.byol_loss(p, z)), float(ops.simsiam_loss(p, z))
    assert byol == pytest.approx(math.fsum(2 - 2 * c for c in cosines) / rows, abs=1e-10)
    assert simsiam == pytest.approx(math.fsum(-0.5 * c for c in cosines) / rows, abs=1e-10)
    assert -1e-12 <= byol <= 8 + 1e-12
    assert -1 - 1e-12 <= simsiam <= 1 + 1e-12


@SYMMETRIC
def test_swapping_the_views_or_permuting_the_batch_changes_nothing(loss: Callable[..., Tensor]) -> None:
    p, z = double(2, 9, 4), double(2, 9, 4, seed=1)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(loss(p.flip(0), z.flip(0)), loss(p, z), rtol=0, atol=1e-14)
    torch.testing.assert_close(loss(p[:, order], z[:, order]), loss(p, z), rtol=0, atol=1e-14)
    assert float(loss(p[:, order], z)) != pytest.approx(float(loss(p, z)), abs=1e-3)  # the pairs do matter


@SYMMETRIC
@settings(max_examples=20, deadline=None)
@given(factor=st.floats(1e-3, 1e3), other=st.floats(1e-3, 1e3))
def test_the_length_of_vectors_does_not_matter(loss: Callable[..., Tensor], factor: float, other: float) -> None:
    p, z = double(2, 4, 3), double(2, 4, 3, seed=1)
    torch.testing.assert_close(loss(factor * p, other * z), loss(p, z), rtol=0, atol=1e-12)


def test_vectors_that_are_all_the_same_cost_least() -> None:
    same = double(4).expand(2, 5, 4)
    assert float(ops.byol_loss(same, same)) == pytest.approx(0, abs=1e-14)
    assert float(ops.simsiam_loss(same, same)) == pytest.approx(-1, abs=1e-14)


def test_a_vector_of_zeros_counts_as_orthogonal_and_has_a_finite_gradient() -> None:
    p = torch.zeros(2, 3, 4, requires_grad=True)
    loss = ops.byol_loss(p, torch.ones(2, 3, 4))
    assert loss.item() == 4.0
    (gradient,) = torch.autograd.grad(loss, p)
    assert gradient.isfinite().all()


@SYMMETRIC
def test_predictions_have_a_gradient_and_targets_have_none(loss: Callable[..., Tensor]) -> None:
    p, z = double(2, 4, 3).requires_grad_(), double(2, 4, 3, seed=1).requires_grad_()
    by_p, by_z = torch.autograd.grad(loss(p, z), (p, z), allow_unused=True)
    assert by_p.abs().min() > 0
    assert by_z is None
    assert torch.autograd.gradcheck(lambda x: loss(x, z.detach()), (p,))


def test_the_gradient_of_a_cosine_is_orthogonal_to_its_vector() -> None:
    p = double(6, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(ops.negative_cosine(p, double(6, 4, seed=1)).sum(), p)
    torch.testing.assert_close((gradient * p).sum(dim=1), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-14)


@SYMMETRIC
def test_other_than_two_views_are_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(UsageError, match=r"3 views.*\[2, B, D\]"):
        loss(double(3, 4, 2), double(3, 4, 2))


# --- SPR -----------------------------------------------------------------------------------------------------------


def test_spr_adds_the_cosines_of_the_steps_that_count_by_hand() -> None:
    y_hat = torch.tensor([[[1.0, 0.0], [3.0, 4.0]], [[0.0, 2.0], [1.0, 1.0]]])
    y = torch.tensor([[[5.0, 0.0], [4.0, 3.0]], [[0.0, -1.0], [1.0, 1.0]]])
    valid = torch.tensor([[True, True], [True, False]])
    torch.testing.assert_close(ops.spr_loss(y_hat, y, valid), torch.tensor(-(1 + 0.96 - 1) / 2))


@settings(max_examples=30, deadline=None)
@given(rows=SIZES, steps=SIZES, width=SIZES, seed=st.integers(0, 1000))
def test_spr_equals_loops_in_float64(rows: int, steps: int, width: int, seed: int) -> None:
    y_hat, y = double(rows, steps, width, seed=seed), double(rows, steps, width, seed=seed + 5000)
    ends = double(rows, steps, seed=seed + 9000) > 0.7
    wanted = []
    for row in range(rows):
        for k in range(steps):
            if ends[row, k]:
                break
            wanted.append(-cosine(y_hat[row, k].numpy(), y[row, k].numpy()))
    found = float(ops.spr_loss(y_hat, y, ops.steps_within_episode(ends)))
    assert found == pytest.approx(math.fsum(wanted) / rows, abs=1e-10)
    assert -steps - 1e-12 <= found <= steps + 1e-12


def test_a_perfect_prediction_of_all_steps_costs_minus_their_number() -> None:
    y = double(4, 5, 3)
    assert float(ops.spr_loss(2 * y, y, torch.ones(4, 5, dtype=torch.bool))) == pytest.approx(-5, abs=1e-12)


def test_no_step_after_the_end_of_an_episode_counts() -> None:
    ends = torch.tensor([[False, False, False], [False, True, False], [True, False, True]])
    assert ops.steps_within_episode(ends).tolist() == [[True, True, True], [True, False, False], [False, False, False]]


def test_what_stands_behind_the_end_of_an_episode_changes_neither_loss_nor_gradient() -> None:
    y_hat, y = double(3, 4, 2), double(3, 4, 2, seed=1)
    valid = ops.steps_within_episode(torch.tensor([[False] * 4, [False, False, True, False], [True] * 4]))

    def loss_and_gradient(garbage: float) -> tuple[Tensor, Tensor]:
        there = torch.where(valid[..., None], y_hat, garbage).requires_grad_()
        loss = ops.spr_loss(there, torch.where(valid[..., None], y, garbage), valid)
        return loss.detach(), torch.autograd.grad(loss, there)[0]

    loss, gradient = loss_and_gradient(0.5)
    assert (gradient[~valid] == 0).all()
    assert gradient[valid].abs().min() > 0
    for garbage in (-100.0, math.inf, math.nan):
        assert torch.equal(loss_and_gradient(garbage)[0], loss)
        assert torch.equal(loss_and_gradient(garbage)[1], gradient)


def test_spr_has_no_gradient_by_its_targets() -> None:
    y_hat, y, valid = double(2, 3, 4).requires_grad_(), double(2, 3, 4, seed=1).requires_grad_(), double(2, 3) > -0.5
    _, by_y = torch.autograd.grad(ops.spr_loss(y_hat, y, valid), (y_hat, y), allow_unused=True)
    assert by_y is None
    assert torch.autograd.gradcheck(lambda x: ops.spr_loss(x, y.detach(), valid), (y_hat,))


# --- DINO ----------------------------------------------------------------------------------------------------------


def test_dino_with_two_views_by_hand() -> None:
    """Temperatures 1, one row, two outputs: a teacher that is sure of each, a student of odds 3 to 1."""
    student = torch.tensor([[[math.log(3.0), 0.0]], [[0.0, 0.0]]])
    teacher = torch.tensor([[[1000.0, 0.0]], [[0.0, 1000.0]]])
    loss = ops.dino_loss(student, teacher, torch.zeros(2), teacher_temperature=1.0, student_temperature=1.0)
    # view 1 tells "first" to student view 2 (-ln 1/2), view 2 tells "second" to student view 1 (-ln 1/4)
    torch.testing.assert_close(loss, torch.tensor((math.log(2) + math.log(4)) / 2))


@settings(max_examples=25, deadline=None)
@given(
    targets=st.integers(1, 3), more=st.integers(0, 4), rows=SIZES, outputs=st.integers(1, 6), seed=st.integers(0, 1000)
)
def test_dino_equals_loops_in_float64(targets: int, more: int, rows: int, outputs: int, seed: int) -> None:
    views = max(targets + more, 2)
    student, teacher = double(views, rows, outputs, seed=seed), double(targets, rows, outputs, seed=seed + 5000)
    centre = double(outputs, seed=seed + 9000)
    found = ops.dino_loss(student, teacher, centre, teacher_temperature=0.3, student_temperature=0.4)
    wanted = dino(student.numpy(), teacher.numpy(), centre.numpy(), 0.3, 0.4)
    assert float(found) == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize("views", [2, 3, 10])
def test_a_view_never_teaches_itself_and_all_other_pairs_count_once(views: int) -> None:
    """Teacher view g is sure of output g; log p is minus a power of two for each student view and output."""
    target = torch.eye(2, dtype=torch.float64)[:, None]  # [G=2, B=1, K=2]
    log_p = -(2.0 ** torch.arange(2 * views, dtype=torch.float64)).view(views, 1, 2)
    bits = int(cross_entropy_between_views(target, log_p) * (2 * views - 2))
    # output g of view v is bit 2v + g: all but bit 0 (g=0, v=0) and bit 3 (g=1, v=1)
    assert bits == 2 ** (2 * views) - 1 - 2**0 - 2**3
    assert bits.bit_count() == 2 * views - 2


@pytest.mark.parametrize("outputs", [2, 21, 4096])
def test_outputs_that_tell_nothing_cost_the_logarithm_of_their_number(outputs: int) -> None:
    teacher = double(2, 3, outputs)
    loss = ops.dino_loss(torch.zeros(6, 3, outputs), teacher, torch.zeros(outputs), teacher_temperature=0.04)
    assert float(loss) == pytest.approx(math.log(outputs), rel=1e-5)


def test_a_shift_of_the_teacher_goes_into_its_centre() -> None:
    student, teacher, shift = double(4, 5, 6), double(2, 5, 6, seed=1), double(6, seed=2)
    plain, shifted, constant = (
        ops.dino_loss(student, teacher + by, centre, teacher_temperature=0.04)
        for by, centre in ((0.0, 0 * shift), (shift, shift), (3.0, 0 * shift))
    )
    torch.testing.assert_close(shifted, plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(constant, plain, rtol=0, atol=1e-12)
    other = ops.dino_loss(student, teacher + shift, 0 * shift, teacher_temperature=0.04)
    assert float(other) != pytest.approx(float(plain), abs=1e-3)


def test_swapping_teacher_views_with_their_student_views_leaves_dino_as_it_is() -> None:
    student, teacher = double(5, 4, 6), double(2, 4, 6, seed=1)
    swapped = student[[1, 0, 2, 3, 4]], teacher.flip(0)
    loss, other = (
        ops.dino_loss(*pair, torch.zeros(6), teacher_temperature=0.1) for pair in ((student, teacher), swapped)
    )
    torch.testing.assert_close(other, loss, rtol=0, atol=1e-13)
    only_teacher = ops.dino_loss(student, teacher.flip(0), torch.zeros(6), teacher_temperature=0.1)
    assert float(only_teacher) != pytest.approx(float(loss), abs=1e-3)


def test_dino_has_no_gradient_by_teacher_and_centre() -> None:
    student, teacher, centre = (double(*shape).requires_grad_() for shape in ((3, 2, 4), (2, 2, 4), (4,)))

    def loss(x: Tensor) -> Tensor:
        return ops.dino_loss(x, teacher, centre, teacher_temperature=0.2, student_temperature=0.5)

    found = torch.autograd.grad(loss(student), (student, teacher, centre), allow_unused=True)
    assert found[1:] == (None, None)
    assert torch.autograd.gradcheck(loss, (student,))


@pytest.mark.parametrize(("views", "targets"), [(1, 1), (1, 2), (2, 3)])
def test_too_few_views_are_refused(views: int, targets: int) -> None:
    with pytest.raises(UsageError, match=f"{targets} views give targets and {views} give predictions"):
        ops.dino_loss(double(views, 2, 3), double(targets, 2, 3), torch.zeros(3), teacher_temperature=0.04)


def test_the_loss_stays_float32_under_autocast() -> None:
    student, teacher = double(3, 4, 8).float(), double(2, 4, 8, seed=1).float()
    wanted = ops.dino_loss(student, teacher, torch.zeros(8), teacher_temperature=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        found = ops.dino_loss(student, teacher, torch.zeros(8), teacher_temperature=0.1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted)


def test_the_centre_follows_its_closed_form() -> None:
    """c_n = m^n c_0 + (1 - m^n) μ for a constant mean."""
    start, mean = double(5), double(5, seed=1)
    centre = start
    for _ in range(20):
        centre = ops.next_centre(centre, mean)
    torch.testing.assert_close(centre, 0.9**20 * start + (1 - 0.9**20) * mean, rtol=0, atol=1e-12)
    assert torch.equal(ops.next_centre(start, mean, 1.0), start)
    assert torch.equal(ops.next_centre(start, mean, 0.0), mean)


def test_the_centre_has_no_gradient_by_the_teacher() -> None:
    teacher = double(2, 3, 4).requires_grad_()
    assert not ops.next_centre(torch.zeros(4, dtype=torch.float64), teacher.mean(dim=(0, 1))).requires_grad


# --- schedules -----------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(initial=st.floats(0.5, 0.9999), horizon=st.integers(2, 10_000), part=st.floats(0, 1))
def test_the_teachers_momentum_is_that_of_the_paper(initial: float, horizon: int, part: float) -> None:
    step = round(part * horizon)
    wanted = 1 - (1 - initial) * (math.cos(math.pi * step / horizon) + 1) / 2
    assert ops.teacher_momentum(initial, horizon, step) == pytest.approx(wanted, abs=1e-12)
    assert ops.teacher_momentum(initial, horizon, 0) == initial
    assert ops.teacher_momentum(initial, horizon, horizon) == 1.0
    assert ops.teacher_momentum(initial, horizon, horizon / 2) == pytest.approx((1 + initial) / 2, abs=1e-12)


def test_the_teachers_temperature_rises_and_then_stays() -> None:
    found = [ops.warmed_up_temperature(3, step) for step in (0, 1, 2, 3, 100)]
    np.testing.assert_allclose(found, [0.04, 0.05, 0.06, 0.07, 0.07], atol=1e-15)


# --- devices -------------------------------------------------------------------------------------------------------


def test_nothing_is_made_on_another_device_than_the_arguments() -> None:
    p, valid = torch.empty(2, 3, 4, device="meta"), torch.empty(2, 3, dtype=torch.bool, device="meta")
    found = [
        ops.byol_loss(p, p),
        ops.simsiam_loss(p, p),
        ops.spr_loss(p, p, ops.steps_within_episode(valid)),
        ops.dino_loss(p, p, p[0, 0], teacher_temperature=0.04),
        ops.next_centre(p[0, 0], p[0, 0]),
    ]
    assert {tensor.device.type for tensor in found} == {"meta"}
