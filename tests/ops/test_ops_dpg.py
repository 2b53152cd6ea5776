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
