"""RMSProp against torch's."""

from __future__ import annotations

import pytest
import torch

from rlkit.errors import CheckpointError
from rlkit.nn.rmsprop import RMSProp


def test_steps_equal_those_of_torch_also_after_a_restore() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(50, generator=generator)
    theirs = ours.clone().requires_grad_()
    optimizer, reference = RMSProp(ours, 1e-2), torch.optim.RMSprop([theirs], 1e-2, alpha=0.99, eps=1e-5)
    for step in range(20):
        gradient = torch.randn(50, generator=generator)
        if step == 10:
            restored = RMSProp(ours, 1e-2)
            restored.load_state(optimizer.state())
            optimizer = restored
        optimizer.step(gradient)
        theirs.grad = gradient
        reference.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-6)


def test_a_state_of_another_size_is_refused() -> None:
    optimizer = RMSProp(torch.zeros(3), 0.1)
    with pytest.raises(CheckpointError, match=r"\(4,\)"):
        optimizer.load_state(RMSProp(torch.zeros(4), 0.1).state())
