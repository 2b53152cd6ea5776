"""ST-DIM: its loss by loops over places, and what it is for features that are all alike."""

from __future__ import annotations

import math

import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square

from rlkit.perception.ssl.objective import PictureBatch

RECORDING = wandering_square()


def cross_entropy(logits: torch.Tensor) -> float:
    """Of the diagonal of [B, B]."""
    return (logits.logsumexp(1) - logits.diagonal()).mean().item()


def test_the_loss_compares_each_place_with_the_same_place_of_the_next_pictures() -> None:
    learner = small_learner("st-dim", RECORDING, batch_size=5)
    objective, batch = learner.objective, PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)
    assert objective.clip_length == 2
    w_g, w_l = (objective.get_parameter(f"{name}.weight").detach().double() for name in ("of_whole", "of_place"))
    with torch.no_grad():
        whole = objective.encoder(batch.first).double()
        now, later = (objective.encoder.maps(batch.pictures[:, t]).double() for t in (0, 1))
    of_whole, of_places = [], []
    for row in range(2):
        for column in range(2):
            here, then = now[:, :, row, column], later[:, :, row, column]
            of_whole.append(cross_entropy(torch.einsum("bd,ed,ne->bn", whole, w_g, then)))
            of_places.append(cross_entropy(torch.einsum("bd,ed,ne->bn", here, w_l, then)))
    loss, metrics = objective.loss(batch)
    assert metrics["train/global_local_loss"] == pytest.approx(sum(of_whole) / 4, abs=1e-5)
    assert metrics["train/local_local_loss"] == pytest.approx(sum(of_places) / 4, abs=1e-5)
    assert loss.item() == pytest.approx((sum(of_whole) + sum(of_places)) / 4, abs=1e-5)


def test_places_that_are_all_alike_cost_the_uninformed_loss() -> None:
    learner = small_learner("st-dim", RECORDING)
    with torch.no_grad():
        for parameter in learner.objective.encoder.parameters():
            parameter.zero_()
    loss, _ = learner.objective.loss(PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device))
    assert learner.objective.uninformed_loss == 2 * math.log(16)
    assert loss.item() == pytest.approx(2 * math.log(16), abs=1e-5)
