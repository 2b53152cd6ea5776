"""Early detection of whole files, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rlkit.perception.detection.earliness import score_early
from rlkit.perception.detection.protocols import ClassList, Protocol
from rlkit.types import Array

OWN = Protocol("own")


def told(frames: list[float]) -> Array:
    """Of a jump; the rest is background."""
    return np.stack([1 - np.array(frames), np.array(frames)], axis=1)


def shown(text: str) -> Array:
    return np.eye(2, dtype=np.uint8)[[int(mark) for mark in text]]


def test_each_action_is_a_sequence_from_the_last_one_on() -> None:
    """Told in the second of four frames, and too soon: once the first action of the second video is over."""
    truth = {"a": shown("001111"), "b": shown("110011")}
    scores = {"a": told([0.1, 0.1, 0.2, 0.9, 0.9, 0.9]), "b": told([0.9, 0.9, 0.1, 0.6, 0.9, 0.9])}
    classes = ClassList.named(["background", "jump"])
    found = score_early(scores, truth, OWN, classes, false_positive_rate=0.0)
    assert found.actions == 3
    assert found.times() == {"jump": pytest.approx((2 / 4 + 1 / 2 + 1 / 2) / 3)}, "at 0.9"
    lax = score_early(scores, truth, OWN, classes, false_positive_rate=0.4)
    assert lax.times() == {"jump": pytest.approx((1 / 4 + 1 / 2 + 0) / 3)}, "at 0.2"
    assert np.isnan(found.accuracy).all(), "one class is no choice"
    assert found.record()["accuracy"]["0.5"] is None


def test_classes_are_told_apart_after_a_part_of_each_action() -> None:
    classes = ClassList.named(["background", "jump", "throw"])
    truth = np.eye(3, dtype=np.uint8)[[0, 0, *[1] * 10, 0, *[2] * 10]]
    scores = np.full((23, 3), 0.1)
    scores[2:12, 1] = 0.5  # a jump from the first frame on
    scores[13:18, 1], scores[18:23, 2] = 0.4, 0.8  # a throw, taken for a jump at first: told from the eighth frame on
    found = score_early({"v": scores}, {"v": truth}, OWN, classes, false_positive_rate=1.0)
    assert found.accuracy == (0.5,) * 7 + (1.0,) * 3
    assert found.times() == {"jump": 0.0, "throw": 0.0}, "at a threshold that is always reached"
    assert found.mean_time() == 0.0


def test_a_class_that_never_occurs_has_no_time() -> None:
    classes = ClassList.named(["background", "jump", "throw"])
    truth = np.eye(3, dtype=np.uint8)[[0, 1, 1]]
    found = score_early({"v": truth * 0.9}, {"v": truth}, OWN, classes)
    assert found.record()["time_to_detect"] == {"jump": 0.5, "throw": None}
    assert found.mean_time() == 0.5
