"""Accuracy by the part of an action that is seen, on cases worked out by hand."""

from __future__ import annotations

import numpy as np

from rlkit.ops.early_recognition import TENTHS, early_accuracy


def test_an_action_is_told_by_the_mean_of_what_is_seen() -> None:
    """Of five frames: after 2/5 the means are 0.55 and 0.45, after 3/5 0.43 and 0.57."""
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.9, 0.1], [0.9, 0.1]])
    parts = [0.2, 0.4, 0.6, 0.8, 1.0]
    first, second = (np.tile(np.eye(2)[k], (5, 1)) for k in (0, 1))
    assert early_accuracy([scores], [second], parts).tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert early_accuracy([scores, scores], [first, second], parts).tolist() == [0.5] * 5


def test_of_actions_at_once_any_that_has_been_seen_is_right() -> None:
    scores, labels = np.tile([0.2, 0.9], (4, 1)), np.array([[1, 0], [1, 0], [1, 1], [1, 0]])
    assert early_accuracy([scores], [labels], [0.25, 0.5, 0.75, 1.0]).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_a_part_of_a_frame_is_a_frame() -> None:
    """Of ten frames seven are seven tenths, though 0.7 * 10 is more than 7; of three, a tenth is the first."""
    scores = np.eye(2)[[0] * 7 + [1] * 3] * np.array([1.0, 9.0])
    assert early_accuracy([scores], [np.tile([1, 0], (10, 1))]).tolist() == [1.0] * 7 + [0.0] * 3
    second = np.tile([0, 1], (3, 1))
    assert early_accuracy([np.eye(2)[[1, 0, 0]]], [second], [0.1, 0.33, 0.34, 0.9]).tolist() == [1, 1, 0, 0]


def test_it_equals_a_loop_over_frames() -> None:
    rng = np.random.default_rng(0)
    scores = [rng.random((int(length), 3)) for length in rng.integers(1, 30, 40)]
    classes = rng.integers(0, 3, 40)
    labels = [np.tile(np.eye(3)[k], (len(each), 1)) for each, k in zip(scores, classes, strict=True)]
    for part, found in zip(TENTHS, early_accuracy(scores, labels), strict=True):
        tenths = round(10 * part)
        right = [
            each[: -(-tenths * len(each) // 10)].mean(0).argmax() == k for each, k in zip(scores, classes, strict=True)
        ]
        assert found == np.mean(right)


def test_nothing_to_tell_is_nan() -> None:
    assert np.isnan(early_accuracy([], [])).all()
