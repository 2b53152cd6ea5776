"""Objectives that agents use beside their own loss: any encoder, any batch, slow encoders that follow exactly."""

from __future__ import annotations

import pytest
import torch
from ssl_samples import SIDE, SPACE, sampler_of, small_learner, wandering_square

from rlkit import registry, seeding
from rlkit.nn.backbones import Backbone, BackboneKind, BackboneOptions, build_backbone
from rlkit.nn.vit import VisionOptions
from rlkit.perception.ssl.objective import Objective, PictureBatch, PretrainTask

RECORDING = wandering_square()
ONLINE = {"atc": ["encoder"], "curl": ["encoder"], "spr": ["encoder", "projection"]}
"""What the slow encoder is an average of."""
METHODS = sorted(ONLINE)


def encoder_of(kind: BackboneKind) -> Backbone:
    vision = VisionOptions(patch=4, width=24, depth=1, heads=2)
    options = BackboneOptions(feature_size=8, width=16, vision=vision)
    return build_backbone(kind, SPACE.shape, seeding.torch_generator(0, "encoder"), options)


def objective_of(method: str, encoder: Backbone) -> Objective:
    chosen = registry.method_class(method)
    task = small_learner("curl", RECORDING).task
    return chosen(chosen.Config(), encoder, PretrainTask(SPACE, task.action_space, 100, 10, seed=0))


def replayed(rows: int, steps: int) -> PictureBatch:
    """Sequences as an agent samples them of its replay, with no recording behind them."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (rows, steps, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    actions = torch.randint(0, 4, (rows, steps - 1), generator=generator)
    return PictureBatch(pictures, torch.zeros(rows, dtype=torch.int64), actions)


def slow(objective: Objective) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in objective.get_submodule("target").parameters()]


@pytest.mark.parametrize("kind", ["impala", "resnet", "vit"])
@pytest.mark.parametrize("method", METHODS)
def test_a_replayed_batch_of_any_size_teaches_any_encoder(method: str, kind: BackboneKind) -> None:
    objective = objective_of(method, encoder_of(kind))
    loss, _ = objective.loss(replayed(5, objective.clip_length + 1))
    loss.backward()
    reached = [parameter.grad.abs().sum() > 0 for parameter in objective.encoder.parameters()]
    # the key's bias moves no attention
    assert sum(reached) >= len(reached) - 1


@pytest.mark.parametrize("method", METHODS)
def test_no_gradient_reaches_the_slow_encoder(method: str) -> None:
    objective = objective_of(method, encoder_of("impala"))
    objective.loss(replayed(4, objective.clip_length))[0].backward()
    slow_parameters = list(objective.get_submodule("target").parameters())
    assert slow_parameters
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in slow_parameters)


@pytest.mark.parametrize("method", METHODS)
def test_the_slow_encoder_is_the_average_of_what_the_encoder_was(method: str) -> None:
    learner = small_learner(method, RECORDING, momentum=0.75, learning_rate=1e-2)
    clips, objective = sampler_of(learner, RECORDING), learner.objective
    right = slow(objective)
    for _ in range(2):
        learner.learn(next(clips))
        now = [
            parameter.detach() for name in ONLINE[method] for parameter in objective.get_submodule(name).parameters()
        ]
        right = [0.75 * before + 0.25 * new for before, new in zip(right, now, strict=True)]
    for found, expected in zip(slow(objective), right, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert any((a != b).any() for a, b in zip(now, slow(objective), strict=True))
