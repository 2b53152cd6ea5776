"""A teacher: its closed form, its gradients, and what becomes of batch normalisation's statistics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rlkit.errors import UsageError
from rlkit.nn.flat import flatten_parameters
from rlkit.nn.moving_average import BufferRule, MovingAverage

RULES: tuple[BufferRule, ...] = ("own", "copied", "averaged")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double()
    fill(net, 0)
    return net


def fill(net: nn.Module, seed: int) -> None:
    with torch.no_grad():
        for index, parameter in enumerate(net.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=100 * seed + index))


def values(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


@pytest.mark.parametrize("rule", RULES)
def test_the_average_of_constant_weights_follows_its_closed_form(rule: BufferRule) -> None:
    """After n updates m^n θ̄_0 + (1 - m^n) θ."""
    net = network()
    teacher, start = MovingAverage(net, buffers=rule), values(net)
    fill(net, 1)
    for _ in range(7):
        teacher.update(net, 0.9)
    wanted = 0.9**7 * start + (1 - 0.9**7) * values(net)
    torch.testing.assert_close(values(teacher.module), wanted, rtol=0, atol=1e-12)


def test_the_average_of_changing_weights_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(8.0)
    teacher = MovingAverage(net, buffers="copied")
    for weight, momentum, wanted in ((0.0, 0.5, 4.0), (2.0, 0.75, 3.5), (100.0, 1.0, 3.5), (-1.0, 0.0, -1.0)):
        net.weight.data.fill_(weight)
        teacher.update(net, momentum)
        assert teacher.module.weight.item() == wanted


def test_the_teacher_is_a_copy_that_asks_for_no_gradient() -> None:
    net = network()
    teacher = MovingAverage(net, buffers="own")
    before = values(teacher.module)
    fill(net, 1)
    assert torch.equal(values(teacher.module), before)
    assert all(parameter.requires_grad for parameter in net.parameters())
    x = normal(5, 3)
    (net(x) - teacher.module(x)).square().mean().backward()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.module.parameters())
    assert all(parameter.grad is not None for parameter in net.parameters())
    teacher.update(net, 0.5)
    assert all(parameter.is_leaf and not parameter.requires_grad for parameter in teacher.module.parameters())


def test_flat_parameters_of_the_source_stay_its_own() -> None:
    net = network()
    flat = flatten_parameters(net)
    teacher = MovingAverage(net, buffers="own")
    averaged = flatten_parameters(teacher.module)
    start = flat.clone()
    flat.add_(1.0)
    teacher.update(net, 0.25)
    torch.testing.assert_close(averaged, start + 0.75, rtol=0, atol=1e-15)
    torch.testing.assert_close(flat, start + 1.0, rtol=0, atol=0)


def trained_statistics(rule: BufferRule, momentum: float) -> tuple[nn.BatchNorm1d, nn.BatchNorm1d]:
    """The batch normalisations of a student after a batch far from zero, and of its teacher after an update."""
    net = network()
    teacher = MovingAverage(net, buffers=rule)
    net(50 + 10 * normal(64, 3))
    teacher.update(net, momentum)
    assert isinstance(net[1], nn.BatchNorm1d)
    assert isinstance(teacher.module, nn.Sequential)
    assert isinstance(teacher.module[1], nn.BatchNorm1d)
    return net[1], teacher.module[1]


def statistics(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    return norm.running_mean, norm.running_var, norm.num_batches_tracked


def test_copied_statistics_are_the_students() -> None:
    student, teacher = trained_statistics("copied", 0.9)
    for mine, theirs in zip(statistics(teacher), statistics(student), strict=True):
        assert torch.equal(mine, theirs)
    assert teacher.num_batches_tracked == 1


def test_averaged_statistics_follow_as_the_parameters_do_and_counts_are_copied() -> None:
    """They start from mean 0 and variance 1."""
    student, teacher = trained_statistics("averaged", 0.9)
    mean, variance, count = statistics(student)
    found = statistics(teacher)
    torch.testing.assert_close(found[0], 0.1 * mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], 0.9 + 0.1 * variance, rtol=0, atol=1e-12)
    assert mean.abs().min() > 0.1
    assert found[2] == count == 1


def test_own_statistics_are_moved_by_the_teachers_own_passes_only() -> None:
    _, teacher = trained_statistics("own", 0.0)
    mean, variance, count = statistics(teacher)
    assert (mean == 0).all()
    assert (variance == 1).all()
    assert count == 0
    assert teacher.training
    teacher(3 + normal(64, 4))
    assert (mean - 0.3).abs().max() < 0.05  # torch's own momentum is 0.1
    assert count == 1


@pytest.mark.parametrize("rule", ["copied", "averaged"])
def test_a_teacher_with_the_students_statistics_gives_what_the_student_gives_when_evaluated(rule: BufferRule) -> None:
    net = network()
    teacher = MovingAverage(net, buffers=rule)
    net(50 + 10 * normal(64, 3))
    teacher.update(net, 0.0)
    assert not any(part.training for part in teacher.module.modules())
    assert net.training
    x = 50 + 10 * normal(5, 3, seed=1)
    net.eval()
    assert torch.equal(teacher.module(x), net(x))


def test_another_network_or_rule_is_refused() -> None:
    teacher = MovingAverage(nn.Linear(1, 4), buffers="own")
    with pytest.raises(UsageError, match=r"\[\(4, 3\), \(4,\)\], its moving average \[\(4, 1\), \(4,\)\]"):
        teacher.update(nn.Linear(3, 4), 0.5)
    with pytest.raises(UsageError, match=r"shapes \[\], its moving average \[\(2,\), \(2,\), \(\)\]"):
        MovingAverage(nn.BatchNorm1d(2), buffers="own").update(nn.LayerNorm(2), 0.5)
    with pytest.raises(UsageError, match="'kept', it must be 'own'"):
        MovingAverage(nn.Linear(1, 1), buffers="kept")  # type: ignore[arg-type]


def test_a_module_without_parameters_has_an_average_too() -> None:
    net = nn.Flatten()
    teacher = MovingAverage(net, buffers="averaged")
    teacher.update(net, 0.5)
    assert teacher.module(torch.zeros(2, 3, 4)).shape == (2, 12)


def test_nothing_is_made_on_another_device_than_the_source() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).to("meta")
    teacher = MovingAverage(net, buffers="averaged")
    teacher.update(net, 0.5)
    tensors = [*teacher.module.parameters(), *teacher.module.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
