"""MoCo: losses by hand, what the queue holds and in which order, how the slow encoder moves, heads of each version."""

from __future__ import annotations

import math

import pytest
import torch
from ssl_samples import sampler_of, small_learner, wandering_square
from torch import Tensor, nn
from torch.nn.functional import normalize

from rlkit.errors import UsageError
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.objective import PictureBatch

RECORDING = wandering_square(episodes=5)


def batch_of(learner: EncoderLearner) -> PictureBatch:
    return PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)


def keys_of(learner: EncoderLearner, batch: PictureBatch) -> Tensor:
    with torch.no_grad():
        return normalize(learner.objective.get_submodule("slow")(batch.first).double(), dim=1)


def kinds(learner: EncoderLearner, head: str) -> list[str]:
    return [type(layer).__name__ for layer in learner.objective.get_submodule(head).children()]


@pytest.mark.parametrize("method", ["moco-v1", "moco-v2"])
def test_the_loss_is_the_cross_entropy_of_the_key_among_the_queue(method: str) -> None:
    learner = small_learner(method, RECORDING, views="none", queue_size=24, momentum=0.5, learning_rate=1e-2)
    clips, objective = sampler_of(learner, RECORDING), learner.objective
    learner.learn(next(clips))  # now queries and keys come of different weights
    batch, temperature = PictureBatch.of(next(clips), learner.device), {"moco-v1": 0.07, "moco-v2": 0.2}[method]
    with torch.no_grad():
        q = normalize(objective.get_submodule("head")(objective.encoder(batch.first)).double(), dim=1)
    k = keys_of(learner, batch)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ objective.get_buffer("queue").double().T], dim=1)
    assert logits.shape == (16, 25)
    right = ((logits / temperature).logsumexp(1) - logits[:, 0] / temperature).mean()
    assert objective.loss(batch)[0].item() == pytest.approx(right.item(), abs=1e-4)
    assert not torch.allclose(q, k, atol=1e-3)


def test_the_queue_holds_the_last_keys_in_order_after_each_update() -> None:
    learner = small_learner("moco-v1", RECORDING, views="none", queue_size=40)
    objective, clips = learner.objective, sampler_of(learner, RECORDING)
    keys = [objective.get_buffer("queue").double()]
    for update in range(1, 5):
        batch = PictureBatch.of(next(clips), learner.device)
        keys.append(keys_of(learner, batch))
        objective.loss(batch)
        objective.loss(batch)  # one too many puts nothing in
        objective.after_update(0.1)
        place = objective.get_buffer("place").item()
        assert place == 16 * update % 40
        in_order = objective.get_buffer("queue").double().roll(-place, 0)
        torch.testing.assert_close(in_order, torch.cat(keys)[-40:], rtol=0, atol=1e-5)
    torch.testing.assert_close(objective.get_buffer("queue").norm(dim=1), torch.ones(40))


@pytest.mark.parametrize(
    ("method", "head", "progress", "momentum"),
    [("moco-v1", "head", 0.5, 0.8), ("moco-v2", "head", 0.5, 0.8), ("moco-v3", "projection", 0.5, 0.9),
     ("moco-v3", "projection", 1.0, 1.0)],
)  # fmt: skip
def test_the_slow_encoder_follows_without_gradients(
    method: str, head: str, progress: float, momentum: float
) -> None:  # fmt: skip
    learner = small_learner(method, RECORDING, momentum=0.8)
    objective, batch = learner.objective, batch_of(learner)
    slow, fast = objective.get_submodule("slow"), nn.Sequential(objective.encoder, objective.get_submodule(head))
    with torch.no_grad():
        learner.flat.add_(0.1)
    right = [
        momentum * a.detach().clone() + (1 - momentum) * b.detach()
        for a, b in zip(slow.parameters(), fast.parameters(), strict=True)
    ]
    objective.loss(batch)[0].backward()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in slow.parameters())
    assert all(parameter.grad is not None for parameter in learner.learned)
    objective.after_update(progress)
    for found, expected in zip(slow.parameters(), right, strict=True):
        torch.testing.assert_close(found.detach(), expected, rtol=0, atol=1e-6)


