"""Attention whose weights fall with each step: the explicit sums, and states that stay finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlkit.ops.exponential_attention import ExponentialMemory, exponential_attention, exponential_step

LOG_DECAY = math.log(0.97)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def by_sums(logits: Tensor, values: Tensor, log_decay: float) -> Tensor:
    """y of the last of T steps, [M, E], for logits [T, M] and values [T, E], in float64."""
    age = torch.arange(len(logits) - 1, -1, -1, dtype=torch.float64)
    exponent = logits.double() + log_decay * age[:, None]
    weight = (exponent - exponent.amax(0)).exp()
    return (weight[..., None] * values.double()[:, None]).sum(0) / weight.sum(0)[:, None]


def stepped(logits: Tensor, values: Tensor, log_decay: float) -> list[ExponentialMemory]:
    """The memory after each of T steps."""
    memory = ExponentialMemory.empty(logits.shape[1], size=values.shape[1], like=logits)
    found = []
    for now in range(len(logits)):
        memory = exponential_step(logits[now], values[now], memory, log_decay)
        found.append(memory)
    return found


def published_outputs(logits: Tensor, values: Tensor, log_decay: float) -> Tensor:
    """TeSTra's update as its code has it: what is taken off all logits is the largest of the first step."""
    first, decay = logits[0].amax(), math.exp(log_decay)
    numerator, denominator = torch.zeros(logits.shape[1], values.shape[1]).to(logits), torch.zeros_like(logits[0])
    found = []
    for now in range(len(logits)):
        weight = (logits[now] - first).exp()
        numerator = decay * numerator + weight[:, None] * values[now]
        denominator = decay * denominator + weight
        found.append(numerator / denominator[:, None])
    return torch.stack(found)


def test_two_steps_by_hand() -> None:
    logits, values = torch.tensor([[0.0], [math.log(3.0)]]), torch.tensor([[8.0], [2.0]])
    last = stepped(logits, values, math.log(0.5))[-1]
    torch.testing.assert_close(last.output, torch.tensor([[(0.5 * 8 + 3 * 2) / 3.5]]))
    torch.testing.assert_close(last.shift + last.denominator.log(), torch.tensor([math.log(3.5)]))


def test_every_step_is_the_explicit_sum() -> None:
    logits, values = 3 * draw(40, 2), draw(40, 5, seed=1)
    for now, memory in enumerate(stepped(logits, values, LOG_DECAY)):
        torch.testing.assert_close(memory.output, by_sums(logits[: now + 1], values[: now + 1], LOG_DECAY))


def test_without_decay_it_is_attention() -> None:
    logits, values = draw(30, 3), draw(30, 4, seed=1)
    torch.testing.assert_close(stepped(logits, values, 0.0)[-1].output, logits.softmax(0).T @ values)


@pytest.mark.parametrize("chunk", [1, 4, 7, 50])
def test_the_sequence_is_the_steps_with_resets_in_any_chunks(chunk: int) -> None:
    logits, values = 4 * draw(2, 30, 3, 5), draw(2, 30, 3, 6, seed=1)  # 3 heads of 5 queries
    is_first = torch.zeros(2, 30, dtype=torch.bool)
    is_first[0, [0, 9, 10]] = is_first[1, [0, 16]] = True
    found = exponential_attention(logits, values, is_first, LOG_DECAY, chunk=chunk)
    memory = ExponentialMemory.empty(2, 3, 5, size=6, like=logits)
    nothing = memory
    for now in range(30):
        memory = ExponentialMemory(
            *(
                torch.where(is_first[:, now].view(2, *(1,) * (old.dim() - 1)), new, old)
                for new, old in zip(nothing, memory, strict=True)
            )
        )
        memory = exponential_step(logits[:, now], values[:, now], memory, LOG_DECAY)
        torch.testing.assert_close(found[:, now], memory.output)


