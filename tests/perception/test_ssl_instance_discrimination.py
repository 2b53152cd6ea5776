"""InstDisc: its losses by hand, what the bank holds after updates, and Z, which is estimated once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square
from torch import Tensor
from torch.nn.functional import normalize

from rlkit.perception.ssl.memory_bank import MemoryBank, own_and_noise
from rlkit.perception.ssl.objective import Objective, PictureBatch

RECORDING = wandering_square(episodes=3)


def features_of(objective: Objective, batch: PictureBatch) -> Tensor:
    """Features of length one of the pictures as they are; batch norms use their running statistics."""
    objective.eval()
    with torch.no_grad():
        return normalize(objective.get_submodule("head")(objective.encoder(batch.first)).double(), dim=1)


def test_the_full_softmax_is_the_cross_entropy_of_all_rows_of_the_bank() -> None:
    learner = small_learner("instdisc", RECORDING, views="none", temperature=0.3)
    objective = learner.objective
    batch = PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)
    logits = features_of(objective, batch) @ objective.get_buffer("bank.rows").double().T / 0.3
    assert logits.shape == (16, 60)
    right = (logits.logsumexp(1) - logits[torch.arange(16), batch.index]).mean()
    assert objective.loss(batch)[0].item() == pytest.approx(right.item(), abs=1e-5)


def test_nce_is_the_papers_sum_over_posteriors() -> None:
    learner = small_learner("instdisc", RECORDING, views="none", softmax="nce", temperature=0.5, noise=7)
    objective = learner.objective
    batch = PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)
    f, rows = features_of(objective, batch), objective.get_buffer("bank.rows").double()
    index = own_and_noise(batch.index, 60, 7, objective.generator.clone_state())
    assert torch.equal(index[:, 0], batch.index)
    scores = torch.einsum("bd,bkd->bk", f, rows[index]).div(0.5).exp()
    z = 60 * scores[:, 1:].mean()  # equation 8
    h = scores / z / (scores / z + 7 / 60)  # equation 6
    right = -(h[:, 0].log() + (1 - h[:, 1:]).log().sum(dim=1)).mean()  # equation 7
    assert objective.loss(batch)[0].item() == pytest.approx(right.item(), abs=1e-4)


@pytest.mark.parametrize("softmax", ["full", "nce"])
def test_the_bank_takes_in_half_of_what_its_pictures_have_shown(softmax: str) -> None:
    learner = small_learner("instdisc", RECORDING, views="none", softmax=softmax, noise=7)
    objective, clips = learner.objective, sampler_of(learner, RECORDING)
    rows = objective.get_buffer("bank.rows").double().clone()
    for _ in range(2):
        batch = PictureBatch.of(next(clips), learner.device)
        f = features_of(objective, batch)
        objective.loss(batch)
        for own, feature in zip(batch.index.tolist(), f, strict=True):
            mixed = 0.5 * rows[own] + 0.5 * feature
            rows[own] = mixed / mixed.norm()
        objective.after_update(0.1)
        torch.testing.assert_close(objective.get_buffer("bank.rows").double(), rows, rtol=0, atol=1e-5)
    assert not objective.get_buffer("bank.rows").requires_grad


def test_z_is_that_of_the_first_batch_for_good() -> None:
    bank = MemoryBank(20, 4, torch.Generator().manual_seed(0))
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    index = own_and_noise(torch.arange(5), 20, 6, torch.Generator().manual_seed(2))
    assert math.isinf(bank.log_z)
    logits, log_z = bank.logits(features, index, 0.5)
    first = math.log(20 * np.exp(logits[:, 1:].double().numpy()).mean())
    assert log_z.item() == pytest.approx(first, abs=1e-5)
    assert math.isinf(bank.log_z)  # a loss alone keeps nothing
    bank.update(torch.arange(5), features, 0.5)
    for _ in range(2):
        _, log_z = bank.logits(-3 * features, index, 0.1)
        assert log_z.item() == pytest.approx(first, abs=1e-5)
        bank.update(torch.arange(5), features, 0.5)
    assert bank.state_dict()["log_z"].item() == pytest.approx(first, abs=1e-5)


@pytest.mark.parametrize(
    ("softmax", "right"), [("full", math.log(60)), ("nce", math.log(8) + 7 * math.log(8 / 7))]
)  # fmt: skip
def test_features_that_are_all_alike_cost_the_uninformed_loss(softmax: str, right: float) -> None:
    learner = small_learner("instdisc", RECORDING, softmax=softmax, noise=7)
    with torch.no_grad():
        for parameter in learner.objective.encoder.parameters():
            parameter.zero_()
    loss, _ = learner.objective.loss(PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device))
    assert learner.objective.uninformed_loss == pytest.approx(right, abs=1e-12)
    assert loss.item() == pytest.approx(right, abs=1e-5)


def test_nce_learns_with_a_soft_temperature() -> None:
    learner = small_learner("instdisc", RECORDING, softmax="nce", temperature=0.5, noise=32, learning_rate=1e-3)
    clips = sampler_of(learner, RECORDING)
    losses = [learner.learn(next(clips))["train/loss"] for _ in range(30)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
