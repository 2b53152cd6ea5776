"""ATC: its loss by hand, which picture is the positive, how many are changed."""

from __future__ import annotations

import math

import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square

from rlkit.perception.ssl.objective import PictureBatch

RECORDING = wandering_square()


def test_the_loss_tells_the_picture_k_steps_later_by_a_residual_prediction() -> None:
    learner = small_learner("atc", RECORDING, steps=2, view_probability=0.0, momentum=0.5)
    clips, objective = sampler_of(learner, RECORDING), learner.objective
    assert objective.clip_length == 3
    for _ in range(3):
        learner.learn(next(clips))
    batch = PictureBatch.of(next(clips), learner.device)
    parts = dict(objective.named_parameters())
    with torch.no_grad():
        c = objective.encoder(batch.first).double()
        later = objective.get_submodule("target")(batch.pictures[:, 2]).double()
        w_1, b_1, w_2, b_2 = (parts[f"predictor.{n}"].double() for n in ("0.weight", "0.bias", "2.weight", "2.bias"))
        p = c + torch.relu(c @ w_1.T + b_1) @ w_2.T + b_2
        logits = torch.einsum("bd,de,ne->bn", p, parts["product.weight"].double(), later)
    right = (logits.logsumexp(1) - logits.diagonal()).mean()
    assert objective.loss(batch)[0].item() == pytest.approx(right.item(), abs=1e-4)


def test_slow_features_that_are_all_alike_cost_the_uninformed_loss() -> None:
    learner = small_learner("atc", RECORDING)
    with torch.no_grad():
        for parameter in learner.objective.get_submodule("target").parameters():
            parameter.zero_()
    loss, _ = learner.objective.loss(PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device))
    assert learner.objective.uninformed_loss == math.log(16)
    assert loss.item() == pytest.approx(math.log(16), abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_so_many_pictures_are_changed(share: float) -> None:
    objective = small_learner("atc", RECORDING, view_probability=share).objective
    pictures = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(400, 1, 16, 16).contiguous()
    changed = (objective._changed(pictures) != pictures).flatten(1).any(1).float().mean().item()
    deviation = math.sqrt(share * (1 - share) / 400)
    # one of 81 shifts moves nothing
    assert changed == pytest.approx(share * 80 / 81, abs=4 * deviation + 0.03 * share)
