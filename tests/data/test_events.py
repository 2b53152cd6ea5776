"""Labels from the infos of an episode."""

from __future__ import annotations

import numpy as np
import pytest

from rlkit.data.events import EVENTS, event_labels, told_events
from rlkit.envs.events import EVENTS as ENV_EVENTS
from rlkit.errors import DatasetError

INFOS = {
    "lives": np.array([3, 3, 2, 2]),
    "events/hit": np.array([False, True, True, False]),
    "events/score": np.array([0, 0, 1, 0]),
}


def test_environments_and_datasets_call_events_the_same() -> None:
    assert EVENTS == ENV_EVENTS
    assert told_events(INFOS) == ("hit", "score")


def test_labels_are_multi_hot_and_background_is_nothing_else() -> None:
    labels = event_labels(INFOS, ("background", "hit", "score"))
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert event_labels(INFOS, ("score", "hit")).tolist() == [[0, 0], [0, 1], [1, 1], [0, 0]]


def test_background_counts_events_that_are_not_asked_for() -> None:
    assert event_labels(INFOS, ("background", "score"))[:, 0].tolist() == [1, 0, 0, 1]


def test_classes_that_are_not_told_and_values_that_are_no_truth_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"\['hit', 'score'\], not of \['goal'\]"):
        event_labels(INFOS, ("background", "goal"))
    with pytest.raises(DatasetError, match="events/background, which is where nothing else is told"):
        event_labels(INFOS | {"events/background": np.array([1, 0, 0, 1])}, ("background", "hit", "score"))
    with pytest.raises(DatasetError, match="any event"):
        event_labels({"lives": INFOS["lives"]}, ("background",))
    for wrong in (np.array([0, 2]), np.array([0.0, 1.0]), np.zeros((2, 1), np.int64)):
        with pytest.raises(DatasetError, match="events/hit"):
            event_labels({"events/hit": wrong}, ("hit",))
