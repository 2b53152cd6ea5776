"""CURL: its loss by hand, and what it is for features that are all alike."""

from __future__ import annotations

import math

import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square

from rlkit.perception.ssl.objective import PictureBatch

RECORDING = wandering_square()


def test_the_loss_is_the_cross_entropy_of_bilinear_products_of_normalised_features() -> None:
    learner = small_learner("curl", RECORDING, views="none", momentum=0.5, learning_rate=1e-2)
    clips, objective = sampler_of(learner, RECORDING), learner.objective
    learner.learn(next(clips))  # now queries and keys come of different weights
    batch = PictureBatch.of(next(clips), learner.device)
    with torch.no_grad():
        q, k = (net(batch.first).double() for net in (objective.encoder, objective.get_submodule("target")))
    q, k = ((x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt() for x in (q, k))
    w = objective.get_parameter("product.weight").detach().double()
    logits = torch.einsum("bd,de,ne->bn", q, w, k)
    right = (logits.logsumexp(1) - logits.diagonal()).mean()
    assert objective.loss(batch)[0].item() == pytest.approx(right.item(), abs=1e-4)
    assert not torch.allclose(q, k, atol=1e-3)


def test_features_that_are_all_alike_cost_the_uninformed_loss() -> None:
    learner = small_learner("curl", RECORDING)
    with torch.no_grad():
        for parameter in learner.objective.get_submodule("target").parameters():
            parameter.zero_()
    loss, _ = learner.objective.loss(PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device))
    assert learner.objective.uninformed_loss == math.log(16)
    assert loss.item() == pytest.approx(math.log(16), abs=1e-5)
