"""LSTR: two stages over the long memory, asked by the work memory."""

from __future__ import annotations

import pytest
import torch
from perception.attention_reference import decoded, linear, normed, under, weights_of
from perception.detection_samples import sequences, small_config, small_task
from torch import Tensor

from rlkit.perception.detection.lstr import LSTR, LSTRConfig


def made(**changes: object) -> LSTR:
    """With every weight drawn, so that nothing is hidden by a zero."""
    config = small_config("lstr", **changes)
    assert isinstance(config, LSTRConfig)
    detector = LSTR(config, small_task()).eval()
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.normal_(std=0.3, generator=detector.generator)
    return detector


@torch.inference_mode()
@pytest.mark.parametrize("missing", [0, 2])
def test_a_window_is_read_in_two_stages_and_by_the_work_memory(missing: int) -> None:
    detector, x = made(work=3, queries=5, second_queries=4), sequences(1, 8)
    is_there = torch.arange(8)[None] >= missing
    w, found = weights_of(detector), detector.read(x, is_there)
    work = under(w, "work_memory")
    tokens = normed(linear(x[0].double(), w, "embed.0"), w, "embed.1").relu()
    old = (tokens[:5] + w["position"])[missing:]
    memory = decoded(w["queries"], old, under(w, "first"), 1, 4, None)
    memory = decoded(work["queries"], memory, under(work, "second"), 2, 4, None)
    causal = torch.ones(3, 3, dtype=torch.bool).tril()
    last = decoded(tokens[5:] + work["position"], memory, under(work, "decoder"), 2, 4, causal)[-1]
    torch.testing.assert_close(found.now[0].double(), linear(last, work, "head.now"), atol=1e-4, rtol=1e-4)
    future = linear(last, work, "head.future").view(2, 3)
    torch.testing.assert_close(found.future[0].double(), future, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_without_a_long_memory_yet_it_is_told_from_the_work_memory() -> None:
    """Beside a stream whose window is full, as in a batch; what stands before the stream is not seen."""
    detector, x = made(work=4), sequences(2, 8)
    is_there = torch.ones(2, 8, dtype=torch.bool)
    is_there[0, :6] = False
    now = detector.read(x, is_there).now
    assert now.isfinite().all()
    other = torch.cat((sequences(1, 6, seed=3), x[:1, 6:]), 1)
    torch.testing.assert_close(detector.read(other, is_there[:1]).now, now[:1], atol=1e-5, rtol=1e-5)
    alone = detector.read(x[:1, 6:], is_there[:1, 6:]).now
    torch.testing.assert_close(alone, now[:1], atol=1e-5, rtol=1e-5)


def reached(detector: LSTR, x: Tensor) -> list[bool]:
    """Which frames of a window [1, W, C] its last frame depends on."""
    is_there = torch.ones(x.shape[:2], dtype=torch.bool)
    now, found = detector.read(x, is_there).now, []
    for frame in range(x.shape[1]):
        changed = x.clone()
        changed[:, frame] += 1
        found.append(bool((detector.read(changed, is_there).now - now).abs().max() > 1e-6))
    return found


@torch.inference_mode()
def test_the_last_window_of_frames_counts_and_nothing_older() -> None:
    assert reached(made(work=2), sequences(1, 10)) == [False] * 2 + [True] * 8


@torch.no_grad()
def test_the_order_of_old_frames_is_told_by_their_positions_alone() -> None:
    detector, x = made(work=2).double(), sequences(1, 8).double()
    is_there = torch.ones(1, 8, dtype=torch.bool)
    swapped = x[:, [3, 0, 2, 1, *range(4, 8)]]

    def difference() -> float:
        return float((detector.read(x, is_there).now - detector.read(swapped, is_there).now).abs().max())

    assert difference() > 1e-6
    detector.position.zero_()
    assert difference() < 1e-12
