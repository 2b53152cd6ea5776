"""BERT on clips: what is hidden, what is told, and what it costs to know nothing."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from ssl_samples import SPACE, sampler_of, small_learner, task_of, wandering_square
from torch import Tensor

from rlkit.data.clips import Clips
from rlkit.errors import UsageError
from rlkit.nn.backbones import BackboneOptions, build_backbone
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.masked_sequence import MaskedSequence, MaskedSequenceConfig, SequenceModel, standardised
from rlkit.perception.ssl.objective import PictureBatch

RECORDING = wandering_square(episodes=2)


def bert(**options: object) -> tuple[EncoderLearner, MaskedSequence, PictureBatch]:
    small = {"width": 16, "heads": 2, "layers": 1, "feature_size": 6}
    learner = small_learner("bert", RECORDING, **{**small, **options})
    assert isinstance(learner.objective, MaskedSequence)
    return learner, learner.objective, PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)


def on(space: Any, **options: Any) -> MaskedSequence:
    """The objective of a small encoder, where actions are in the space."""
    task = dataclasses.replace(task_of(RECORDING), action_space=space)
    encoder = build_backbone(
        "impala", SPACE.shape, torch.Generator().manual_seed(0), BackboneOptions(feature_size=6)
    )  # fmt: skip
    return MaskedSequence(MaskedSequenceConfig(width=16, heads=2, layers=1, **options), encoder, task)


def silent(objective: MaskedSequence) -> MaskedSequence:
    """One that predicts 0 everywhere."""
    with torch.no_grad():
        for layer in (objective.model.tell_picture, objective.model.tell_action):
            layer.weight.zero_()
            layer.bias.zero_()
    return objective


def test_a_clip_is_eight_pictures_long_by_default() -> None:
    assert on(spaces.Discrete(4)).clip_length == 8
    assert on(spaces.Discrete(4), clip_length=3).clip_length == 3


def test_vectors_are_standardised_number_by_number() -> None:
    x = torch.tensor([[[1.0, 5.0], [3.0, 5.0]], [[5.0, 5.0], [7.0, 5.0]]])  # mean 4, variance 5; no variance
    wanted = torch.tensor([-3.0, -1.0, 1.0, 3.0]) / math.sqrt(5)
    torch.testing.assert_close(standardised(x)[..., 0].flatten(), wanted, rtol=1e-5, atol=1e-6)
    assert not standardised(x)[..., 1].any()


def test_who_knows_nothing_pays_one_for_pictures_and_ln_a_for_actions() -> None:
    _, objective, batch = bert(hidden=0.9999)  # all of 8 x 4 pictures, so that squares sum up to the variance
    loss, metrics = silent(objective).loss(batch)
    assert metrics["train/picture_loss"] == pytest.approx(1.0, rel=1e-3)
    assert metrics["train/action_loss"] == pytest.approx(math.log(4), rel=1e-5)
    assert loss.item() == pytest.approx(1.0 + math.log(4), rel=1e-3)


def test_actions_weigh_as_much_as_they_are_told_to() -> None:
    _, objective, batch = bert(action_weight=0.25)
    loss, metrics = objective.loss(batch)
    wanted = metrics["train/picture_loss"] + 0.25 * metrics["train/action_loss"]
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_pictures_are_predicted_as_the_teacher_has_them_at_chosen_places() -> None:
    _, objective, batch = bert()
    with torch.no_grad():
        objective.teacher.summary[-1].weight.neg_()  # teacher and student differ
    told: list[tuple[Tensor, Tensor]] = []
    objective.model.register_forward_hook(lambda _module, _inputs, output: told.append(output))
    draws = objective.generator.get_state()
    _, metrics = objective.loss(batch)
    chosen = torch.rand(8, 7, generator=torch.Generator().set_state(draws)) < 0.3
    features = torch.stack([objective.teacher(pictures) for pictures in batch.pictures]).double()
    target = (features - features.mean(dim=(0, 1))) / features.var(dim=(0, 1), correction=0).add(1e-8).sqrt()
    of_pictures = (told[0][0] - target)[chosen[:, 0::2]].square().mean()
    assert metrics["train/picture_loss"] == pytest.approx(of_pictures.item(), rel=1e-4)
    assert batch.actions is not None
    log_p = torch.log_softmax(told[0][1], dim=2).gather(2, batch.actions[..., None])[..., 0]
    assert metrics["train/action_loss"] == pytest.approx(-log_p[chosen[:, 1::2]].mean().item(), rel=1e-4)


def test_a_token_that_is_hidden_is_seen_nowhere_and_one_that_is_not_everywhere() -> None:
    model = SequenceModel(3, 2, MaskedSequenceConfig(width=16, heads=2, layers=2), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    pictures, actions = torch.randn(4, 3, generator=generator), torch.eye(2)
    seen, done = torch.tensor([[0, 1, 4, 3]]), torch.tensor([[0, 2, 1]])  # picture 2 and action 1 are masks
    told = model(pictures, seen, actions, done)
    assert told[0].shape == (1, 4, 3)
    assert told[1].shape == (1, 3, 2)

    def differs(changed: Tensor, places: Tensor) -> bool:
        return not torch.allclose(model(changed, seen, actions, places)[0], told[0], atol=1e-6)

    hidden, last = pictures.clone(), pictures.clone()
    hidden[2] += 1
    last[3] += 1
    assert not differs(hidden, done)
    assert differs(last, done)  # also at the first picture: it looks ahead
    assert (model(last, seen, actions, done)[0] - told[0])[0, 0].abs().max() > 1e-6
    assert differs(pictures, torch.tensor([[1, 2, 1]]))
    assert differs(pictures, torch.tensor([[0, 2, 2]]))


def test_the_order_of_steps_is_told() -> None:
    model = SequenceModel(3, 2, MaskedSequenceConfig(width=16, heads=2, layers=1), torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.blocks[0].attention.project.weight.mul_(20)  # attention is almost even at first
    pictures, done = torch.randn(3, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([[0, 0]])
    one, other = (model(pictures, torch.tensor([order]), torch.eye(2), done)[0] for order in ([0, 1, 2], [2, 1, 0]))
    assert not torch.allclose(one, other.flip(1), atol=1e-4)


def test_discrete_actions_may_begin_anywhere() -> None:
    objective = on(spaces.Discrete(3, start=5))
    vectors, numbers = objective.actions.vectors_and_numbers(torch.tensor([[5, 7], [6, 5]]))
    assert torch.equal(vectors, torch.eye(3))
    assert numbers.tolist() == [[0, 2], [1, 0]]


def test_box_actions_are_regressed_onto_what_was_done() -> None:
    objective = silent(on(spaces.Box(-1, 1, (2,)), hidden=0.9999, clip_length=3))
    rng = np.random.default_rng(0)
    actions = rng.normal(size=(8, 2, 2)).astype(np.float32)
    pictures = rng.integers(0, 256, (8, 3, 1, 16, 16), dtype=np.uint8)
    batch = PictureBatch.of(Clips(pictures, np.arange(8), actions), torch.device("cpu"))
    assert batch.actions is not None
    vectors, numbers = objective.actions.vectors_and_numbers(batch.actions)
    torch.testing.assert_close(vectors[numbers], standardised(batch.actions))
    _, metrics = objective.loss(batch)
    assert metrics["train/action_loss"] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("space", [None, spaces.MultiDiscrete([2, 3])])
def test_a_task_without_usable_actions_is_refused(space: Any) -> None:
    with pytest.raises(UsageError, match="bert learns from Discrete or Box actions"):
        on(space)


def test_the_teacher_moves_after_an_update_and_gets_no_gradient() -> None:
    _, objective, batch = bert(momentum=0.5)
    loss, _ = objective.loss(batch)
    loss.backward()
    teacher = objective.teacher.summary[-1].bias
    assert teacher.grad is None
    assert objective.encoder.summary[-1].bias.grad is not None
    before = teacher.clone()
    with torch.no_grad():
        objective.encoder.summary[-1].bias.add_(1.0)
    objective.after_update(0.5)  # m = 0.75 half way to 1
    torch.testing.assert_close(teacher, before + 0.25)
