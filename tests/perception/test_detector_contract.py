"""What every registered detector keeps to: streaming is the sequence, nothing looks ahead, nothing mixes."""

from __future__ import annotations

import pytest
import torch
from perception.detection_samples import (
    CLASSES,
    delayed_streams,
    sequences,
    small_config,
    small_detector,
    small_task,
    window_sampler,
)

from rlkit import registry
from rlkit.perception.detection.detector import DetectionTask, Detector, WindowBatch
from rlkit.perception.detection.learner import DetectorLearner

pytestmark = pytest.mark.parametrize("name", list(registry.DETECTORS))


def streamed(detector: Detector, x: torch.Tensor, is_first: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    memory, found = detector.empty(len(x)), []
    for frame in range(x.shape[1]):
        memory = detector.reset(memory, is_first[:, frame])
        detections, memory = detector.step(x[:, frame], memory)
        found.append(detections)
    return torch.stack([each.now for each in found], 1), torch.stack([each.future for each in found], 1)


@torch.inference_mode()
def test_frame_by_frame_is_the_whole_sequence_also_with_resets(name: str) -> None:
    detector, x = small_detector(name), sequences(3, 30)
    is_first = torch.rand(3, 30, generator=torch.Generator().manual_seed(1)) < 0.1
    whole = detector(x, is_first)
    now, future = streamed(detector, x, is_first)
    assert whole.now.shape == (3, 30, 3)
    assert whole.future.shape == (3, 30, 2, 3)
    torch.testing.assert_close(whole.now, now, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole.future, future, atol=1e-5, rtol=1e-5)
    assert whole.now.std(1).min() > 1e-4  # or the comparison says nothing


@torch.inference_mode()
def test_no_frame_depends_on_a_later_one(name: str) -> None:
    detector, x = small_detector(name), sequences(2, 20)
    is_first = torch.zeros(2, 20, dtype=torch.bool)
    before = detector(x, is_first)
    changed = torch.cat((x[:, :12], sequences(2, 8, seed=9)), 1)
    after = detector(changed, is_first)
    assert torch.equal(before.now[:, :12], after.now[:, :12])
    assert torch.equal(before.future[:, :12], after.future[:, :12])
    assert not torch.allclose(before.now[:, 12], after.now[:, 12])


@torch.inference_mode()
def test_a_frame_depends_on_earlier_ones_of_its_stream_only(name: str) -> None:
    detector, x = small_detector(name), sequences(2, 12)
    is_first = torch.zeros(2, 12, dtype=torch.bool)
    is_first[:, 6] = True
    other = torch.cat((sequences(2, 6, seed=9), x[:, 6:]), 1)
    found, changed = detector(x, is_first).now, detector(other, is_first).now
    torch.testing.assert_close(found[:, 6:], changed[:, 6:])
    remembered = detector(x, torch.zeros_like(is_first)).now
    assert not torch.allclose(remembered[:, 8], found[:, 8])


@torch.inference_mode()
def test_streams_do_not_mix(name: str) -> None:
    detector, x = small_detector(name), sequences(4, 10)
    is_first = torch.zeros(4, 10, dtype=torch.bool)
    alone = torch.cat([detector(row[None], is_first[:1]).now for row in x])
    torch.testing.assert_close(detector(x, is_first).now, alone, atol=1e-5, rtol=1e-5)


def test_what_is_before_a_stream_does_not_matter(name: str) -> None:
    """The loss of windows that begin before their stream, whatever stands there."""
    streams = delayed_streams(count=2, length=5)
    config = small_config(name)
    batch = WindowBatch.of(next(window_sampler(streams, config)), torch.device("cpu"))
    assert not batch.is_there.all()
    detector = small_detector(name)
    filled = batch.features + 7.0 * ~batch.is_there[:, : config.window, None]
    other = WindowBatch(filled, batch.labels, batch.is_there, batch.is_first)
    torch.testing.assert_close(detector.loss(batch)[0], detector.loss(other)[0])


@torch.inference_mode()
def test_the_ambiguous_class_gets_no_probability(name: str) -> None:
    task = DetectionTask(6, CLASSES, ambiguous=2, seed=1)
    detector = registry.detector_class(name)(small_config(name), task).eval()
    detections = detector(sequences(1, 5), torch.zeros(1, 5, dtype=torch.bool))
    for logits in detections:
        assert detector.scores(logits)[..., 2].max() == 0.0
        torch.testing.assert_close(detector.scores(logits).sum(-1), torch.ones(logits.shape[:-1]))


def test_it_learns_what_needs_memory(name: str) -> None:
    streams, config = delayed_streams(), small_config(name, learning_rate=0.02, batch_size=32)
    learner = DetectorLearner(registry.detector_class(name), config, small_task(updates=150))
    sampler = window_sampler(streams, config)
    losses = [learner.learn(next(sampler))["train/loss_now"] for _ in range(150)]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_it_goes_on_with_the_same_bits(name: str) -> None:
    streams, config = delayed_streams(), small_config(name)

    def learner() -> DetectorLearner:
        return DetectorLearner(registry.detector_class(name), config, small_task())

    first, sampler = learner(), window_sampler(streams, config)
    for _ in range(3):
        first.learn(next(sampler))
    second = learner()
    second.load_policy_state(first.policy_state())
    second.load_training_state(first.training_state())
    batch = next(sampler)
    assert first.learn(batch) == second.learn(batch)
    assert torch.equal(first.flat, second.flat)


@torch.inference_mode()
def test_classes_that_may_meet_or_all_be_absent_share_no_probability(name: str) -> None:
    task, config = DetectionTask(6, ("open", "close"), seed=1), small_config(name)
    detector = registry.detector_class(name)(config, task).eval()
    nothing, both = torch.full((2,), -9.0), torch.full((2,), 9.0)
    assert detector.scores(nothing).max() < 0.01
    assert detector.scores(both).min() > 0.99
    frame = torch.ones(1)
    assert detector.cross_entropy(both[None], torch.zeros(1, 2), frame) > 8.0  # a frame without any class counts
    named = config.model_copy(update={"outputs": "softmax"})
    assert registry.detector_class(name)(named, task).scores(nothing).tolist() == [0.5, 0.5]
    assert small_detector(name).scores(torch.zeros(3)).sum() == 1.0
