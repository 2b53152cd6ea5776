"""SimSiam: each view against the projection of the other, and a prediction head with a step size of its own."""

from __future__ import annotations

import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.objective import PictureBatch
from rlkit.perception.ssl.simsiam import SimSiam

RECORDING = wandering_square(episodes=2)


def simsiam(**options: object) -> tuple[EncoderLearner, SimSiam, PictureBatch]:
    learner = small_learner("simsiam", RECORDING, **{"head_width": 32, "bottleneck": 8, **options})
    assert isinstance(learner.objective, SimSiam)
    return learner, learner.objective, PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)


def test_loss_and_gradient_are_those_of_the_other_view_as_a_constant() -> None:
    learner, objective, batch = simsiam()
    draws = objective.generator.get_state()
    loss, _ = objective.loss(batch)
    one, other = objective.views.of(batch.first, torch.Generator().set_state(draws))
    z = [objective.projection(objective.encoder(view)) for view in (one, other)]
    p = [objective.prediction(of_view) for of_view in z]
    wanted = -(cosine_similarity(p[0], z[1].detach()) + cosine_similarity(p[1], z[0].detach())).mean() / 2
    torch.testing.assert_close(loss, wanted)
    for found, right in zip(
        torch.autograd.grad(loss, learner.learned), torch.autograd.grad(wanted, learner.learned), strict=True
    ):
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-6)


def test_the_projection_ends_in_a_norm_without_scale_and_the_prediction_is_narrow_in_the_middle() -> None:
    _, objective, _ = simsiam()
    last = objective.projection[-1]
    assert isinstance(last, nn.BatchNorm1d)
    assert last.weight is None
    linear = [layer for layer in objective.prediction if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(32, 8), (8, 32)]


def vector(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lars"])
def test_the_prediction_alone_still_learns_when_the_schedule_has_ended(optimizer: str) -> None:
    learner, objective, _ = simsiam(optimizer=optimizer, learning_rate_schedule="cosine", learning_rate=0.01)
    learner.updates = learner.task.updates
    before = {part: vector(getattr(objective, part)) for part in ("encoder", "projection", "prediction")}
    metrics = learner.learn(next(sampler_of(learner, RECORDING)))
    assert metrics["train/learning_rate"] == 0.0
    assert torch.equal(vector(objective.encoder), before["encoder"])
    assert torch.equal(vector(objective.projection), before["projection"])
    assert not torch.equal(vector(objective.prediction), before["prediction"])


def test_the_prediction_takes_whole_steps_while_others_warm_up() -> None:
    learner, objective, _ = simsiam(optimizer="sgd", warmup_fraction=0.5, learning_rate=0.1)
    before = vector(objective.prediction)
    clips = next(sampler_of(learner, RECORDING))
    draws = objective.generator.get_state()
    loss, _ = objective.train().loss(PictureBatch.of(clips, learner.device))
    gradient = torch.cat(
        [part.flatten() for part in torch.autograd.grad(loss, list(objective.prediction.parameters()))]
    )
    objective.generator.set_state(draws)
    learner.learn(clips)
    torch.testing.assert_close(vector(objective.prediction), before - 0.1 * gradient)
