"""CPC: its loss by loops, its candidates, what clips it wants."""

from __future__ import annotations

import math

import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square

from rlkit.perception.ssl.cpc import CPCConfig
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.objective import PictureBatch

RECORDING = wandering_square()
BOTH = pytest.mark.parametrize("across_time", [False, True])


def learner_of(across_time: bool) -> EncoderLearner:
    return small_learner("cpc", RECORDING, sequence_length=4, steps=2, across_time=across_time, batch_size=3)


@BOTH
def test_the_loss_is_the_mean_of_each_steps_cross_entropy_given_the_memory_so_far(across_time: bool) -> None:
    learner = learner_of(across_time)
    objective, batch = learner.objective, PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)
    assert batch.pictures.shape[:2] == (3, 4)
    cell = torch.nn.GRUCell(16, 256)
    cell.load_state_dict(
        {name: objective.get_parameter(f"context.cell.{name}_l0") for name in cell.state_dict()}
    )  # fmt: skip
    w = objective.get_parameter("ahead.weight").view(2, 16, 256)
    of_steps = []
    with torch.no_grad():
        z = torch.stack([objective.encoder(batch.pictures[:, t]) for t in range(4)], 1)
        c, contexts = torch.zeros(3, 256), []
        for t in range(4):
            c = cell(z[:, t], c)
            contexts.append(c)
        for k in (1, 2):
            losses = []
            for b in range(3):
                for t in range(4 - k):
                    prediction = w[k - 1] @ contexts[t][b]
                    candidates = z.flatten(0, 1) if across_time else z[:, t + k]
                    logits = candidates @ prediction
                    losses.append((logits.logsumexp(0) - z[b, t + k] @ prediction).item())
            of_steps.append(sum(losses) / len(losses))
    assert objective.loss(batch)[0].item() == pytest.approx(sum(of_steps) / 2, abs=1e-5)


@BOTH
def test_features_that_are_all_alike_cost_the_uninformed_loss(across_time: bool) -> None:
    learner = learner_of(across_time)
    with torch.no_grad():
        for parameter in learner.objective.encoder.parameters():
            parameter.fill_(0.01)
        learner.objective.encoder.get_parameter("summary.1.weight").zero_()
    loss, _ = learner.objective.loss(PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device))
    assert learner.objective.uninformed_loss == math.log(12 if across_time else 3)
    assert loss.item() == pytest.approx(learner.objective.uninformed_loss, abs=1e-5)


def test_more_steps_ahead_than_a_clip_has_are_refused() -> None:
    with pytest.raises(ValueError, match="it can be 1 to 7"):
        CPCConfig(steps=8, sequence_length=8)
    assert CPCConfig(steps=7, sequence_length=8).steps == 7
