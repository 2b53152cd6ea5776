"""Two processes joined over loopback, for what ranks compute together."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist


def results_of_two_ranks(measure: Callable[[], Any]) -> list[Any]:
    """What `measure`, a function of a module, returns in each of two ranks."""
    context = multiprocessing.get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = context.Queue()
    processes = [context.Process(target=_in_rank, args=(rank, port, queue, measure)) for rank in range(2)]
    for process in processes:
        process.start()
    found = sorted((queue.get(timeout=150) for _ in processes), key=lambda of_rank: of_rank[0])
    for process in processes:
        process.join(timeout=30)
    return [result for _, result in found]


def _in_rank(rank: int, port: int, queue: Any, measure: Callable[[], Any]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    queue.put((rank, measure()))
    dist.barrier()
    dist.destroy_process_group()
