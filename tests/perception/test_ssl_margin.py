"""Pairs with a margin: the loss by hand for pairs that can be, and what it is for features that are all alike."""

from __future__ import annotations

import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square
from torch import Tensor

from rlkit.perception.ssl.objective import PictureBatch

RECORDING = wandering_square(episodes=3)


def losses_of_shifts(a: Tensor, b: Tensor, margin: float) -> list[float]:
    """Equation 4 where each row's dissimilar picture is `shift` rows further on, for each shift."""
    found = []
    for shift in range(1, len(a)):
        alike = sum(float((a[i] - b[i]).square().sum()) for i in range(len(a)))
        apart = [float((a[i] - b[(i + shift) % len(a)]).norm()) for i in range(len(a))]
        found.append((alike + sum(max(margin - d, 0.0) ** 2 for d in apart)) / (4 * len(a)))
    return found


@pytest.mark.parametrize(("positives", "steps", "place"), [("views", 1, 0), ("next", 1, 1), ("next", 3, 3)])
def test_the_loss_is_that_of_own_second_pictures_and_of_others(positives: str, steps: int, place: int) -> None:
    learner = small_learner("margin", RECORDING, positives=positives, steps=steps, views="none", margin=0.8)
    objective = learner.objective
    assert objective.clip_length == 1 + place
    batch = PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)
    with torch.no_grad():
        head = objective.get_submodule("head")
        a, b = (head(objective.encoder(batch.pictures[:, step])).double() for step in (0, place))
    allowed, seen = torch.tensor(losses_of_shifts(a, b, 0.8)), set()
    with torch.no_grad():
        for _ in range(12):
            difference, shift = (allowed - objective.loss(batch)[0]).abs().min(dim=0)
            assert difference < 1e-5
            seen.add(int(shift))
    assert len(seen) > 3  # others are drawn anew


def test_dissimilar_pictures_are_a_margin_apart_in_the_end() -> None:
    learner = small_learner("margin", RECORDING, views="none", learning_rate=3e-3)
    clips = sampler_of(learner, RECORDING)
    for _ in range(30):
        last = learner.learn(next(clips))["train/loss"]
    # no distance within pairs; what is left is of pictures that look the same
    assert last < 0.2 * learner.objective.uninformed_loss


def test_features_that_are_all_alike_cost_the_uninformed_loss() -> None:
    learner = small_learner("margin", RECORDING, margin=3.0)
    with torch.no_grad():
        for parameter in learner.objective.encoder.parameters():
            parameter.zero_()
    loss, _ = learner.objective.loss(PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device))
    assert learner.objective.uninformed_loss == 3.0**2 / 4
    assert loss.item() == pytest.approx(2.25, abs=1e-6)