def test_heads_are_those_of_each_version() -> None:
    v1, v2, v3 = (small_learner(f"moco-v{version}", RECORDING) for version in (1, 2, 3))
    assert kinds(v1, "head") == ["Linear"]
    assert kinds(v2, "head") == ["Linear", "ReLU", "Linear"]
    hidden = ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds(v3, "projection") == [*hidden, *hidden, "Linear", "BatchNorm1d"]
    assert kinds(v3, "prediction") == [*hidden, "Linear", "BatchNorm1d"]
    assert v3.objective.get_submodule("prediction.4").state_dict().keys() == {
        "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    assert [learner.config.learning_rate_schedule for learner in (v1, v2, v3)] == ["constant", "cosine", "cosine"]


def test_a_queue_has_half_of_the_pictures_at_most_and_a_batch_at_least() -> None:
    sizes = {16: 50, 64: 64}
    for batch_size, size in sizes.items():
        learner = small_learner("moco-v1", RECORDING, batch_size=batch_size)
        assert learner.objective.get_buffer("queue").shape == (size, 128)
    with pytest.raises(UsageError, match="queue_size is 15, a batch has 16 keys"):
        small_learner("moco-v1", RECORDING, queue_size=15)
    pictures = len(RECORDING)
    assert len(small_learner("moco-v2", RECORDING, queue_size=pictures).objective.get_buffer("queue")) == pictures
    with pytest.raises(UsageError, match=rf"queue_size is {pictures + 1}, there are {pictures} pictures.*--frames"):
        small_learner("moco-v2", RECORDING, queue_size=pictures + 1)


def test_the_third_version_is_contrasted_both_ways_within_the_batch() -> None:
    learner = small_learner("moco-v3", RECORDING, views="none", momentum=0.5, learning_rate=1e-2, optimizer="sgd")
    clips, objective = sampler_of(learner, RECORDING), learner.objective
    for _ in range(5):
        learner.learn(next(clips))
    objective.eval()  # batch norms by running statistics, those of the slow encoder are its own
    batch = PictureBatch.of(next(clips), learner.device)
    with torch.no_grad():
        z = objective.get_submodule("projection")(objective.encoder(batch.first))
        q = normalize(objective.get_submodule("prediction")(z).double(), dim=1)
    logits = q @ keys_of(learner, batch).T / 0.2
    one_way = (logits.logsumexp(1) - logits.diagonal()).mean().item()
    assert objective.loss(batch)[0].item() == pytest.approx(2 * 2 * 0.2 * one_way, abs=1e-4)  # both views are the same


@pytest.mark.parametrize("frozen", [True, False])
def test_patches_of_a_vision_transformer_stay_as_they_were_drawn(frozen: bool) -> None:
    learner = small_learner("moco-v3", RECORDING, backbone="vit", batch_size=4, frozen_patches=frozen)
    embed = learner.objective.encoder.get_parameter("transformer.embed.weight")
    before, first = embed.detach().clone(), learner.flat.clone()
    clips = sampler_of(learner, RECORDING)
    for _ in range(2):
        learner.learn(next(clips))
    assert torch.equal(embed, before) == frozen
    assert (learner.flat != first).float().mean() > 0.9


@pytest.mark.parametrize(
    ("method", "right"),
    [("moco-v1", math.log(33)), ("moco-v2", math.log(33)), ("moco-v3", 2 * 2 * 0.2 * math.log(16))],
)
def test_features_that_are_all_alike_cost_the_uninformed_loss(method: str, right: float) -> None:
    options = {} if method == "moco-v3" else {"queue_size": 32}
    learner = small_learner(method, RECORDING, **options)
    objective, clips = learner.objective, sampler_of(learner, RECORDING)
    with torch.no_grad():
        for network in (objective.encoder, objective.get_submodule("slow.0")):
            for parameter in network.parameters():
                parameter.zero_()
    for _ in range(3):  # until the queue has their keys alone
        loss, _ = objective.loss(PictureBatch.of(next(clips), learner.device))
        objective.after_update(0.0)
    assert objective.uninformed_loss == pytest.approx(right, abs=1e-12)
    assert loss.item() == pytest.approx(right, abs=1e-4)
