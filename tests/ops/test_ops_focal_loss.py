"""Focal loss: by hand, the cross-entropy that it is without its factor, and large logits."""

from __future__ import annotations

import math

import pytest
import torch

from rlkit.ops.focal_loss import focal_loss


@pytest.mark.parametrize(("logit", "label"), [(0.7, 1.0), (0.7, 0.0), (-2.0, 1.0), (-2.0, 0.0)])
def test_it_is_equation_5(logit: float, label: float) -> None:
    p = 1 / (1 + math.exp(-logit))
    p_t, alpha_t = (p, 0.25) if label else (1 - p, 0.75)
    found = focal_loss(torch.tensor([logit], dtype=torch.float64), torch.tensor([label]))
    assert found.item() == pytest.approx(-alpha_t * (1 - p_t) ** 2 * math.log(p_t), rel=1e-12)


def test_without_its_factor_it_is_half_the_cross_entropy() -> None:
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64)
    labels = (torch.arange(9) % 2).double()
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none") / 2
    torch.testing.assert_close(focal_loss(logits, labels, alpha=0.5, gamma=0.0), wanted)


def test_large_logits_have_finite_losses_and_gradients() -> None:
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([1, 1, 0, 0]))
    torch.testing.assert_close(loss, torch.tensor([0.0, 50.0, 150.0, 0.0]))
    loss.sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([0.0, -0.25, 0.75, 0.0]))
