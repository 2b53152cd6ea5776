"""Streaming OadTR: a causal band in every layer, and a step that is the sequence however long it lasts."""

from __future__ import annotations

import pytest
import torch
from perception.attention_reference import linear, normed, under, weights_of
from perception.detection_samples import delayed_streams, sequences, small_config, small_task, window_sampler
from pydantic import ValidationError

from rlkit.attention.rope import rotary_angles, rotated
from rlkit.perception.detection.detector import WindowBatch
from rlkit.perception.detection.streaming_oadtr import StreamingOadTR, StreamingOadTRConfig


def made(**changes: object) -> StreamingOadTR:
    config = small_config("oadtr-streaming", **changes)
    assert isinstance(config, StreamingOadTRConfig)
    return StreamingOadTR(config, small_task()).eval()


@torch.inference_mode()
def test_one_layer_is_rotary_attention_to_the_band() -> None:
    detector, x = made(layers=1, heads=1, band=3), sequences(1, 7)
    w = weights_of(detector)
    tokens = linear(x[0].double(), w, "core.embed")
    of = under(w, "core.blocks.0")
    q, k, v = linear(normed(tokens, of, "attention_norm"), under(of, "attention"), "project").chunk(3, -1)
    angles = rotary_angles(torch.arange(7), 16)
    logits = rotated(q, angles) @ rotated(k, angles).T / 4
    place = torch.arange(7)
    seen = (place[None] <= place[:, None]) & (place[None] > place[:, None] - 3)
    out = torch.where(seen, logits, -torch.inf).softmax(-1) @ v
    tokens = tokens + linear(out, under(of, "attention"), "merge")
    hidden = linear(normed(tokens, of, "perceptron_norm"), of, "widen")
    tokens = normed(tokens + linear(torch.nn.functional.gelu(hidden), of, "narrow"), under(w, "core"), "norm")
    told = detector(x, torch.zeros(1, 7, dtype=torch.bool))
    torch.testing.assert_close(told.now[0].double(), linear(tokens, w, "head.now"), atol=1e-5, rtol=1e-5)
    future = linear(tokens, w, "head.future").view(7, 2, 3)
    torch.testing.assert_close(told.future[0].double(), future, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_layers_see_one_band_after_another_and_nothing_older() -> None:
    """With bands of 3 frames two layers reach 4 frames back."""
    detector, x = made(layers=2, band=3), sequences(1, 12)
    is_first, changed = torch.zeros(1, 12, dtype=torch.bool), x.clone()
    changed[:, 4] = sequences(1, 1, seed=5)[:, 0]
    differs = (detector(x, is_first).now != detector(changed, is_first).now).any(-1)[0]
    assert differs.tolist() == [4 <= frame <= 8 for frame in range(12)]


def test_the_band_is_the_window_unless_it_is_told() -> None:
    assert made().core.context == 8
    assert made(band=5).core.context == 5


@pytest.mark.parametrize(("changes", "learned"), [({}, 4), ({"burn_in": 6}, 2), ({"loss_on": "last"}, 1)])
def test_frames_with_little_before_them_are_not_learned(changes: dict[str, object], learned: int) -> None:
    detector, config = made(**changes), small_config("oadtr-streaming")
    batch = WindowBatch.of(next(window_sampler(delayed_streams(), config)), torch.device("cpu"))
    now = detector(batch.features, batch.is_first).now[:, -learned:]
    there, labels = batch.is_there[:, 8 - learned : 8], batch.labels[:, 8 - learned : 8].bool()
    surprise = -now.log_softmax(-1)[labels & there[..., None]].mean()
    assert detector.loss(batch)[1]["train/loss_now"] == pytest.approx(surprise.item(), rel=1e-5)


def test_a_burn_in_that_leaves_nothing_to_learn_is_refused() -> None:
    with pytest.raises(ValidationError, match="burn_in is 8 and the window has 8 frames"):
        small_config("oadtr-streaming", burn_in=8)


@pytest.mark.slow
@torch.inference_mode()
def test_ten_thousand_frames_with_resets_are_the_full_banded_forward() -> None:
    detector, x = made(layers=2, band=16), sequences(3, 10_000)
    is_first = torch.rand(3, 10_000, generator=torch.Generator().manual_seed(2)) < 0.0005
    is_first[2] = False  # a stream that never ends
    assert is_first[:2].sum(1).min() > 2
    whole, memory, now, future = detector(x, is_first), detector.empty(3), [], []
    for frame in range(10_000):
        detections, memory = detector.step(x[:, frame], detector.reset(memory, is_first[:, frame]))
        now.append(detections.now)
        future.append(detections.future)
    torch.testing.assert_close(torch.stack(now, 1), whole.now, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.stack(future, 1), whole.future, atol=1e-5, rtol=0)
    assert whole.now.std(1).min() > 1e-3


@torch.inference_mode()
def test_a_thousand_bands_later_a_step_is_what_it_is_at_the_beginning() -> None:
    """Only the last band counts in one layer, and where it stands in the stream does not."""
    detector, x = made(layers=1, band=4), sequences(2, 4)
    memory = detector.empty(2)
    for frame in sequences(2, 400, seed=3).unbind(1):
        memory = detector.step(frame, memory)[1]
    for frame in x.unbind(1):
        told, memory = detector.step(frame, memory)
    alone = detector(x, torch.zeros(2, 4, dtype=torch.bool)).now[:, -1]
    torch.testing.assert_close(told.now, alone, atol=1e-5, rtol=1e-5)
