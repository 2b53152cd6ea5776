"""Two processes over loopback give the numbers of one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from two_ranks import results_of_two_ranks

from rlkit.nn.ranks import gathered, mean_over_ranks, rank_and_ranks
from rlkit.nn.synced_batch_norm import sync_norms_

ROWS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))


def contrast(z: Tensor, all_z: Tensor, first: int) -> Tensor:
    """A loss of each row against the rows of all ranks."""
    return nn.functional.cross_entropy(z @ all_z.T, torch.arange(first, first + len(z)))


def one_step() -> tuple[list[Tensor], Tensor]:
    """Gradients and running mean after one pass over this rank's part of the rows."""
    net = network()
    sync_norms_(net)
    rank, ranks = rank_and_ranks()
    rows = ROWS[rank * 8 // ranks : (rank + 1) * 8 // ranks]
    z = net(rows)
    contrast(z, gathered(z), rank * len(rows)).backward()
    buffers = dict(net.named_buffers())
    return [mean_over_ranks(parameter.grad) for parameter in net.parameters()], torch.cat(
        [buffers["1.running_mean"], buffers["1.running_var"]]
    )


def measured() -> tuple[list[Any], list[float], float]:
    """As lists, which a queue carries whole."""
    gradients, statistics = one_step()
    mean = mean_over_ranks(torch.tensor([float(rank_and_ranks()[0])]))
    return [gradient.tolist() for gradient in gradients], statistics.tolist(), mean.item()


def test_two_ranks_give_the_gradients_and_statistics_of_one_process() -> None:
    alone, statistics = one_step()
    for gradients, of_rank, mean in results_of_two_ranks(measured):
        assert mean == 0.5
        torch.testing.assert_close(torch.tensor(of_rank), statistics)
        for found, right in zip(gradients, alone, strict=True):
            torch.testing.assert_close(torch.tensor(found), right)


def test_a_synced_norm_of_one_rank_is_torchs() -> None:
    ours, torchs = network(), network()
    sync_norms_(ours)
    for _ in range(3):
        torch.testing.assert_close(ours(ROWS), torchs(ROWS))
    torch.testing.assert_close(ours.state_dict(), torchs.state_dict())
    torch.testing.assert_close(ours.eval()(ROWS), torchs.eval()(ROWS))