def test_gradients_are_those_of_the_explicit_sum() -> None:
    logits, values = draw(1, 20, 2).requires_grad_(), draw(1, 20, 3, seed=1).requires_grad_()
    is_first = torch.zeros(1, 20, dtype=torch.bool)
    weight = draw(2, 3, seed=2)

    def gradients(output: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((output * weight).sum(), (logits, values))

    expected = gradients(by_sums(logits[0], values[0], LOG_DECAY))
    whole = gradients(exponential_attention(logits, values, is_first, LOG_DECAY, chunk=6)[0, -1])
    steps = gradients(stepped(logits[0], values[0], LOG_DECAY)[-1].output)
    for each in (whole, steps):
        torch.testing.assert_close(each, expected)


def test_nothing_remembered_gives_zero() -> None:
    memory = ExponentialMemory.empty(2, 3, size=4, like=torch.zeros(1, dtype=torch.float16))
    assert torch.equal(memory.output, torch.zeros(2, 3, 4, dtype=torch.float16))


DRIFTS = {
    "rising": lambda t: 15.0 * t,
    "rising far": lambda t: 400.0 * t,
    "falling far": lambda t: -400.0 * t,
    "as fast as the decay": lambda t: -LOG_DECAY * 3000 * t,
    "one spike": lambda t: torch.where((t - 0.1).abs() < 1e-9, 64.0, 0.0),
}


def drifting(frames: int) -> tuple[Tensor, Tensor]:
    """Logits [frames, drifts] in half precision, and values."""
    time = torch.arange(frames, dtype=torch.float64) / 3000
    drifts = torch.stack([torch.as_tensor(drift(time)) for drift in DRIFTS.values()], 1)
    return (drifts + 0.3 * draw(frames, len(DRIFTS))).half(), draw(frames, 4, seed=1).half()


def test_in_half_precision_it_is_right_under_every_drift() -> None:
    logits, values = drifting(3000)
    found = stepped(logits, values, LOG_DECAY)
    for now in (10, 299, 301, 1500, 2999):
        expected = by_sums(logits[: now + 1], values[: now + 1], LOG_DECAY)
        torch.testing.assert_close(found[now].output.double(), expected, atol=0.03, rtol=0)
    assert max(memory.denominator.max() for memory in found) < 1.3  # so that nothing can overflow


@pytest.mark.slow
def test_a_hundred_thousand_drifting_frames_stay_finite_in_half_precision() -> None:
    """To a drift of 500, where the published update overflows within the first thousands."""
    frames = 100_000
    time = torch.arange(frames, dtype=torch.float64) / frames
    slopes = torch.tensor([15.0, 500.0, -500.0, 100.0], dtype=torch.float64)
    logits = (time[:, None] * slopes + 0.3 * draw(frames, 4)).half()
    logits[frames // 2, 3] += 64
    values = draw(frames, 4, seed=1).half()
    found = stepped(logits, values, LOG_DECAY)
    outputs = torch.stack([memory.output for memory in found])
    assert outputs.isfinite().all()
    expected = by_sums(logits[-2000:], values[-2000:], LOG_DECAY)
    torch.testing.assert_close(outputs[-1].double(), expected, atol=0.03, rtol=0)
    published = published_outputs(logits, values, LOG_DECAY)
    assert published[-1].isfinite().all(-1).tolist() == [False, False, True, False]
    assert (published[-1, 2].double() - expected[2]).abs().max() > 0.3  # logits that fall leave it where it was


def test_the_published_update_overflows_where_this_does_not() -> None:
    """It is the same sum as long as logits stay where they began, and no number once they have risen by 15."""
    logits, values = drifting(3000)
    rising = published_outputs(logits[:, :1], values, LOG_DECAY)[:, 0]
    early = by_sums(logits[:300, :1], values[:300], LOG_DECAY)[0]
    torch.testing.assert_close(rising[299].double(), early, atol=0.03, rtol=0)
    assert not rising[-1].isfinite().any()
    assert stepped(logits, values, LOG_DECAY)[-1].output.isfinite().all()
