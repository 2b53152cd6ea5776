"""Two processes that share a batch learn what one learns of the whole."""

from __future__ import annotations

import pytest
import torch
from ssl_samples import small_learner, wandering_square
from two_ranks import results_of_two_ranks

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


def all_learned() -> dict[str, list[float]]:
    return {method: learned(method) for method in METHODS}


@pytest.fixture(scope="module")
def both() -> list[dict[str, list[float]]]:
    return results_of_two_ranks(all_learned)


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_learn_what_one_learns_of_the_whole_batch(method: str, both: list[dict[str, list[float]]]) -> None:
    alone = torch.tensor(learned(method))
    for of_rank in both:
        torch.testing.assert_close(torch.tensor(of_rank[method]), alone, rtol=1e-4, atol=1e-5)
