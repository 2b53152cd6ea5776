"""TRN: two frames worked out in float64 numpy from its equations, and what its parts are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from perception.detection_samples import delayed_streams, sequences, small_config, small_task, window_sampler
from pydantic import ValidationError

from rlkit.perception.detection.detector import Memory, WindowBatch
from rlkit.perception.detection.trn import TRNConfig, TRNDetector
from rlkit.types import Floats


def small_trn(**changes: object) -> TRNDetector:
    detector = TRNDetector(small_config("trn", **{"width": 4, "horizon": 3, **changes}), small_task())  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # biases too, which are zero at first
        for parameter in detector.parameters():
            parameter.uniform_(-1, 1, generator=generator)
    return detector.eval()


def linear(detector: TRNDetector, name: str, x: Floats) -> Floats:
    layer = detector.get_submodule(name)
    weight, bias = (getattr(layer, kind).detach().double().numpy() for kind in ("weight", "bias"))
    return np.asarray(x @ weight.T + bias)


def lstm(detector: TRNDetector, name: str, x: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Hochreiter and Schmidhuber 1997 with a forget gate; torch's order of gates."""
    cell = detector.get_submodule(name)
    w_x, w_h, b_x, b_h = (parameter.detach().double().numpy() for parameter in cell.parameters())
    i, f, g, o = np.split(w_x @ x + b_x + w_h @ h + b_h, 4)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    c = f * c + i * np.tanh(g)
    return o * np.tanh(c), c


def embedded(detector: TRNDetector, x: Floats) -> Floats:
    y = linear(detector, "embed.0", x)
    norm = detector.get_submodule("embed.1")
    weight, bias = (parameter.detach().double().numpy() for parameter in norm.parameters())
    return np.maximum((y - y.mean()) / np.sqrt(y.var() + 1e-5) * weight + bias, 0)


def test_two_frames_are_those_of_the_equations() -> None:
    detector, x = small_trn(), sequences(1, 2)
    h, c, expected = np.zeros(4), np.zeros(4), np.zeros(4)
    found = detector(x, torch.zeros(1, 2, dtype=torch.bool))
    for frame in range(2):
        features = embedded(detector, x[0, frame].double().numpy())
        h, c = lstm(detector, "encoder", np.concatenate([features, expected]), h, c)
        np.testing.assert_allclose(found.now[0, frame].detach(), linear(detector, "classify", h), atol=1e-5)
        ahead = np.maximum(linear(detector, "first_hidden", h), 0)
        cell = np.maximum(linear(detector, "first_cell", c), 0)
        given, gathered = np.zeros(4), []
        for step in range(3):
            ahead, cell = lstm(detector, "decoder", given, ahead, cell)
            told = linear(detector, "classify", ahead)
            np.testing.assert_allclose(found.future[0, frame, step].detach(), told, atol=1e-5)
            given = np.maximum(linear(detector, "feed", told), 0)
            gathered.append(np.maximum(linear(detector, "gather", ahead), 0))
        expected = np.mean(gathered, 0)
    assert expected.max() > 0.1  # or x̃ says nothing


def test_what_is_expected_changes_the_next_frame_and_not_the_present_one() -> None:
    detector, x = small_trn(), sequences(1, 2)
    other = small_trn()
    with torch.no_grad():
        other.get_submodule("gather").bias.add_(1.0)  # type: ignore[operator, union-attr]
    nothing_ends = torch.zeros(1, 2, dtype=torch.bool)
    found, changed = detector(x, nothing_ends), other(x, nothing_ends)
    assert torch.equal(found.now[:, 0], changed.now[:, 0])
    assert torch.equal(found.future[:, 0], changed.future[:, 0])
    assert (found.now[:, 1] - changed.now[:, 1]).abs().max() > 1e-3


def test_a_stream_that_begins_anew_expects_nothing() -> None:
    detector, x = small_trn(), sequences(2, 1)[:, 0]
    memory: Memory = detector.step(x, detector.empty(2))[1]
    assert all(state.abs().sum(1).min() > 0 for state in memory)
    memory = detector.reset(memory, torch.tensor([True, False]))
    assert all(state[0].abs().max() == 0 and state[1].abs().max() > 0 for state in memory)


def test_the_loss_is_that_of_encoder_and_decoder_over_all_frames() -> None:
    detector = small_trn(window=5)
    batch = WindowBatch.of(next(window_sampler(delayed_streams(2, 20), detector.config)), torch.device("cpu"))
    loss, metrics = detector.loss(batch)
    found = detector(batch.features, batch.is_first)
    there, labels = batch.is_there, batch.labels.argmax(-1)
    now = [
        -found.now[row, frame].log_softmax(-1)[labels[row, frame]].item()
        for row in range(len(labels)) for frame in range(5) if there[row, frame]
    ]  # fmt: skip
    future = [
        -found.future[row, frame, ahead].log_softmax(-1)[labels[row, frame + 1 + ahead]].item()
        for row in range(len(labels)) for frame in range(5) for ahead in range(3)
        if there[row, frame] and there[row, frame + 1 + ahead]
    ]  # fmt: skip
    assert not there.all()
    assert loss.item() == pytest.approx(np.mean(now) + np.mean(future), rel=1e-5)
    assert metrics["train/loss_now"] == pytest.approx(np.mean(now), rel=1e-5)


def test_nothing_ahead_is_refused() -> None:
    with pytest.raises(ValidationError, match="horizon"):
        TRNConfig(horizon=0)
