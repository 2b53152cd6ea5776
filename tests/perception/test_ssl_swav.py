"""SwAV: assignments among the queue and the batch, prototypes of length one, and what stands still at the start."""

from __future__ import annotations

import math

import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square
from torch import Tensor

from rlkit.ops.sinkhorn import sinkhorn
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.objective import PictureBatch
from rlkit.perception.ssl.swav import SwAV

RECORDING = wandering_square(episodes=2)


def swav(**options: object) -> tuple[EncoderLearner, SwAV]:
    small = {"head_width": 16, "head_size": 6, "prototypes": 5, "frozen_prototypes": 0.0}
    learner = small_learner("swav", RECORDING, **{**small, **options})
    assert isinstance(learner.objective, SwAV)
    return learner, learner.objective


def batch_of(learner: EncoderLearner, seed: int = 0) -> PictureBatch:
    return PictureBatch.of(next(sampler_of(learner, RECORDING, seed)), learner.device)


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def projections(objective: SwAV, batch: PictureBatch, draws: Tensor) -> Tensor:
    """[2, B, D] of the views that these draws give."""
    views = objective.views.of(batch.first, torch.Generator().set_state(draws))
    return objective.head(objective.encoder(torch.cat(views))).unflatten(0, (2, -1))


def test_each_view_predicts_the_assignment_of_the_other() -> None:
    learner, objective = swav(queue=0)
    objective.eval()
    batch, draws = batch_of(learner), objective.generator.get_state()
    loss, _ = objective.loss(batch)
    cosines = unit(projections(objective, batch, draws)) @ unit(objective.prototypes.weight).T
    one, other = (sinkhorn(of_view) for of_view in cosines)
    log_p = torch.log_softmax(cosines / 0.1, dim=2)
    wanted = -((one * log_p[1]).sum(dim=1) + (other * log_p[0]).sum(dim=1)).mean() / 2
    torch.testing.assert_close(loss, wanted)


def test_the_queue_holds_the_newest_projections_of_each_view_and_is_used_once_full() -> None:
    learner, objective = swav(queue=24, queue_start=0.0)  # batches of 16
    objective.eval()
    batches = [batch_of(learner, seed) for seed in range(3)]
    found = []
    for number, batch in enumerate(batches[:2]):
        assert int(objective.queued) == (0, 16)[number]
        found.append(projections(objective, batch, objective.generator.get_state()))
        objective.loss(batch)
        objective.after_update(0.1)
    assert int(objective.queued) == 24
    torch.testing.assert_close(objective.queue, torch.cat((found[0][:, 8:], found[1]), dim=1))
    before = objective.queue.clone()
    z = projections(objective, batches[2], objective.generator.get_state())
    loss, _ = objective.loss(batches[2])
    assert torch.equal(objective.queue, before)
    cosines = unit(torch.cat((before, z), dim=1)) @ objective.prototypes.weight.T
    one, other = (sinkhorn(of_view)[24:] for of_view in cosines)
    log_p = torch.log_softmax(cosines[:, 24:] / 0.1, dim=2)
    wanted = -((one * log_p[1]).sum(dim=1) + (other * log_p[0]).sum(dim=1)).mean() / 2
    torch.testing.assert_close(loss, wanted)


def test_the_queue_begins_after_its_part_of_the_run() -> None:
    learner, objective = swav(queue=32, queue_start=0.25)
    filled = []
    for progress in (0.1, 0.3, 0.5):
        objective.loss(batch_of(learner))
        objective.after_update(progress)
        filled.append(int(objective.queued))
    assert filled == [0, 0, 16]  # the third update begins after 0.3 of the run


def test_prototypes_stay_as_they_are_at_first_and_have_length_one_afterwards() -> None:
    options = {"frozen_prototypes": 0.04, "learning_rate": 0.01, "weight_decay": 0.1}  # 2 of 50 updates
    learner, objective = swav(**options)
    clips = sampler_of(learner, RECORDING)
    start, head = objective.prototypes.weight.detach().clone(), objective.head[0].weight.detach().clone()
    for _ in range(2):
        learner.learn(next(clips))
    torch.testing.assert_close(objective.prototypes.weight, start, rtol=0, atol=1e-6)
    assert not torch.equal(objective.head[0].weight, head)
    learner.learn(next(clips))
    assert (objective.prototypes.weight - start).abs().max() > 1e-3
    torch.testing.assert_close(objective.prototypes.weight.norm(dim=1), torch.ones(5))


def test_an_encoder_that_tells_nothing_pays_ln_k() -> None:
    learner, objective = swav(prototypes=7)
    with torch.no_grad():
        objective.head[-1].weight.zero_()
        objective.head[-1].bias.zero_()  # as near to all prototypes
    loss, _ = objective.loss(batch_of(learner))
    assert loss.item() == pytest.approx(math.log(7))
    assert objective.uninformed_loss == pytest.approx(math.log(7))


def test_small_crops_predict_and_are_not_assigned() -> None:
    learner, objective = swav(views="swav", small_views=3, backbone="resnet", batch_size=4, queue_start=0.0)
    sizes: list[tuple[int, ...]] = []
    objective.encoder.register_forward_hook(lambda _module, inputs, _output: sizes.append(tuple(inputs[0].shape)))
    loss, _ = objective.loss(batch_of(learner))
    assert sizes == [(8, 1, 16, 16), (12, 1, 7, 7)]
    assert loss.isfinite()
    objective.after_update(1.0)
    assert objective.queue[:, -4:].abs().sum() > 0
    assert not objective.queue[:, :-4].any()
