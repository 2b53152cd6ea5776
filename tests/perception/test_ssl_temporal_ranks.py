"""Two processes that share a batch learn what one learns of the whole."""

from __future__ import annotations

import multiprocessing
import socket
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ssl_samples import small_learner, wandering_square

from rlkit.data.clips import ClipSampler
from rlkit.nn.ranks import rank_and_ranks

METHODS = ["atc", "cpc", "curl", "dim", "spr", "st-dim"]


def learned(method: str) -> list[float]:
    """The loss and the parameters after one update, of this rank's part of the batch."""
    recording = wandering_square(episodes=2)
    learner = small_learner(method, recording, feature_size=4, batch_size=4, optimizer="sgd", learning_rate=0.1)
    rank, ranks = rank_and_ranks()
    clips = next(ClipSampler(recording, learner.objective.clip_length, 4, 0, rank=rank, ranks=ranks))
    metrics = learner.learn(clips)
    return [metrics["train/loss"], *learner.flat.tolist()]


def in_rank(rank: int, port: int, queue: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    queue.put((rank, {method: learned(method) for method in METHODS}))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both() -> list[dict[str, list[float]]]:
    context = multiprocessing.get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = context.Queue()
    processes = [context.Process(target=in_rank, args=(rank, port, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found = sorted(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(timeout=30)
    return [learned_there for _, learned_there in found]


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_learn_what_one_learns_of_the_whole_batch(method: str, both: list[dict[str, list[float]]]) -> None:
    alone = torch.tensor(learned(method))
    for of_rank in both:
        torch.testing.assert_close(torch.tensor(of_rank[method]), alone, rtol=1e-4, atol=1e-5)
