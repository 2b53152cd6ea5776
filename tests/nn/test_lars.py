"""LARS: a step by hand, loops in float64 over a whole network, and what it leaves alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlkit.errors import CheckpointError, UsageError
from rlkit.nn.flat import flat_gradient, flatten_parameters
from rlkit.nn.lars import LARS, Slice, lars_slices


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Reference:
    """Algorithm 1 with one array a parameter, in numpy."""

    def __init__(self, arrays: list[np.ndarray], adapted: list[bool], momentum: float, decay: float, trust: float):
        self.arrays, self.adapted = arrays, adapted
        self.momentum, self.decay, self.trust = momentum, decay, trust
        self.velocities = [np.zeros_like(array) for array in arrays]

    def step(self, gradients: list[np.ndarray], learning_rate: float) -> None:
        for w, g, v, adapted in zip(self.arrays, gradients, self.velocities, self.adapted, strict=True):
            local = 1.0
            if adapted:
                length, slope = (math.sqrt(math.fsum(x.ravel() ** 2)) for x in (w, g))
                if length > 0 and slope + self.decay * length > 0:
                    local = self.trust * length / (slope + self.decay * length)
                g = g + self.decay * w
            v[:] = self.momentum * v + learning_rate * local * g
            w -= v


def test_two_steps_by_hand() -> None:
    """|w| = 5, |g| = 1, β = 0.1: λ = 0.01 · 5 / (1 + 0.5) = 1/30, and γ λ (g + β w) = 0.01 (0.9, 1.2)."""
    w = torch.tensor([3.0, 4.0, 7.0], dtype=torch.float64)
    lars = LARS(w, [Slice(2, True), Slice(1, False)], 0.3, weight_decay=0.1, trust_coefficient=0.01)
    gradient = torch.tensor([0.6, 0.8, 2.0], dtype=torch.float64)
    lars.step(gradient)
    first = torch.tensor([2.991, 3.988, 7 - 0.3 * 2], dtype=torch.float64)
    torch.testing.assert_close(w, first, rtol=0, atol=1e-15)
    assert gradient.tolist() == [0.6, 0.8, 2.0]  # not changed in place
    lars.learning_rate = 0.0  # momentum alone
    lars.step(gradient)
    second = torch.tensor([2.991 - 0.0081, 3.988 - 0.0108, 6.4 - 0.54], dtype=torch.float64)
    torch.testing.assert_close(w, second, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_steps_through_a_network_equal_loops_in_float64(dtype: torch.dtype, close: float) -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5), nn.LayerNorm(5), nn.Linear(5, 2)
    ).to(dtype)
    flat = flatten_parameters(net)
    flat.copy_(normal(flat.numel()))
    parameters = list(net.parameters())
    adapted = [True, False, False, False, True, False, False, False, True, False]
    arrays = [parameter.detach().double().numpy().copy() for parameter in parameters]
    reference = Reference(arrays, adapted, momentum=0.8, decay=0.02, trust=0.05)
    lars = LARS(flat, lars_slices(net), 0.0, momentum=0.8, weight_decay=0.02, trust_coefficient=0.05)
    for step in range(8):
        lars.learning_rate = 0.5 / (1 + step)
        output = net(normal(6, 2, 4, 4, seed=step).to(dtype))
        gradient = flat_gradient(output, net, normal(6, 2, seed=100 + step).to(dtype))
        sizes = [parameter.numel() for parameter in parameters]
        split = [
            part.double().numpy().reshape(p.shape) for part, p in zip(gradient.split(sizes), parameters, strict=True)
        ]
        reference.step(split, 0.5 / (1 + step))
        lars.step(gradient)
        for parameter, array in zip(parameters, arrays, strict=True):
            np.testing.assert_allclose(parameter.detach().double().numpy(), array, rtol=0, atol=close)


def test_without_adapted_parameters_it_is_sgd_with_momentum() -> None:
    start = normal(20)
    ours, theirs = start.clone(), nn.Parameter(start.clone())
    lars, sgd = LARS(ours, [Slice(20, False)], 0.1), torch.optim.SGD([theirs], 0.1, momentum=0.9)
    for step in range(5):
        theirs.grad = normal(20, seed=step)
        lars.step(theirs.grad)
        sgd.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-12)


def test_the_scale_of_the_gradient_does_not_matter_without_weight_decay() -> None:
    first, second = normal(12), normal(12)
    gradient = normal(12, seed=1)
    for w, scale in ((first, 1.0), (second, 1e6)):
        LARS(w, [Slice(8, True), Slice(4, True)], 1.0, weight_decay=0.0).step(scale * gradient)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-15)
    moved = (first - normal(12)).split([8, 4])
    for part, start in zip(moved, normal(12).split([8, 4]), strict=True):
        assert part.norm().item() == pytest.approx(1e-3 * start.norm().item())  # each by η of its own length


def test_a_parameter_of_zeros_and_a_gradient_of_zeros_take_a_plain_step() -> None:
    w = torch.tensor([0.0, 0.0, 1.0, 2.0])
    lars = LARS(w, [Slice(2, True), Slice(2, True)], 0.5, weight_decay=0.0)
    lars.step(torch.tensor([1.0, -1.0, 0.0, 0.0]))
    assert w.tolist() == [-0.5, 0.5, 1.0, 2.0]


def test_biases_and_normalisations_are_not_adapted_and_all_else_is() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 4))
            self.temperature = nn.Parameter(torch.zeros(()))
            self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GroupNorm(1, 2))
            self.norms = nn.ModuleList([nn.LayerNorm((3, 4)), nn.RMSNorm((3, 4)), nn.InstanceNorm1d(2, affine=True)])
            self.out = nn.Linear(4, 4)
            self.tied = nn.Linear(4, 4)
            self.tied.weight = self.out.weight

    net = Net()
    slices = lars_slices(net)
    found = {name for (name, _), part in zip(net.named_parameters(), slices, strict=True) if part.is_adapted}
    assert found == {"token", "body.0.weight", "out.weight"}
    assert sum(part.size for part in slices) == flatten_parameters(net).numel()


def test_a_restored_optimiser_continues_with_the_same_bits() -> None:
    w, slices = normal(10).float(), [Slice(6, True), Slice(4, False)]
    lars = LARS(w, slices, 0.1)
    lars.step(normal(10, seed=1).float())
    state, saved = lars.state(), w.clone()
    for step in range(3):
        lars.step(normal(10, seed=step).float())
    other = LARS(saved, slices, 0.1)
    other.load_state(state)
    for step in range(3):
        other.step(normal(10, seed=step).float())
    assert torch.equal(saved, w)
    assert not torch.equal(state["velocity"], lars.velocity)  # a copy


def test_a_state_of_another_size_and_slices_of_another_vector_are_refused() -> None:
    small, large = (LARS(torch.ones(size), [Slice(size, True)], 0.1) for size in (4, 5))
    with pytest.raises(CheckpointError, match=r"\(5,\).*\(4,\)"):
        small.load_state(large.state())
    with pytest.raises(UsageError, match="hold 4 numbers, the vector 5"):
        LARS(torch.ones(5), [Slice(4, True)], 0.1)


def test_nothing_is_made_on_another_device_than_the_parameter() -> None:
    w = torch.empty(6, device="meta")
    lars = LARS(w, [Slice(4, True), Slice(2, False)], 0.1)
    lars.step(torch.empty(6, device="meta"))
    assert lars.velocity.device.type == "meta"
