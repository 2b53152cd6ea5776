"""IDN: its unit worked out in float64 numpy, what it becomes in a case that is known, and its three losses by loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from perception.detection_samples import CLASSES, FEATURES, delayed_streams, sequences, small_config, window_sampler

from rlkit.data.streams import StreamSet
from rlkit.perception.detection.detector import DetectionTask, WindowBatch
from rlkit.perception.detection.idn import DiscriminationUnit, IDNConfig, IDNDetector
from rlkit.types import Array, Floats


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def small_unit(width: int = 4) -> DiscriminationUnit:
    generator = torch.Generator().manual_seed(1)
    unit = DiscriminationUnit(width, generator)
    with torch.no_grad():  # biases too, which are zero at first
        for parameter in unit.parameters():
            parameter.uniform_(-1, 1, generator=generator)
    return unit


def small_idn(ambiguous: int | None = None, **changes: object) -> IDNDetector:
    config = small_config("idn", **{"width": 4, "window": 5, **changes})
    return IDNDetector(config, DetectionTask(FEATURES, CLASSES, ambiguous, seed=3)).eval()  # type: ignore[arg-type]


def first_batch(detector: IDNDetector, streams: StreamSet) -> WindowBatch:
    return WindowBatch.of(next(window_sampler(streams, detector.config)), torch.device("cpu"))


def windows(count: int, length: int, width: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, length, width, generator=torch.Generator().manual_seed(seed))


def everything(x: torch.Tensor) -> torch.Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool)


def test_a_window_is_read_by_the_equations() -> None:
    detector, x = small_idn(), sequences(1, 5)
    named = {name: each.detach().double().numpy() for name, each in detector.unit.named_parameters()}
    (w_xz, w_xh), (w_0r, w_0z), (w_hr, w_hh) = (
        np.split(named[f"{of}.weight"], 2) for of in ("of_frame", "of_current", "of_state")
    )
    early = np.maximum(x[0].double().numpy() @ detector.early.weight.detach().double().numpy().T, 0)
    current, h = early[-1], np.zeros(4)
    for frame in early[1:]:  # the first is missing
        r, z = sigmoid(w_hr @ h + w_0r @ current), sigmoid(w_xz @ frame + w_0z @ current)
        h = (1 - z) * np.tanh(w_xh @ frame + r * (w_hh @ h)) + z * h
    is_there = torch.tensor([[False, True, True, True, True]])
    found = detector.unit(detector.embedded(x), is_there)[0, -1]
    np.testing.assert_allclose(found.detach(), h, atol=1e-6)
    assert np.abs(h).max() > 0.01
    logits = detector.head.now(detector.hidden(found))
    torch.testing.assert_close(detector.read(x, is_there).now[0], logits)


def test_where_all_frames_are_the_last_it_is_a_gru_with_tied_inputs() -> None:
    unit = small_unit()
    (w_xz, w_xh), (w_0r, w_0z), (w_hr, w_hh) = (
        layer.weight.detach().chunk(2) for layer in (unit.of_frame, unit.of_current, unit.of_state)
    )
    (b_xz, b_xh), (b_0r, b_0z), (b_hr, b_hh) = (
        layer.bias.detach().chunk(2) for layer in (unit.of_frame, unit.of_current, unit.of_state)
    )
    cell = torch.nn.GRUCell(4, 4)
    nothing = torch.zeros(4, 4)
    tied = {
        "weight_ih": torch.cat((w_0r, w_xz + w_0z, w_xh)), "weight_hh": torch.cat((w_hr, nothing, w_hh)),
        "bias_ih": torch.cat((b_0r, b_xz + b_0z, b_xh)), "bias_hh": torch.cat((b_hr, nothing[0], b_hh)),
    }  # fmt: skip
    cell.load_state_dict(tied)
    frame = windows(3, 1)
    found, h = unit(frame.expand(3, 6, 4), torch.ones(3, 6, dtype=torch.bool)), torch.zeros(3, 4)
    for place in range(6):
        h = cell(frame[:, 0], h)
        torch.testing.assert_close(found[:, place], h)
    assert (found[:, 5] - found[:, 0]).abs().min(1).values.max() > 1e-3


def test_another_last_frame_changes_what_is_kept_of_the_same_past() -> None:
    unit, x = small_unit(), windows(1, 6)
    other = torch.cat((x[:, :-1], windows(1, 1, seed=5)), 1)
    found, changed = unit(x, everything(x)), unit(other, everything(x))
    assert (found[:, :-1] - changed[:, :-1]).abs().amax(-1).min() > 1e-3  # from the first state on


def test_what_is_missing_does_not_count() -> None:
    unit, x = small_unit(), windows(2, 6)
    is_there = torch.tensor([[False, False, True, True, True, True], [True] * 6])
    found = unit(x, is_there)
    torch.testing.assert_close(found[:1, 2:], unit(x[:1, 2:], everything(x[:1, 2:])))
    assert found[0, :2].abs().max() == 0


def losses_by_loops(detector: IDNDetector, batch: WindowBatch, counts: Array) -> tuple[float, float]:
    """The two losses of the early embedding."""
    labels = batch.labels.argmax(-1).numpy()
    with torch.no_grad():
        early = detector.embedded(batch.features)
        logits = detector.tell_early(early).double()
        if detector.task.ambiguous is not None:
            logits[..., detector.task.ambiguous] = -torch.inf
        told = logits.log_softmax(-1).numpy()
    early = early.double().numpy()
    rows, length = counts.shape
    costs = [-told[row, t, labels[row, t]] for row in range(rows) for t in range(length) if counts[row, t]]
    of_last = [-told[row, -1, labels[row, length - 1]] for row in range(rows) if counts[row, -1]]
    pairs = []
    for row in range(rows):
        for t in range(length - 1):
            if counts[row, t] and counts[row, -1]:
                distance = np.linalg.norm(early[row, t] - early[row, -1])
                alike = labels[row, t] == labels[row, length - 1]
                pairs.append(distance**2 / 2 if alike else max(0.8 - distance, 0) ** 2 / 2)
    return float(np.mean(costs) + np.mean(of_last)), float(np.mean(pairs))


@pytest.mark.parametrize("ambiguous", [None, 1])
@pytest.mark.parametrize("loss_on", ["last", "all"])
def test_the_loss_is_that_of_the_frame_and_those_of_the_early_embedding(ambiguous: int | None, loss_on: str) -> None:
    detector = small_idn(ambiguous, margin=0.8, loss_on=loss_on)
    batch = first_batch(detector, delayed_streams(2, 8))
    counts = batch.is_there[:, :5].numpy()
    if ambiguous is not None:
        counts = counts & (batch.labels[:, :5, ambiguous] == 0).numpy()
    classes, pairs = losses_by_loops(detector, batch, counts)
    loss, metrics = detector.loss(batch)
    assert metrics["train/loss_early"] == pytest.approx(classes, rel=1e-5)
    assert metrics["train/loss_pairs"] == pytest.approx(pairs, rel=1e-5)
    told = metrics["train/loss_now"] + 0.5 * metrics["train/loss_future"]
    assert loss.item() == pytest.approx(told + 0.3 * (classes + pairs), rel=1e-5)


def test_windows_without_pairs_have_no_loss_of_them() -> None:
    detector = small_idn(window=1)
    loss, metrics = detector.loss(first_batch(detector, delayed_streams(1, 8)))
    assert metrics["train/loss_pairs"] == 0.0
    assert torch.isfinite(loss)


def test_its_window_is_the_papers() -> None:
    assert (IDNConfig().window, IDNConfig().early_weight) == (16, 0.3)
