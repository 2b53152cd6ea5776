"""Two processes over loopback learn as one does: the same losses, weights, teachers, banks and queues.

In double precision: where the features of new encoders are alike, batch norms make much of the last bits of floats.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ssl_samples import small_learner, wandering_square
from two_ranks import results_of_two_ranks

from rlkit.data.clips import ClipSampler
from rlkit.nn.ranks import mean_over_ranks, rank_and_ranks
from rlkit.perception.ssl.objective import PictureBatch

RECORDING = wandering_square(episodes=3)
METHODS = ("margin", "instdisc", "cmc", "moco-v1", "moco-v2", "moco-v3", "simclr")
"""Those of pairs and banks; test_ssl_temporal_ranks.py and test_ssl_views_ranks.py have the others."""
Found = dict[str, tuple[list[float], dict[str, npt.NDArray[Any]]]]


def learned() -> Found:
    """Losses of three updates along the gradient, and the state after them, by method."""
    found: Found = {}
    rank, ranks = rank_and_ranks()
    for method in METHODS:
        learner = small_learner(method, RECORDING)
        objective, losses = learner.objective.double().train(), []
        clips = ClipSampler(RECORDING, objective.clip_length, 16, 0, rank=rank, ranks=ranks)
        learned = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        for update in range(3):
            batch = PictureBatch.of(next(clips), learner.device)
            loss, _ = objective.loss(replace(batch, pictures=batch.pictures.double()))
            with torch.no_grad():
                gradients = torch.autograd.grad(loss, learned, allow_unused=True, materialize_grads=True)
                for parameter, gradient in zip(learned, gradients, strict=True):
                    parameter -= 1e-2 * mean_over_ranks(gradient)
            objective.after_update(update / 4)
            losses.append(mean_over_ranks(loss.detach()).item())
        found[method] = losses, {name: value.numpy() for name, value in objective.state_dict().items()}
    return found


@pytest.mark.slow
def test_two_ranks_learn_as_one_process_does() -> None:
    alone = learned()
    of_ranks = results_of_two_ranks(learned)
    for of_rank in of_ranks:
        for method, (losses, state) in alone.items():
            np.testing.assert_allclose(of_rank[method][0], losses, rtol=1e-9, err_msg=method)
            for name, value in state.items():
                found = of_rank[method][1][name]
                np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-9, err_msg=f"{method} {name}")
