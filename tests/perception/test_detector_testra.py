"""TeSTra: the whole past by its explicit sums, the work memory beside it, and a state that lasts."""

from __future__ import annotations

import pytest
import torch
from perception.attention_reference import (
    Weights,
    decoded,
    linear,
    normed,
    perceptron,
    under,
    weights_of,
)
from perception.detection_samples import delayed_streams, sequences, small_config, small_task, window_sampler
from pydantic import ValidationError
from torch import Tensor

from rlkit.perception.detection.detector import WindowBatch
from rlkit.perception.detection.testra import TeSTra, TeSTraConfig


def made(**changes: object) -> TeSTra:
    """With every weight drawn, so that nothing is hidden by a zero."""
    config = small_config("testra", **changes)
    assert isinstance(config, TeSTraConfig)
    detector = TeSTra(config, small_task()).eval()
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.normal_(std=0.3, generator=detector.generator)
    return detector


def read_work(tokens: Tensor, memory: Tensor, w: Weights, heads: int) -> Tensor:
    """The last of tokens [S, width] beside a first stage's tokens [M, width]."""
    memory = decoded(w["queries"], memory, under(w, "second"), 2, heads, None)
    causal = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
    positions = w["position"][-len(tokens) :]
    return decoded(tokens + positions, memory, under(w, "decoder"), 2, heads, causal)[-1]


@torch.inference_mode()
def test_a_frame_is_told_from_decayed_sums_and_the_last_frames() -> None:
    detector, x = made(work=3, queries=5, second_queries=4, decay=0.8), sequences(1, 9)
    w, found = weights_of(detector), detector(x, torch.zeros(1, 9, dtype=torch.bool))
    past, work = under(w, "past"), under(w, "work_memory")
    tokens = normed(linear(x[0].double(), w, "embed.0"), w, "embed.1").relu()
    k, v = linear(normed(tokens, past, "token_norm"), past, "key_value").chunk(2, -1)
    q = linear(normed(past["queries"], past, "query_norm"), past, "query")
    for frame in (0, 1, 8):
        age = torch.arange(frame, -1, -1, dtype=torch.float64)
        out = []
        for head in range(4):
            part = slice(4 * head, 4 * head + 4)
            weight = (q[:, part] @ k[: frame + 1, part].T / 2).exp() * 0.8**age
            out.append(weight @ v[: frame + 1, part] / weight.sum(1, keepdim=True))
        gathered = past["queries"] + linear(torch.cat(out, 1), past, "merge")
        gathered = gathered + perceptron(gathered, past)
        last = read_work(tokens[max(frame - 2, 0) : frame + 1], gathered, work, 4)
        torch.testing.assert_close(found.now[0, frame].double(), linear(last, work, "head.now"), atol=1e-4, rtol=1e-4)
        future = linear(last, work, "head.future").view(2, 3)
        torch.testing.assert_close(found.future[0, frame].double(), future, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize(("decay", "counts"), [(1.0, True), (0.97, True), (0.3, False)])
def test_a_frame_that_left_every_window_counts_by_its_age(decay: float, counts: bool) -> None:
    detector, x = made(decay=decay), sequences(1, 40)
    is_first, changed = torch.zeros(1, 40, dtype=torch.bool), x.clone()
    changed[:, 0] = sequences(1, 1, seed=7)[:, 0]
    differs = (detector(x, is_first).now - detector(changed, is_first).now)[:, -1].abs().max()
    assert (differs > 1e-5) == counts


@torch.inference_mode()
def test_a_long_stream_that_drifts_stays_finite_and_is_the_sequence() -> None:
    detector = made(work=2)
    x = sequences(1, 150) + torch.linspace(0, 50, 150)[None, :, None]
    whole, memory = detector(x, torch.zeros(1, 150, dtype=torch.bool)), detector.empty(1)
    for frame in x.unbind(1):
        told, memory = detector.step(frame, memory)
    torch.testing.assert_close(told.now, whole.now[:, -1], atol=1e-4, rtol=1e-4)
    assert all(part.isfinite().all() for part in memory if part.is_floating_point())


def test_learning_the_last_frame_reads_it_alone() -> None:
    detector, config = made(), small_config("testra")
    batch = WindowBatch.of(next(window_sampler(delayed_streams(1, 20), config)), torch.device("cpu"))
    last = detector(batch.features, batch.is_first).now[:, -1]
    surprise = -last.log_softmax(-1)[batch.labels[:, 7].bool()].mean()
    assert detector.loss(batch)[1]["train/loss_now"] == pytest.approx(surprise.item(), rel=1e-4)


def test_the_work_memory_is_shorter_than_the_window() -> None:
    assert [TeSTraConfig(window=window).work_frames for window in (2, 8, 64, 256)] == [1, 4, 32, 32]
    with pytest.raises(ValidationError, match="the work memory has 8 frames and the window 8: choose a longer window"):
        small_config("testra", work=8)
