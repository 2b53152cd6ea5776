"""Two processes that share a batch learn what one learns of the whole, with a teacher, prototypes, masks or none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ssl_samples import small_learner, wandering_square
from two_ranks import results_of_two_ranks

from rlkit.data.clips import ClipSampler
from rlkit.nn.ranks import rank_and_ranks

METHODS: dict[str, dict[str, Any]] = {
    "byol": {"head_width": 8},
    "simsiam": {"head_width": 8},
    "swav": {"head_width": 8, "prototypes": 6, "queue": 6, "queue_start": 0.0},
    "dino": {"head_width": 8, "outputs": 6, "warmup_fraction": 0.0},
    "mae": {"decoder_width": 8, "decoder_layers": 1, "warmup_fraction": 0.0},
    "bert": {"width": 16, "warmup_fraction": 0.0},
}


def learned(method: str) -> list[float]:
    """The losses of three updates and what has been learned, of this rank's part of each batch."""
    recording = wandering_square(episodes=2)
    options = {"feature_size": 4, "batch_size": 4, "optimizer": "sgd", "learning_rate": 0.002, **METHODS[method]}
    learner = small_learner(method, recording, **options)
    rank, ranks = rank_and_ranks()
    clips = ClipSampler(recording, learner.objective.clip_length, 4, 0, rank=rank, ranks=ranks)
    losses = [learner.learn(next(clips))["train/loss"] for _ in range(3)]
    buffers = [value.flatten().double() for value in learner.objective.buffers()]
    return [*losses, *learner.flat.tolist(), *torch.cat([torch.zeros(1), *buffers]).tolist()]


def all_learned() -> dict[str, list[float]]:
    return {method: learned(method) for method in METHODS}


@pytest.fixture(scope="module")
def both() -> list[dict[str, list[float]]]:
    return results_of_two_ranks(all_learned)


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_learn_what_one_learns_of_the_whole_batch(method: str, both: list[dict[str, list[float]]]) -> None:
    alone = torch.tensor(learned(method))
    for of_rank in both:
        torch.testing.assert_close(torch.tensor(of_rank[method]), alone, rtol=1e-3, atol=1e-4)
