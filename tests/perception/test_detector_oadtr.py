"""OadTR: what a window gives is the paper's, and short windows are windows."""

from __future__ import annotations

import pytest
import torch
from perception.attention_reference import block, decoded, linear, normed, under, weights_of
from perception.detection_samples import delayed_streams, sequences, small_config, small_task, window_sampler

from rlkit.errors import UsageError
from rlkit.perception.detection.detector import WindowBatch
from rlkit.perception.detection.learner import DetectorLearner
from rlkit.perception.detection.oadtr import OadTR, OadTRConfig


def shaken(**changes: object) -> OadTR:
    """With every weight drawn, so that nothing is hidden by a zero."""
    config = small_config("oadtr", **changes)
    assert isinstance(config, OadTRConfig)
    detector = OadTR(config, small_task()).eval()
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.normal_(std=0.3, generator=detector.generator)
    return detector


@torch.inference_mode()
@pytest.mark.parametrize("length", [8, 5])
def test_a_window_is_read_as_the_paper_writes_it(length: int) -> None:
    detector, x = shaken(layers=2, decoder_layers=2, heads=4), sequences(2, length)
    w, found = weights_of(detector), detector.read(x, torch.ones(2, length, dtype=torch.bool))
    for row in range(2):
        tokens = torch.cat((linear(x[row].double(), w, "embed"), w["task_token"][None]))
        tokens = tokens + w["position"][8 - length :]
        for layer in range(2):
            tokens = block(tokens, under(w, f"blocks.{layer}"), 4)
        tokens = normed(tokens, w, "norm")
        causal = torch.ones(2, 2, dtype=torch.bool).tril()
        asked = decoded(w["queries"], tokens, under(w, "decoder"), 2, 4, causal)
        now = linear(torch.cat((tokens[-1], asked.mean(0))), w, "now")
        torch.testing.assert_close(found.now[row].double(), now, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(found.future[row].double(), linear(asked, w, "future"), atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_window_that_is_not_full_is_a_shorter_one() -> None:
    detector, x = shaken(), sequences(3, 8)
    is_there = torch.ones(3, 8, dtype=torch.bool)
    is_there[1, :5] = False  # beside full ones
    masked, alone = detector.read(x, is_there), detector.read(x[1:2, 5:], is_there[1:2, 5:])
    torch.testing.assert_close(masked.now[1:2], alone.now, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(masked.future[1:2], alone.future, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_only_the_last_window_of_a_longer_batch_is_read() -> None:
    detector, x = shaken(), sequences(2, 11)
    is_there = torch.ones(2, 11, dtype=torch.bool)
    torch.testing.assert_close(detector.read(x, is_there).now, detector.read(x[:, 3:], is_there[:, 3:]).now)


@torch.inference_mode()
def test_the_order_of_frames_matters() -> None:
    detector, x = shaken(), sequences(1, 8)
    is_there = torch.ones(1, 8, dtype=torch.bool)
    swapped = x[:, [1, 0, *range(2, 8)]]
    assert not torch.allclose(detector.read(x, is_there).now, detector.read(swapped, is_there).now, atol=1e-3)


def test_weights_begin_as_pytorchs_own_and_positions_stand_out() -> None:
    detector = OadTR(OadTRConfig(width=64, window=64, horizon=2), small_task())
    assert detector.position.std().item() == pytest.approx(1.0, abs=0.05)
    for layer in detector.modules():
        if isinstance(layer, torch.nn.Linear):
            bound = layer.in_features**-0.5
            assert 0.8 * bound < layer.weight.abs().max() <= bound


def test_queries_begin_at_zero_and_part_when_they_learn() -> None:
    config = small_config("oadtr")
    learner, sampler = DetectorLearner(OadTR, config, small_task()), window_sampler(delayed_streams(), config)
    detector = learner.detector.eval()
    assert isinstance(detector, OadTR)
    assert not detector.queries.any()
    x, is_first = sequences(1, 8), torch.zeros(1, 8, dtype=torch.bool)
    with torch.no_grad():
        future = detector(x, is_first).future
        torch.testing.assert_close(future[..., 0, :], future[..., 1, :])
    learner.learn(next(sampler))
    with torch.no_grad():
        future = detector.eval()(x, is_first).future
    assert not torch.allclose(future[..., 0, :], future[..., 1, :], atol=1e-5)


def test_the_loss_is_that_of_the_frame_and_half_of_what_comes_next() -> None:
    config = small_config("oadtr", batch_size=4)
    detector = shaken(batch_size=4)
    batch = WindowBatch.of(next(window_sampler(delayed_streams(1, 12), config)), torch.device("cpu"))
    told = detector.read(batch.features, batch.is_there[:, :8])
    surprise = -told.now.log_softmax(-1)[batch.labels[:, 7].bool()].mean()
    there = batch.is_there[:, 8:]
    future = -told.future.log_softmax(-1)[batch.labels[:, 8:].bool() & there[..., None]]
    loss, metrics = detector.loss(batch)
    assert 0 < int(there.sum()) == len(future)
    torch.testing.assert_close(loss, surprise + 0.5 * future.mean())
    assert metrics["train/loss_now"] == pytest.approx(surprise.item())


def test_without_a_horizon_there_is_no_decoder() -> None:
    detector = shaken(horizon=0)
    assert not [name for name, _ in detector.named_parameters() if "decoder" in name or "queries" in name]
    told = detector(sequences(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    assert (told.now.shape, told.future.shape) == ((2, 3, 3), (2, 3, 0, 3))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UsageError, match="3 heads do not divide the width 16"):
        shaken(heads=3)
