"""Intervals to labels and back, by rules whose difference is worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlkit.data.intervals import LABEL_RULES, Intervals, LabelRule, frame_labels, label_intervals
from rlkit.errors import DatasetError, UsageError

FLOOR_CEIL = LABEL_RULES["lstr"]


def frames_of(rows: list[tuple[float, float, int]], rule: LabelRule, length: int = 12, **options: Any) -> list[int]:
    """Frames of class 1."""
    return np.flatnonzero(frame_labels(Intervals.of(rows), length, 3, rule, **options)[:, 1]).tolist()


def test_each_rule_has_its_own_frames_of_one_interval() -> None:
    """0.6 to 1.3 s at 4 a second is 2.4 to 5.2 frames."""
    rules = {name: replace(rule, frames_per_second=4.0) for name, rule in LABEL_RULES.items()}
    found = {name: frames_of([(0.6, 1.3, 1)], rule) for name, rule in rules.items()}
    floor_ceil, middle = [2, 3, 4, 5], [2, 3, 4]
    assert found == {
        "lstr": floor_ceil, "miniroad": floor_ceil, "testra": floor_ceil, "oadtr": floor_ceil, "idn": floor_ceil,
        "woad": [2, 3, 4, 5], "middle": middle,
    }  # fmt: skip


def test_an_interval_that_stops_where_a_frame_begins_has_that_frame_by_woads_rule_alone() -> None:
    assert frames_of([(0.5, 1.0, 1)], FLOOR_CEIL) == [2, 3]
    assert frames_of([(0.5, 1.0, 1)], LABEL_RULES["woad"]) == [2, 3, 4]


def test_a_frame_whose_middle_is_the_start_is_in_and_one_whose_middle_is_the_stop_is_out() -> None:
    assert frames_of([(0.625, 1.125, 1)], LABEL_RULES["middle"]) == [2, 3]


def test_the_rate_is_part_of_the_rule() -> None:
    assert frames_of([(0.6, 1.3, 1)], LABEL_RULES["oadtr"]) == [3, 4, 5, 6]
    assert frames_of([(0.6, 1.3, 1)], replace(LABEL_RULES["oadtr"], frames_per_second=25 / 6)) == [2, 3, 4, 5]


def test_rounding_errors_of_a_product_do_not_add_a_frame() -> None:
    """0.3 · 10 is 3.0000000000000004 where 0.1 is added up, and must not be rounded up to 4."""
    stop = 0.1 + 0.2
    assert frames_of([(0.1, stop, 1)], LabelRule(10.0, "floor", "ceil")) == [1, 2]
    assert frames_of([(0.29, 0.5, 1)], LabelRule(100.0, "floor", "ceil"), length=60)[0] == 29


def test_a_short_interval_keeps_a_frame() -> None:
    assert frames_of([(0.3, 0.32, 1)], LABEL_RULES["middle"]) == [1]
    assert frames_of([(0.3, 0.32, 1)], FLOOR_CEIL) == [1]


def test_background_is_where_nothing_else_is_and_classes_may_overlap() -> None:
    labels = frame_labels(Intervals.of([(0.25, 0.75, 1), (0.5, 1.0, 2)]), 5, 3, FLOOR_CEIL)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0]]
    assert frame_labels(Intervals.of([]), 2, 3, FLOOR_CEIL).tolist() == [[1, 0, 0]] * 2
    bare = frame_labels(Intervals.of([(0.0, 0.25, 0)]), 2, 3, FLOOR_CEIL, background=None)
    assert bare.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_with_a_single_label_the_class_that_starts_last_has_the_frame() -> None:
    rule = LABEL_RULES["idn"]
    rows = [(0.4, 0.8, 2), (0.2, 1.0, 1)]
    for given in (rows, rows[::-1]):
        labels = frame_labels(Intervals.of(given), 6, 3, rule)
        assert labels.argmax(axis=1).tolist() == [0, 1, 2, 2, 1, 0]
        assert (labels.sum(axis=1) == 1).all()
    nested = frame_labels(Intervals.of([(0.2, 0.4, 2), (0.2, 0.8, 1)]), 5, 3, rule)
    assert nested.argmax(axis=1).tolist() == [0, 2, 1, 1, 0], "of those that start together the shorter"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((1.0, 0.5, 1), "is reversed"),
        ((1.0, 1.0, 1), "is empty"),
        ((float("nan"), 1.0, 1), "is not finite"),
        ((0.0, 1.0, 3), "unknown class: allowed are 0 to 2"),
        ((0.0, 1.0, -1), "unknown class"),
        ((0.0, 1.0, 0), "is background"),
        ((2.5, 3.5, 1), "leaves the video .12 frames at 4 a second, 3 s."),
        ((-0.5, 1.0, 1), "leaves the video"),
        ((3.0, 4.0, 1), "altogether outside"),
        ((-2.0, -1.0, 1), "altogether outside"),
    ],
)
def test_a_wrong_interval_is_named(row: tuple[float, float, int], message: str) -> None:
    with pytest.raises(DatasetError, match=f"interval 1, .*{message}"):
        frames_of([(0.5, 1.0, 2), row], FLOOR_CEIL)


def test_an_event_at_the_end_of_a_stream_can_be_cut_there() -> None:
    assert frames_of([(2.5, 3.5, 1), (-0.5, 0.3, 1)], FLOOR_CEIL, outside="clip") == [0, 1, 10, 11]
    with pytest.raises(DatasetError, match="altogether outside"):
        frames_of([(3.0, 4.0, 1)], FLOOR_CEIL, outside="clip")


def test_overlapping_intervals_of_one_class_are_an_error_or_one_event() -> None:
    rows = [(1.0, 1.5, 1), (0.0, 2.0, 2), (0.5, 1.25, 1)]
    with pytest.raises(DatasetError, match=r"interval 0, 1 to 1.5 s of class 1, overlaps .* overlapping='merge'"):
        frames_of(rows, FLOOR_CEIL)
    assert frames_of(rows, FLOOR_CEIL, overlapping="merge") == [2, 3, 4, 5]
    assert frames_of([(0.5, 1.0, 1), (1.0, 1.5, 1)], FLOOR_CEIL) == [2, 3, 4, 5], "those that touch do not overlap"
    with pytest.raises(DatasetError, match="2 more are so"):
        frames_of([(0.0, 2.0, 1), (0.1, 0.2, 1), (0.5, 0.6, 1), (1.0, 1.5, 1)], FLOOR_CEIL)


def test_labels_give_their_intervals_back() -> None:
    rows = [(0.25, 0.75, 1), (0.5, 1.0, 2), (2.0, 3.0, 1)]
    back = label_intervals(frame_labels(Intervals.of(rows), 12, 3, FLOOR_CEIL), 4.0)
    assert list(zip(back.start.tolist(), back.stop.tolist(), back.label.tolist(), strict=True)) == rows


def test_labels_of_random_intervals_are_the_same_after_both_ways() -> None:
    rng = np.random.default_rng(0)
    labels = (np.repeat(rng.random((30, 4)), rng.integers(1, 5, 30), axis=0) < 0.3).astype(np.uint8)
    labels[:, 0] = ~labels[:, 1:].any(axis=1)
    for rule in (FLOOR_CEIL, LABEL_RULES["middle"], LabelRule(24 / 7, "ceil", "floor")):
        intervals = label_intervals(labels, rule.frames_per_second)
        assert frame_labels(intervals, len(labels), 4, rule).tolist() == labels.tolist()


def test_labels_without_a_class_axis_are_refused() -> None:
    with pytest.raises(UsageError, match="multi-hot"):
        label_intervals(np.zeros(5), 4.0)
