import pytest
import torch

from rlkit.errors import CheckpointError, UsageError
from rlkit.nn import optim
from rlkit.nn.optim import Adam, Momentum


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("largest", [0, 1000])
def test_steps_equal_those_of_torch(monkeypatch, weight_decay, largest):
    monkeypatch.setattr(optim, "LARGEST", largest)  # of compiled code, else torch's kernel
    start = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    mine, theirs = start.clone(), torch.nn.Parameter(start.clone())
    adam = Adam(mine, 1e-2, weight_decay=weight_decay)
    right = torch.optim.Adam([theirs], lr=1e-2, weight_decay=weight_decay)
    for step in range(20):
        gradient = torch.randn(1000, generator=torch.Generator().manual_seed(step))
        adam.step(gradient)
        theirs.grad = gradient
        right.step()
    torch.testing.assert_close(mine, theirs.detach(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("size", "times"), [(10, 1), (11, 0)])
def test_compiled_code_takes_vectors_up_to_a_size(monkeypatch, size, times):
    taken = []
    monkeypatch.setattr(optim, "LARGEST", 10)
    monkeypatch.setattr(optim, "adam_step", lambda *arguments: taken.append(arguments))
    Adam(torch.zeros(size), 1e-2).step(torch.ones(size))
    assert len(taken) == times


@pytest.mark.parametrize("gradient", [torch.ones(1, 10), torch.ones(9), torch.ones(10, dtype=torch.float64)])
def test_a_gradient_unlike_the_parameter_is_refused(gradient):
    adam = Adam(torch.zeros(10), 1e-2)
    with pytest.raises(UsageError, match=r"the parameter \(10,\) torch.float32: they must be alike"):
        adam.step(gradient)
    assert adam.steps == 0


@pytest.mark.parametrize("gradient", [torch.ones(20)[::2], torch.ones(1).expand(10), torch.ones(10).requires_grad_()])
def test_a_gradient_may_lie_in_memory_as_it_likes(gradient):
    moved, plainly = torch.zeros(10), torch.zeros(10)
    Adam(moved, torch.tensor(1e-2)).step(gradient)
    Adam(plainly, 1e-2).step(torch.ones(10))
    torch.testing.assert_close(moved, plainly)


def test_momentum_moves_as_torchs_does_and_goes_on_from_its_state():
    start = torch.randn(10, generator=torch.Generator().manual_seed(0))
    mine, theirs = start.clone(), torch.nn.Parameter(start.clone())
    momentum, right = Momentum(mine, 0.1), torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    for step in range(5):
        gradient = torch.randn(10, generator=torch.Generator().manual_seed(step))
        state = momentum.state()
        momentum = Momentum(mine, 0.1)
        momentum.load_state(state)
        momentum.step(gradient)
        theirs.grad = gradient
        right.step()
    torch.testing.assert_close(mine, theirs.detach())
    with pytest.raises(CheckpointError, match=r"\(10,\)"):
        Momentum(torch.ones(4), 0.1).load_state(momentum.state())


def test_the_first_step_has_the_size_of_the_learning_rate():
    parameter = torch.zeros(2)
    Adam(parameter, 0.1).step(torch.tensor([5.0, -0.01]))
    torch.testing.assert_close(parameter, torch.tensor([-0.1, 0.1]), atol=1e-6, rtol=0)


def test_a_restored_optimiser_continues_with_the_same_bits():
    parameter, gradient = torch.ones(5), torch.arange(5.0)
    adam = Adam(parameter, 0.1)
    adam.step(gradient)
    state, saved = adam.state(), parameter.clone()
    adam.step(gradient)
    other = Adam(saved, 0.1)
    other.load_state(state)
    other.step(gradient)
    assert torch.equal(saved, parameter)


def test_state_of_another_network_is_refused():
    with pytest.raises(CheckpointError, match=r"\(5,\)"):
        Adam(torch.ones(4), 0.1).load_state(Adam(torch.ones(5), 0.1).state())
