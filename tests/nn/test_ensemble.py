"""An ensemble is its members: same outputs, same gradients, one vector of parameters."""

from __future__ import annotations

import copy

import pytest
import torch

from rlkit.errors import UsageError
from rlkit.nn.ensemble import Ensemble
from rlkit.nn.mlp import MLP


def networks(count: int = 2, hidden: tuple[int, ...] = (96, 80), seed: int = 0) -> list[MLP]:
    generator = torch.Generator().manual_seed(seed)
    return [MLP(7, hidden, 3, generator=generator) for _ in range(count)]


def test_outputs_and_gradients_are_those_of_the_members() -> None:
    members = networks()
    alone = copy.deepcopy(members)
    ensemble = Ensemble(members)
    x = torch.randn(100, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    gradient = torch.randn(2, 100, 3, generator=torch.Generator().manual_seed(2))

    outputs = torch.stack([network(x) for network in alone])
    by_x, *by_weights = torch.autograd.grad(outputs, [x, *(network.flat for network in alone)], gradient)
    with torch.inference_mode():
        trace = ensemble.trace(x.detach())
        torch.testing.assert_close(trace.output, outputs.detach(), rtol=0, atol=1e-6)
        torch.testing.assert_close(ensemble(x.detach()), trace.output, rtol=0, atol=0)
        torch.testing.assert_close(trace.weight_gradient(gradient), torch.cat(by_weights), rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(trace.input_gradient(gradient), by_x, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(trace.input_gradient(gradient, 4), by_x[:, 4:], rtol=1e-5, atol=1e-5)


def test_a_change_of_the_vector_changes_every_member() -> None:
    ensemble = Ensemble(networks())
    ensemble.flat.zero_()
    assert all((member.flat == 0).all() for member in ensemble.members)
    assert (ensemble(torch.ones(1, 7)) == 0).all()


def test_members_differ_and_targets_follow() -> None:
    ensemble, target = Ensemble(networks()), Ensemble(networks(seed=9))
    outputs = ensemble(torch.ones(1, 7))
    assert (outputs[0] != outputs[1]).all()
    half = 0.5 * (ensemble.flat + target.flat)
    target.polyak_(ensemble, 0.5)
    torch.testing.assert_close(target.flat, half)
    target.copy_from(ensemble)
    assert torch.equal(target(torch.ones(1, 7)), outputs)


@pytest.mark.parametrize("option", ["output", "activation"])
def test_members_with_another_output_or_activation_are_refused(option: str) -> None:
    """Also where only the last one has it: gradients are those of ReLU and a linear output."""
    other = MLP(7, (8,), 3, generator=torch.Generator(), **{option: "tanh"})
    with pytest.raises(UsageError, match=f"{option} 'tanh'"):
        Ensemble([*networks(1, hidden=(8,)), other])


def test_members_of_different_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="alike"):
        Ensemble([*networks(1), *networks(1, hidden=(8,))])
