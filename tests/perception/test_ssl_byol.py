"""BYOL: each view against the teacher's of the other, a teacher that moves as the formula says."""

from __future__ import annotations

import math

import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square
from torch.nn.functional import cosine_similarity

from rlkit.perception.ssl.byol import BYOL
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.objective import PictureBatch

RECORDING = wandering_square(episodes=2)


def byol(**options: object) -> tuple[EncoderLearner, BYOL, PictureBatch]:
    learner = small_learner("byol", RECORDING, **{"head_width": 32, "head_size": 8, **options})
    assert isinstance(learner.objective, BYOL)
    return learner, learner.objective, PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)


def test_the_loss_is_of_each_view_against_the_teacher_of_the_other() -> None:
    learner, objective, batch = byol()
    for _ in range(2):
        learner.learn(next(sampler_of(learner, RECORDING)))  # so that teacher and student differ
    draws = objective.generator.get_state()
    loss, _ = objective.loss(batch)
    one, other = objective.views.of(batch.first, torch.Generator().set_state(draws))
    assert not torch.equal(one, other)
    p = [objective.prediction(objective.projection(objective.encoder(view))) for view in (one, other)]
    z = [objective.teacher_projection(objective.teacher_encoder(view)) for view in (one, other)]
    both = (2 - 2 * cosine_similarity(p[0], z[1])) + (2 - 2 * cosine_similarity(p[1], z[0]))
    torch.testing.assert_close(loss, both.mean())


def test_the_teacher_is_a_moving_average_whose_momentum_rises_to_one() -> None:
    _, objective, _ = byol(momentum=0.9)
    student, teacher = objective.encoder.summary[-1].weight, objective.teacher_encoder.summary[-1].weight
    before, head_before = teacher.clone(), objective.teacher_projection[0].weight.clone()
    with torch.no_grad():
        student.add_(1.0)
        objective.projection[0].weight.sub_(2.0)
    momentum = 1 - (1 - 0.9) * (math.cos(math.pi * 0.25) + 1) / 2
    objective.after_update(0.25)
    torch.testing.assert_close(teacher, before + (1 - momentum))
    torch.testing.assert_close(objective.teacher_projection[0].weight, head_before - 2 * (1 - momentum))
    stands = teacher.clone()
    objective.after_update(1.0)
    assert torch.equal(teacher, stands)


def test_the_teacher_is_not_learned_and_gets_no_gradient() -> None:
    learner, objective, batch = byol()
    teacher = [*objective.teacher_encoder.parameters(), *objective.teacher_projection.parameters()]
    assert not any(parameter.requires_grad for parameter in teacher)
    assert len(learner.learned) == len(list(objective.parameters())) - len(teacher)
    loss, _ = objective.loss(batch)
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher)
    assert all(parameter.grad is not None for parameter in learner.learned)


def test_the_teacher_normalises_by_its_own_batches() -> None:
    _, objective, batch = byol()
    norm, own = objective.projection[1], objective.teacher_projection[1]
    with torch.no_grad():
        objective.teacher_projection[0].weight.mul_(3.0)
    objective.train()
    objective.loss(batch)
    moved = own.running_mean.clone()
    torch.testing.assert_close(moved, 3 * norm.running_mean)
    objective.after_update(0.5)
    assert torch.equal(own.running_mean, moved)


def test_no_number_tells_that_features_have_collapsed() -> None:
    _, objective, _ = byol()
    assert objective.uninformed_loss is None


def test_momentum_is_a_share() -> None:
    with pytest.raises(ValueError, match="momentum"):
        byol(momentum=1.5)
