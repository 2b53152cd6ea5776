"""Two processes over loopback give the numbers of one."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

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


def in_rank(rank: int, port: int, queue: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    gradients, statistics = one_step()
    mean = mean_over_ranks(torch.tensor([float(rank)]))
    queue.put((rank, [gradient.tolist() for gradient in gradients], statistics.tolist(), mean.item()))
    dist.barrier()
    dist.destroy_process_group()


def two_ranks(target: Callable[..., None]) -> list[Any]:
    context = multiprocessing.get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = context.Queue()
    processes = [context.Process(target=target, args=(rank, port, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found = sorted(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(timeout=30)
    return found


def test_two_ranks_give_the_gradients_and_statistics_of_one_process() -> None:
    alone, statistics = one_step()
    for _, gradients, of_rank, mean in two_ranks(in_rank):
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
