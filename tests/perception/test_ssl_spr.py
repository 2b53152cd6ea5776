"""SPR: its loss by hand over the steps, what actions are to it, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from ssl_samples import sampler_of, small_learner, task_of, wandering_square

from rlkit.errors import UsageError
from rlkit.ops.collapse import feature_spread
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.objective import PictureBatch
from rlkit.perception.ssl.spr import SPR, SPRConfig, TransitionModel

RECORDING = wandering_square()


def batch_of(learner: EncoderLearner) -> PictureBatch:
    return PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)


@pytest.mark.parametrize("heads", ["linear", "normalised"])
def test_the_loss_is_minus_the_cosines_of_all_steps_from_the_first_picture_alone(heads: str) -> None:
    learner = small_learner("spr", RECORDING, steps=3, views="none", momentum=0.5, learning_rate=1e-2, heads=heads)
    learner.learn(next(sampler_of(learner, RECORDING)))
    objective, batch = learner.objective.eval(), batch_of(learner)
    assert objective.clip_length == 4
    assert batch.actions is not None
    transition, right = objective.get_submodule("transition.layers"), 0.0
    with torch.no_grad():
        maps = objective.encoder.maps(batch.first)
        for k in range(3):
            planes = torch.zeros(16, 4, *maps.shape[2:])
            planes[torch.arange(16), batch.actions[:, k]] = 1.0
            maps = transition(torch.cat([maps, planes], 1))
            projection = objective.get_submodule("projection")(objective.encoder.pooled(maps))
            y_hat = objective.get_submodule("prediction")(projection).double()
            y = objective.get_submodule("target")(batch.pictures[:, k + 1]).double()
            right -= ((y_hat * y).sum(1) / (y_hat.norm(dim=1) * y.norm(dim=1))).mean().item()
    assert objective.loss(batch)[0].item() == pytest.approx(right, abs=1e-5)


def test_the_linear_projection_is_the_encoders_own() -> None:
    objective = small_learner("spr", RECORDING, heads="linear").objective
    parts = {name.split(".")[0] for name, _ in objective.named_parameters()}
    assert parts == {"encoder", "transition", "prediction", "target"}
    assert objective.get_parameter("prediction.0.weight").shape == (16, 16)


def test_normalised_heads_keep_features_apart_that_linear_ones_let_collapse() -> None:
    spread = {}
    for heads in ("linear", "normalised"):
        learner = small_learner("spr", RECORDING, steps=1, heads=heads, learning_rate=1e-3)
        clips = sampler_of(learner, RECORDING)
        for _ in range(30):
            learner.learn(next(clips))
        spread[heads] = float(feature_spread(learner.features(torch.from_numpy(RECORDING.observations[:64]))))
    assert spread["normalised"] > 3 * spread["linear"]


def test_later_pictures_are_seen_by_the_slow_encoder_alone() -> None:
    learner = small_learner("spr", RECORDING, steps=2, views="none", heads="linear")
    batch = batch_of(learner)
    seen: list[torch.Tensor] = []
    learner.objective.encoder.register_forward_hook(lambda module, given, found: seen.append(given[0]))
    learner.objective.loss(batch)
    assert not seen  # only its `maps` and `pooled` are asked
    with torch.no_grad():
        for parameter in learner.objective.get_submodule("target").parameters():
            parameter.zero_()
    assert learner.objective.loss(batch)[0].item() == 0.0  # targets of zero are at a right angle to all


def test_an_action_tells_on_the_next_features_at_every_place() -> None:
    model = TransitionModel(3, 2, 8, torch.Generator().manual_seed(0)).eval()
    maps = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    left, right = torch.tensor([[1.0, 0.0]]).expand(2, 2), torch.tensor([[0.0, 1.0]]).expand(2, 2)
    assert model(maps, left).shape == maps.shape
    apart = (model(maps, left) - model(maps, right)).abs()
    assert apart.amin(dim=(2, 3)).max() > 1e-3  # everywhere, not at one place


def test_numbers_as_actions_serve_too() -> None:
    task = replace(task_of(RECORDING), action_space=spaces.Box(-2.0, 2.0, (2,), np.float32))
    learner = EncoderLearner(SPR, SPRConfig(backbone="impala", feature_size=8, steps=2, batch_size=4), task)
    batch = batch_of(learner)
    first, second = (torch.full((4, 2, 2), value) for value in (-2.0, 2.0))
    losses = []
    for actions in (first, second):
        learner.objective.generator.manual_seed(0)
        losses.append(learner.objective.loss(replace(batch, actions=actions))[0].item())
    assert losses[0] != losses[1]


def test_pictures_without_actions_are_refused_with_what_to_do() -> None:
    learner = small_learner("spr", RECORDING)
    with pytest.raises(UsageError, match="record them on an environment"):
        EncoderLearner(SPR, learner.config, replace(learner.task, action_space=None))
    with pytest.raises(UsageError, match="record them on an environment"):
        learner.objective.loss(replace(batch_of(learner), actions=None))
