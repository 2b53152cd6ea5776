"""Deep InfoMax: its terms by hand, who learns from the prior's, what it is for features that are all alike."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square
from torch import Tensor, nn

from rlkit.ops import mutual_information as ops
from rlkit.perception.ssl.deep_infomax import LOSSES, DeepInfoMaxConfig
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.objective import Objective, PictureBatch

RECORDING = wandering_square()
ESTIMATORS = pytest.mark.parametrize("estimator", ["jsd", "dv", "nce"])


def learner_of(**options: Any) -> tuple[EncoderLearner, PictureBatch]:
    learner = small_learner("dim", RECORDING, **{"batch_size": 5, "score_width": 8, **options})
    return learner, PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)


def side(objective: Objective, name: str, x: Tensor) -> Tensor:
    """What one of the networks of scores makes of rows."""
    p = {key.removeprefix(f"{name}."): value for key, value in objective.named_parameters() if key.startswith(name)}
    hidden = torch.relu(x @ p["hidden.0.weight"].T + p["hidden.0.bias"])
    return hidden @ p["hidden.2.weight"].T + p["hidden.2.bias"] + x @ p["beside.weight"].T


def normalised(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()


@ESTIMATORS
def test_scores_are_products_of_features_with_each_place_and_with_all_of_them_at_once(estimator: Any) -> None:
    learner, batch = learner_of(estimator=estimator, global_weight=0.5, local_weight=2.0, prior_weight=0.0)
    objective, estimate = learner.objective, LOSSES[estimator]
    with torch.no_grad():
        features, maps = objective.encoder(batch.first), objective.encoder.maps(batch.first)
        whole = (
            side(objective, "of_whole.whole", features)
            @ normalised(side(objective, "of_whole.part", maps.flatten(1))).T
        )
        of_places = []
        for row in range(2):
            for column in range(2):
                part = normalised(side(objective, "of_places.part", maps[:, :, row, column]))
                of_places.append(side(objective, "of_places.whole", features) @ part.T)
        right = 0.5 * estimate(whole[:, :, None]) + 2.0 * estimate(torch.stack(of_places, 2))
    loss, metrics = objective.loss(batch)
    assert loss.item() == pytest.approx(right.item(), abs=1e-4)
    assert metrics["train/global_loss"] == pytest.approx(estimate(whole[:, :, None]).item(), abs=1e-4)


def test_the_discriminator_judges_and_the_encoder_deceives() -> None:
    learner, batch = learner_of(prior_weight=1.0)
    objective = learner.objective
    draws = objective.generator.get_state()
    _, metrics = objective.loss(batch)
    judge = objective.get_submodule("judge")
    prior = torch.rand(5, 16, generator=objective.generator.set_state(draws))
    with torch.no_grad():
        encoded = judge(torch.sigmoid(objective.encoder(batch.first)))
        judged = ops.prior_discriminator_loss(judge(prior), encoded).item()
    assert metrics["train/discriminator_loss"] == pytest.approx(judged, abs=1e-6)
    assert metrics["train/prior_loss"] == pytest.approx(-torch.sigmoid(encoded).log().mean().item(), abs=1e-6)


def test_no_gradient_of_the_discriminator_reaches_the_encoder_nor_the_other_way_round() -> None:
    judge, encoded = nn.Linear(16, 1), torch.rand(5, 16).requires_grad_()
    learner, _ = learner_of()
    judged, deceived = learner.objective._prior_losses(judge, encoded)
    of_judge = torch.autograd.grad(judged, [encoded, judge.weight], allow_unused=True)
    of_encoder = torch.autograd.grad(deceived, [encoded, judge.weight], allow_unused=True)
    assert of_judge[0] is None
    assert of_judge[1] is not None
    assert of_encoder[0] is not None
    assert of_encoder[1] is None
    # up the discriminator's logit, towards what it takes for the prior
    torch.testing.assert_close(of_encoder[0].sign(), -judge.weight.sign().expand(5, 16))


@ESTIMATORS
def test_features_that_are_all_alike_cost_the_uninformed_loss(estimator: Any) -> None:
    learner, batch = learner_of(estimator=estimator, global_weight=0.5, prior_weight=0.0)
    with torch.no_grad():
        for name, parameter in learner.objective.named_parameters():
            if name.startswith("encoder") or estimator == "jsd":  # its best score of nothing is zero
                parameter.zero_()
    right = 0.5 * math.log(5) + math.log(1 + 4 * 4) if estimator == "nce" else 0.0
    assert learner.objective.uninformed_loss == pytest.approx(right)
    assert learner.objective.loss(batch)[0].item() == pytest.approx(right, abs=1e-5)


def test_with_a_prior_no_uninformed_loss_is_known() -> None:
    assert learner_of()[0].objective.uninformed_loss is None


def test_only_networks_of_weighted_terms_are_made() -> None:
    learner, _ = learner_of(global_weight=1.0, local_weight=0.0, prior_weight=0.0)
    assert {name.split(".")[0] for name, _ in learner.objective.named_parameters()} == {"encoder", "of_whole"}
    with pytest.raises(ValueError, match="raise one"):
        DeepInfoMaxConfig(local_weight=0.0)
