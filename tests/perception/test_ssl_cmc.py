"""CMC: how pictures are split, the loss by hand, and which bank takes in what."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from ssl_samples import SIDE, sampler_of, wandering_square
from torch import Tensor
from torch.nn.functional import normalize

from rlkit.data.clips import Recording
from rlkit.errors import UsageError
from rlkit.ops.colour import luma
from rlkit.perception.ssl.cmc import CMC, colours_apart, frames_apart, split_for
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.memory_bank import own_and_noise
from rlkit.perception.ssl.objective import PictureBatch, PretrainTask

SQUARES = wandering_square(episodes=3)


def recording_of(channels: int) -> Recording:
    """The square in other brightness in each channel."""
    factors = np.linspace(1.0, 0.4, channels)[:, None, None]
    return Recording((SQUARES.observations * factors).astype(np.uint8), SQUARES.episode)


def learner_of(channels: int, **options: Any) -> EncoderLearner:
    space = spaces.Box(0, 255, (channels, SIDE, SIDE), np.uint8)
    config = CMC.Config(**{"backbone": "impala", "feature_size": 16, "batch_size": 16, "noise": 7, **options})
    return EncoderLearner(CMC, config, PretrainTask(space, None, len(SQUARES), 50, 0))


def batch_of(learner: EncoderLearner, channels: int) -> PictureBatch:
    return PictureBatch.of(next(sampler_of(learner, recording_of(channels))), learner.device)


def features_of(learner: EncoderLearner, parts: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Features of length one of both views; batch norms use their running statistics."""
    learner.objective.eval()
    heads = [learner.objective.get_submodule(f"heads.{i}") for i in range(2)]
    with torch.no_grad():
        return [
            normalize(head(learner.objective.encoder(part)).double(), dim=1)
            for head, part in zip(heads, parts, strict=True)
        ]


def test_one_view_has_the_luma_and_the_other_the_colours() -> None:
    pictures = torch.randint(256, (2, 6, 3, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grey, colours = colours_apart(pictures)
    torch.testing.assert_close(luma(grey), luma(pictures))
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert torch.equal(grey[:, 3], grey[:, 5])
    torch.testing.assert_close(luma(colours), torch.full((2, 2, 3, 4), 128.0))
    torch.testing.assert_close(grey + colours - 128, pictures.float())


@pytest.mark.parametrize(("channels", "of_frame", "early"), [(4, 1, 2), (5, 1, 2), (6, 3, 3), (9, 3, 3)])
def test_frames_go_to_either_view_whole(channels: int, of_frame: int, early: int) -> None:
    pictures = torch.randint(1, 256, (2, channels, 3, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, second = frames_apart(pictures, of_frame)
    assert torch.equal(first + second, pictures)
    assert torch.equal(first[:, :early], pictures[:, :early])
    assert torch.equal(second[:, early:], pictures[:, early:])
    assert first.dtype == torch.uint8


def test_pictures_are_split_by_what_they_have() -> None:
    assert split_for((84, 84, 3), "auto") == split_for((4, 84, 84, 3), "auto") == "colours"
    assert split_for((4, 84, 84, 3), "frames") == split_for((4, 84, 84), "auto") == "frames"
    assert split_for((84, 84), "auto") == split_for((84, 84, 3), "augmentations") == "augmentations"
    with pytest.raises(UsageError, match=r"'colours'.*grey with 4 frames; allowed: auto, frames, augmentations"):
        split_for((4, 84, 84), "colours")
    with pytest.raises(UsageError, match="coloured with 1 frame; allowed: auto, colours, augmentations"):
        split_for((84, 84, 3), "frames")


def test_the_loss_is_nce_of_each_view_with_the_bank_of_the_other() -> None:
    learner = learner_of(2, views="none", temperature=0.5)
    objective, batch = learner.objective, batch_of(learner, 2)
    black = torch.zeros_like(batch.first[:, :1])
    parts = torch.cat([batch.first[:, :1], black], 1), torch.cat([black, batch.first[:, 1:]], 1)
    features = features_of(learner, parts)
    index = own_and_noise(batch.index, 60, 7, objective.generator.clone_state())
    right = 0.0
    for f, bank in zip(features, ("bank_of_second", "bank_of_first"), strict=True):
        rows = objective.get_buffer(f"{bank}.rows").double()
        scores = torch.einsum("bd,bkd->bk", f, rows[index]).div(0.5).exp()
        p = scores / (60 * scores[:, 1:].mean())
        h = p / (p + 7 / 60)
        right += -(h[:, 0].log() + (1 - h[:, 1:]).log().sum(dim=1)).mean().item()
    assert objective.loss(batch)[0].item() == pytest.approx(right, abs=1e-4)


def test_each_bank_takes_in_half_of_what_its_view_has_shown() -> None:
    learner = learner_of(3, views="none")
    objective, batch = learner.objective, batch_of(learner, 3)
    features = features_of(learner, colours_apart(batch.first))
    for _ in range(2):
        rows = [objective.get_buffer(f"bank_of_{which}.rows").double() for which in ("first", "second")]
        objective.loss(batch)
        objective.after_update(0.5)
        for which, before, f in zip(("first", "second"), rows, features, strict=True):
            right = before.clone()
            right[batch.index] = normalize(0.5 * before[batch.index] + 0.5 * f, dim=1)
            found = objective.get_buffer(f"bank_of_{which}.rows").double()
            torch.testing.assert_close(found, right, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_features_that_are_all_alike_cost_the_uninformed_loss(channels: int) -> None:
    learner = learner_of(channels)
    with torch.no_grad():
        for parameter in learner.objective.encoder.parameters():
            parameter.zero_()
    loss, _ = learner.objective.loss(batch_of(learner, channels))
    right = 2 * (math.log(8) + 7 * math.log(8 / 7))
    assert learner.objective.uninformed_loss == pytest.approx(right, abs=1e-12)
    assert loss.item() == pytest.approx(right, abs=1e-5)


@pytest.mark.parametrize("channels", [2, 3])
def test_learning_from_parts_lowers_the_loss_and_whole_pictures_differ(channels: int) -> None:
    learner, recording = learner_of(channels, learning_rate=3e-3, noise=32), recording_of(channels)
    clips = sampler_of(learner, recording)
    losses = [learner.learn(next(clips))["train/loss"] for _ in range(20)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3
    features = normalize(learner.features(torch.from_numpy(recording.observations)), dim=1)
    assert float(features.std(dim=0).mean()) > 2e-3
