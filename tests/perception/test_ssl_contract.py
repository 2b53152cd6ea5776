"""What every registered method of pretraining keeps to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square

from rlkit import registry
from rlkit.codec import copy_tree
from rlkit.perception.ssl.objective import Objective, PictureBatch

RECORDING = wandering_square()
FILLING = {"moco-v1": 5, "moco-v2": 5}
"""Updates in which a queue still holds directions that were drawn, with which the loss is too low."""
METHODS = sorted(registry.METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_every_option_has_help_and_the_class_says_its_paper(method: str) -> None:
    objective = registry.method_class(method)
    assert issubclass(objective, Objective)
    assert all(field.description for field in objective.Config.model_fields.values())
    module = __import__(objective.__module__, fromlist=["__doc__"])
    assert "Deviations" in (module.__doc__ or "")


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_is_finite_and_changes_nothing_that_is_not_drawn(method: str) -> None:
    learner = small_learner(method, RECORDING)
    batch = PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)
    learner.objective.eval()  # batch norm has statistics of its own otherwise
    before = copy_tree(dict(learner.objective.state_dict()))
    draws = learner.objective.generator.get_state()
    first, _ = learner.objective.loss(batch)
    learner.objective.generator.set_state(draws)
    second, _ = learner.objective.loss(batch)
    assert math.isfinite(float(first.detach()))
    assert torch.equal(first, second)
    for name, value in learner.objective.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_reaches_every_learned_part_and_the_encoder(method: str) -> None:
    learner = small_learner(method, RECORDING)
    clips = sampler_of(learner, RECORDING)
    for _ in range(2):
        before = learner.flat.clone()
        metrics = learner.learn(next(clips))
    assert all(math.isfinite(value) for value in metrics.values())
    moved = (learner.flat != before).float().mean()
    assert moved > 0.5
    encoder = torch.cat([parameter.detach().reshape(-1) for parameter in learner.objective.encoder.parameters()])
    assert torch.isfinite(encoder).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_restored_learner_goes_on_with_the_same_bits(method: str) -> None:
    first, clips = small_learner(method, RECORDING), None
    clips = sampler_of(first, RECORDING)
    for _ in range(3):
        first.learn(next(clips))
    policy, training = copy_tree(first.policy_state()), copy_tree(first.training_state())
    second = small_learner(method, RECORDING, seed=9)
    second.load_policy_state(policy)
    second.load_training_state(training)
    for _ in range(2):
        batch = next(clips)
        assert first.learn(batch) == second.learn(batch)
    assert torch.equal(first.flat, second.flat)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_run_and_another_seed_another(method: str) -> None:
    def run(seed: int) -> torch.Tensor:
        learner = small_learner(method, RECORDING, seed=seed)
        learner.learn(next(sampler_of(learner, RECORDING)))
        return learner.flat.clone()

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


@pytest.mark.parametrize("method", METHODS)
def test_learning_lowers_the_loss_and_features_still_differ(method: str) -> None:
    updates = 80 if method in ("bert", "moco-v2") else 40  # slow to get far beyond their noise
    learner = small_learner(method, RECORDING, updates=updates, learning_rate=1e-3)
    clips = sampler_of(learner, RECORDING)
    losses = [learner.learn(next(clips))["train/loss"] for _ in range(updates)]
    first = FILLING.get(method, 0)
    # DINO's centre, which begins at 0, first takes away what the outputs of all pictures have in common
    assert np.mean(losses[-8:]) < np.mean(losses[first : first + 8]) or method == "dino"
    pictures = torch.from_numpy(RECORDING.observations[:64])
    features = torch.nn.functional.normalize(learner.features(pictures), dim=1)
    # the mean over a vision transformer's tokens is mostly background, also before any learning
    assert float(features.std(dim=0).mean()) > (1e-5 if method == "mae" else 1e-3)
