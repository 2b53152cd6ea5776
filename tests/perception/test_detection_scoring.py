"""How detectors are judged on streams: what is counted, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from rlkit.data.streams import LabelledStream, StreamSet
from rlkit.perception.detection.scoring import StreamScores, absent_classes, detection_quality, horizons

CLASSES = ("background", "jump", "run")


def streams(*numbers: list[int], ambiguous: int | None = None) -> StreamSet:
    made = [
        LabelledStream(str(place), np.zeros((len(each), 1), np.float32), np.eye(3, dtype=np.uint8)[each])
        for place, each in enumerate(numbers)
    ]
    return StreamSet(CLASSES, tuple(made), ambiguous=ambiguous)


def told(jump: list[float], future: list[list[float]] | None = None) -> StreamScores:
    now = np.stack([1 - np.array(jump), jump, np.zeros(len(jump))], 1).astype(np.float32)
    ahead = np.zeros((len(jump), 0, 3), np.float32)
    if future is not None:
        ahead = np.zeros((len(jump), len(future[0]), 3), np.float32)
        ahead[..., 1] = future
    return StreamScores(now, ahead)


def test_means_are_over_classes_that_occur_without_background() -> None:
    quality = detection_quality(streams([0, 1, 0, 1]), [told([0.9, 0.8, 0.2, 0.7])])
    assert quality["ap_jump"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert quality["map"] == quality["ap_jump"]
    assert "ap_run" not in quality
    assert absent_classes(streams([0, 1, 0, 1])) == ["run"]


def test_what_comes_is_compared_with_what_came_within_the_stream() -> None:
    """The score of frame t for t + 2; the second stream is too short to have such a frame."""
    future = [[0.0, 0.1], [0.0, 0.9], [0.0, 0.5], [0.0, 0.5]]
    quality = detection_quality(streams([0, 0, 0, 1], [1]), [told([0.0] * 4, future), told([1.0], [[1.0, 1.0]])])
    assert quality["map_ahead_2"] == 1.0  # frames 0 and 1 tell of 2 and 3: scores 0.1 and 0.9, truth 0 and 1
    assert quality["map_ahead_1"] == pytest.approx(1 / 3)  # all scores are equal


def test_ambiguous_frames_are_left_out() -> None:
    found = detection_quality(streams([0, 2, 1, 0], ambiguous=2), [told([0.1, 0.9, 0.8, 0.3])])
    assert found["ap_jump"] == 1.0
    assert "ap_run" not in found


def test_horizons_double() -> None:
    assert [horizons(frames) for frames in (0, 1, 6, 8)] == [[], [1], [1, 2, 4, 6], [1, 2, 4, 8]]
