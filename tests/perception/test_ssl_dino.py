"""DINO: a centred and sharpened teacher, what moves after an update, and what stands still at first."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square
from torch import Tensor

from rlkit.perception.ssl.dino import DINO
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.objective import PictureBatch

RECORDING = wandering_square(episodes=2)


def dino(**options: object) -> tuple[EncoderLearner, DINO, PictureBatch]:
    small = {"head_width": 16, "bottleneck": 8, "outputs": 6, "frozen_directions": 0.0}
    learner = small_learner("dino", RECORDING, **{**small, **options})
    assert isinstance(learner.objective, DINO)
    return learner, learner.objective, PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)


def outputs(objective: DINO, batch: PictureBatch, draws: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The student's and the teacher's of the views that these draws give."""
    views = objective.views.of(batch.first, torch.Generator().set_state(draws))
    student = [objective.head(objective.encoder(view)) for view in views]
    with torch.no_grad():
        teacher = [objective.teacher_head(objective.teacher_encoder(view)) for view in views[:2]]
    return student, teacher


def test_the_student_matches_the_teacher_of_the_other_view_at_the_temperature_of_the_moment() -> None:
    learner, objective, batch = dino(temperature=0.08, temperature_warmup=0.2)
    learner.learn(next(sampler_of(learner, RECORDING)))  # teacher and student differ, the centre is not 0
    objective.after_update(0.05)  # a quarter of the warm-up from 0.04 to 0.08
    draws = objective.generator.get_state()
    centre = objective.centre.clone()
    assert centre.any()
    loss, _ = objective.loss(batch)
    assert torch.equal(objective.centre, centre)
    student, teacher = outputs(objective, batch, draws)
    q = [torch.softmax((of_view - centre) / 0.05, dim=1) for of_view in teacher]
    log_p = [torch.log_softmax(of_view / 0.1, dim=1) for of_view in student]
    wanted = -((q[0] * log_p[1]).sum(dim=1) + (q[1] * log_p[0]).sum(dim=1)).mean() / 2
    torch.testing.assert_close(loss, wanted)


def test_the_centre_is_a_moving_mean_of_what_the_teacher_gave() -> None:
    _, objective, batch = dino(centre_momentum=0.75)
    wanted = torch.zeros(6)
    for _ in range(2):
        _, teacher = outputs(objective, batch, objective.generator.get_state())
        objective.loss(batch)
        objective.after_update(0.5)
        wanted = 0.75 * wanted + 0.25 * torch.cat(teacher).mean(dim=0)
    torch.testing.assert_close(objective.centre, wanted)


def test_the_teacher_is_a_moving_average_whose_momentum_rises_to_one() -> None:
    _, objective, batch = dino(momentum=0.9)
    objective.loss(batch)
    student, teacher = objective.head.directions, objective.teacher_head.directions
    assert not any(parameter.requires_grad for parameter in objective.teacher_head.parameters())
    assert not any(parameter.requires_grad for parameter in objective.teacher_encoder.parameters())
    before, encoder_before = teacher.clone(), objective.teacher_encoder.summary[-1].bias.clone()
    with torch.no_grad():
        student.add_(1.0)
        objective.encoder.summary[-1].bias.add_(3.0)
    momentum = 1 - (1 - 0.9) * (math.cos(math.pi * 0.25) + 1) / 2
    objective.after_update(0.25)
    torch.testing.assert_close(teacher, before + (1 - momentum))
    torch.testing.assert_close(objective.teacher_encoder.summary[-1].bias, encoder_before + 3 * (1 - momentum))
    stands = teacher.clone()
    objective.after_update(1.0)
    assert torch.equal(teacher, stands)


def test_the_last_layer_stays_as_it_is_at_first() -> None:
    learner, objective, _ = dino(frozen_directions=0.04, warmup_fraction=0.0)  # 2 of 50 updates
    clips = sampler_of(learner, RECORDING)
    start, layers = objective.head.directions.detach().clone(), objective.head.layers[0].weight.detach().clone()
    for _ in range(2):
        learner.learn(next(clips))
    assert torch.equal(objective.head.directions, start)
    assert not torch.equal(objective.head.layers[0].weight, layers)
    learner.learn(next(clips))
    assert not torch.equal(objective.head.directions, start)


def test_an_encoder_that_tells_nothing_pays_ln_k() -> None:
    _, objective, batch = dino()
    with torch.no_grad():
        objective.head.layers[-1].weight.zero_()
    loss, _ = objective.loss(batch)
    assert loss.item() == pytest.approx(math.log(6), rel=1e-5)
    assert objective.uninformed_loss == pytest.approx(math.log(6))


def test_the_teacher_sees_large_crops_alone() -> None:
    _, objective, batch = dino(views="dino", small_views=3, backbone="resnet", batch_size=4)
    seen: dict[str, list[tuple[int, ...]]] = {"student": [], "teacher": []}
    objective.encoder.register_forward_hook(lambda _m, inputs, _o: seen["student"].append(tuple(inputs[0].shape)))
    objective.teacher_encoder.register_forward_hook(
        lambda _m, inputs, _o: seen["teacher"].append(tuple(inputs[0].shape))
    )
    loss, _ = objective.loss(batch)
    assert loss.isfinite()
    assert seen == {"student": [(8, 1, 16, 16), (12, 1, 7, 7)], "teacher": [(8, 1, 16, 16)]}


def test_learning_comes_nearer_to_a_teacher_that_stands_still() -> None:
    learner, objective, _ = dino(momentum=1.0, centre_momentum=0.9, outputs=16, learning_rate=3e-3)
    clips = sampler_of(learner, RECORDING)
    for _ in range(20):  # the centre finds its place
        objective.loss(PictureBatch.of(next(clips), learner.device))
        objective.after_update(0.0)
    losses = [learner.learn(next(clips))["train/loss"] for _ in range(30)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
