"""Batch renormalisation: batches are normalised, statistics follow, and after the warm-up they correct."""

from __future__ import annotations

import numpy as np
import torch

from rlkit.nn.renorm_mlp import EPSILON, RenormMLP


def network(hidden: tuple[int, ...] = (8,), **options: object) -> RenormMLP:
    given = {"momentum": 0.1, "warm_up": 1000, **options}
    return RenormMLP(4, hidden, 2, generator=torch.Generator().manual_seed(0), **given)


def batch(scale: float = 3.0, shift: float = 5.0, rows: int = 64) -> torch.Tensor:
    return shift + scale * torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))


def test_while_training_the_scale_and_shift_of_inputs_do_not_matter() -> None:
    net = network()
    one, other = net(batch(), trains=True), net(batch(300.0, -700.0), trains=True)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_running_statistics_follow_the_batches_while_training_only() -> None:
    net, x = network(), batch()
    net(x, trains=False)
    assert (net.statistics[0] == 0).all()
    assert net.batches == 0
    net(x, trains=True)
    torch.testing.assert_close(net.statistics[0, :4], 0.1 * x.mean(dim=0))
    torch.testing.assert_close(net.statistics[1, :4], 0.9 + 0.1 * x.var(dim=0))
    assert net.batches == 1


def test_after_the_warm_up_the_running_statistics_normalise_within_their_limits() -> None:
    """Where the correction is not cut, training gives what acting gives: (x - running mean) / running deviation."""
    net = network(warm_up=-1)
    net.statistics[0], net.statistics[1] = 0.5, 2.0
    running = net.statistics.clone()
    x = batch(1.0, 0.0)
    trained = net(x, trains=True)
    net.statistics.copy_(running)
    first_layer = (x - 0.5) / (2.0 + EPSILON) ** 0.5
    hidden = torch.relu(net.layers[0](first_layer))
    mean, deviation = hidden.mean(dim=0), (hidden.var(dim=0) + EPSILON).sqrt()
    scale = (deviation / (2.0 + EPSILON) ** 0.5).clamp(1 / 3, 3)
    shift = ((mean - 0.5) / (2.0 + EPSILON) ** 0.5).clamp(-5, 5)
    torch.testing.assert_close(trained, net.layers[1]((hidden - mean) / deviation * scale + shift))


def test_a_correction_beyond_the_limits_is_cut() -> None:
    """The batch is 70 running deviations away from the running mean and spreads over 21 of them: 5 and 3 remain."""
    net = network(hidden=(), warm_up=-1)
    net.statistics[0], net.statistics[1] = 0.5, 2.0
    x = batch(30.0, 100.0)
    normalised = (x - x.mean(dim=0)) / (x.var(dim=0) + EPSILON).sqrt()
    torch.testing.assert_close(net(x, trains=True), net.layers[0](3.0 * normalised + 5.0))
    net.statistics[0], net.statistics[1] = 0.5, 2.0
    x = batch(0.1, -100.0)
    normalised = (x - x.mean(dim=0)) / (x.var(dim=0) + EPSILON).sqrt()
    torch.testing.assert_close(net(x, trains=True), net.layers[0](normalised / 3.0 - 5.0), rtol=1e-4, atol=1e-4)


def test_numpy_gives_the_numbers_of_torch() -> None:
    net = network()
    net(batch(), trains=True)
    x = batch(rows=5)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(net.numpy_forward(x.numpy())), net(x, trains=False))
    assert net.numpy_forward(np.zeros((1, 4), np.float32)).dtype == np.float32
