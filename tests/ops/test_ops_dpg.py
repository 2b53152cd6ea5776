import pytest
import torch

from rlkit.ops import dpg


def test_critic_loss_is_the_mean_squared_error():
    loss = dpg.critic_loss(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(loss, torch.tensor(2.5))


def test_policy_loss_is_minus_the_mean_value():
    torch.testing.assert_close(dpg.deterministic_policy_loss(torch.tensor([1.0, 4.0])), torch.tensor(-2.5))


def test_gradients_are_those_of_autograd():
    q = torch.tensor([1.0, 4.0, -2.0], requires_grad=True)
    target = torch.tensor([3.0, 3.0, 0.5])
    (right,) = torch.autograd.grad(dpg.critic_loss(q, target), q)
    torch.testing.assert_close(dpg.critic_loss_gradient(q.detach(), target), right)
    (right,) = torch.autograd.grad(dpg.deterministic_policy_loss(q), q)
    torch.testing.assert_close(dpg.deterministic_policy_loss_gradient(q.detach()), right)


def test_smoothed_actions_take_clipped_noise_and_stay_within_bounds():
    action, noise = torch.tensor([[0.0, 0.0, 0.9]]), torch.tensor([[1.0, -9.0, 9.0]])
    found = dpg.smoothed_action(action, noise, 0.2, 0.5)
    torch.testing.assert_close(found, torch.tensor([[0.2, -0.5, 1.0]]))
    assert action.tolist() == [[0.0, 0.0, pytest.approx(0.9)]]
    assert noise.tolist() == [[1.0, -9.0, 9.0]]


def test_the_clipped_value_is_the_least_of_the_critics():
    assert dpg.clipped_value(torch.tensor([[1.0, 4.0], [3.0, 2.0]])).tolist() == [1.0, 2.0]


def test_the_critics_loss_adds_the_mean_squared_errors_and_its_gradient_is_autograds():
    q = torch.tensor([[1.0, 4.0], [3.0, 3.0]], requires_grad=True)
    target = torch.tensor([3.0, 3.0])
    loss = dpg.critics_loss(q, target)
    torch.testing.assert_close(loss, torch.tensor(2.5))
    (right,) = torch.autograd.grad(loss, q)
    torch.testing.assert_close(dpg.critics_loss_gradient(q.detach(), target), right)
