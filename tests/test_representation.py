"""The alarm over collapsed features: it names what it sees, once, and only where it stays."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rlkit.data.clips import Recording
from rlkit.loop import Session
from rlkit.representation import Representation, nearest_neighbour_accuracy
from rlkit.types import Progress, Task

RECORDING = Recording(np.random.default_rng(0).integers(0, 255, (40, 1, 8, 8), np.uint8), np.zeros(40, np.int64))
HEALTHY = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
ALIKE = torch.ones(40, 16) + 1e-4 * HEALTHY
ON_A_LINE = torch.linspace(-1, 1, 40)[:, None] * torch.ones(16)


def looks(
    folder: Path, features: Callable[[], Tensor], losses: list[float], uninformed: float | None = None
) -> Representation:
    """A look after each update with such a loss."""
    hook = Representation(1, lambda pictures: features(), RECORDING, uninformed, 0, folder)
    session = Session(Task(RECORDING_SPACE, spaces.Discrete(1)), len(losses), [hook], np.random.default_rng(0))
    session.start()
    for number, loss in enumerate(losses, 1):
        session.advance(Progress(number, metrics={"train/loss": loss}))
        session.metrics.take()
    return hook


RECORDING_SPACE = spaces.Box(0, 255, (1, 8, 8), np.uint8)


def falling(to: Tensor) -> Callable[[], Tensor]:
    """Healthy before any learning, then something else."""
    seen: list[int] = []

    def features() -> Tensor:
        seen.append(1)
        return HEALTHY if len(seen) == 1 else to

    return features


@pytest.mark.parametrize(("to", "told"), [(ALIKE, "hardly differ between pictures"), (ON_A_LINE, "lie on a line")])
def test_features_that_become_alike_or_lie_on_a_line_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, to: Tensor, told: str
) -> None:
    looks(tmp_path, falling(to), [1.0])
    assert "collapse" not in caplog.text, "one look may be a passing one"
    looks(tmp_path, falling(to), [1.0] * 5)
    assert sum(told in record.message for record in caplog.records) == 1
    assert "--method.learning-rate" in caplog.text


def test_a_loss_that_sits_at_its_known_constant_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    looks(tmp_path, lambda: HEALTHY, [4.0, 3.47, 3.0, 2.0], uninformed=float(np.log(32)))
    assert "collapse" not in caplog.text, "it only passed through"
    looks(tmp_path, lambda: HEALTHY, [3.47, 3.46, 3.47], uninformed=float(np.log(32)))
    assert "that of an encoder that tells nothing (3.46" in caplog.text


def test_healthy_features_and_those_that_were_alike_from_the_start_raise_no_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    looks(tmp_path, lambda: HEALTHY, [1.0] * 4, uninformed=3.0)
    looks(tmp_path, lambda: ALIKE, [1.0] * 4)
    assert caplog.records == []


def test_a_restored_alarm_remembers_what_it_saw(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = looks(tmp_path, falling(ALIKE), [1.0] * 3)
    second = Representation(1, lambda pictures: ALIKE, RECORDING, None, 0, tmp_path)
    second.load_state(first.state())
    caplog.clear()
    session = Session(Task(RECORDING_SPACE, spaces.Discrete(1)), 3, [second], np.random.default_rng(0))
    session.start()
    session.advance(Progress(1))
    assert caplog.records == []
    assert second.state() == first.state()


def test_neighbours_tell_classes_that_features_tell_and_no_others() -> None:
    classes = torch.arange(60) % 3
    corners = torch.nn.functional.one_hot(classes).float() + 0.01 * torch.randn(60, 3)
    assert nearest_neighbour_accuracy(corners, classes) == 1.0
    unrelated = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    assert nearest_neighbour_accuracy(unrelated, classes) < 0.6
