"""Recorded streams with labels: where they come from, how they are cut, and what is no stream."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rlkit.data.datasets import DatasetWriter, Episode, EpisodeDataset
from rlkit.envs.event_streams import EventStream, cut_after_events, event_streams, first_event
from rlkit.errors import NonFiniteError, UsageError


def stream_of(*columns: str) -> EventStream:
    """Labels of each class as text of 0 and 1; frame t is the number t."""
    labels = np.array([[int(label) for label in column] for column in columns]).T
    return EventStream(np.arange(len(labels))[:, None], labels)


def pieces_of(stream: EventStream, *classes: str) -> list[tuple[list[int], list[list[int]]]]:
    """Frames and labels of each piece."""
    found = cut_after_events([stream], classes)
    return [(piece.frames[:, 0].astype(int).tolist(), piece.labels.T.tolist()) for piece in found]


def episode_of(hits: str, **others: str) -> Episode:
    steps = len(hits)
    infos = {
        f"events/{name}": np.array([mark == "1" for mark in told]) for name, told in {"hit": hits, **others}.items()
    }
    observations = 10.0 * np.arange(steps + 1, dtype=np.float32)[:, None]
    return Episode(observations, np.zeros(steps, np.int64), np.zeros(steps), True, False, infos)


def test_a_piece_ends_with_its_event() -> None:
    assert pieces_of(stream_of("001100100"), "hit") == [
        ([0, 1, 2, 3], [[0, 0, 1, 1]]),
        ([4, 5, 6], [[0, 0, 1]]),
        ([7, 8], [[0, 0]]),
    ]


def test_an_event_goes_on_while_any_class_of_its_beginning_does() -> None:
    assert pieces_of(stream_of("0110", "0011"), "a", "b") == [
        ([0, 1, 2], [[0, 1, 1], [0, 0, 1]]),
        ([3], [[0], [1]]),
    ]
    assert pieces_of(stream_of("0100", "0110"), "a", "b")[0][0] == [0, 1, 2]


def test_the_background_is_no_event() -> None:
    assert pieces_of(stream_of("11001", "00110"), "background", "hit") == [
        ([0, 1, 2, 3], [[1, 1, 0, 0], [0, 0, 1, 1]]),
        ([4], [[1], [0]]),
    ]


def test_a_stream_without_an_event_is_one_piece() -> None:
    assert pieces_of(stream_of("000"), "hit") == [([0, 1, 2], [[0, 0, 0]])]
    assert first_event(stream_of("000").labels) is None
    assert first_event(stream_of("000", "010").labels) == 1


def test_frames_of_an_episode_are_what_its_steps_led_to(tmp_path: Path) -> None:
    with DatasetWriter(
        tmp_path / "data", spaces.Box(-np.inf, np.inf, (1,)), spaces.Discrete(2), env="E", made_by="hand"
    ) as writer:
        writer.add(episode_of("0100", score="0001"))
        writer.add(episode_of("10", score="00"))
    streams, names = event_streams(EpisodeDataset(tmp_path / "data"))
    assert names == ("hit", "score")
    assert [stream.frames[:, 0].tolist() for stream in streams] == [[10.0, 20.0], [30.0, 40.0], [10.0], [20.0]]
    assert [stream.labels.tolist() for stream in streams[:2]] == [[[0, 0], [1, 0]], [[0, 0], [0, 1]]]
    only, names = event_streams(EpisodeDataset(tmp_path / "data"), ["score"])
    assert names == ("score",)
    assert [len(stream) for stream in only] == [4, 2]


def test_only_classes_that_all_episodes_tell_are_taken() -> None:
    assert event_streams([episode_of("01", score="00"), episode_of("01")])[1] == ("hit",)


def test_streams_cannot_be_changed() -> None:
    frames = np.zeros((2, 1), np.float32)
    stream = EventStream(frames, np.zeros((2, 1)))
    frames[0] = 7.0
    assert stream.frames[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        stream.frames[0] = 1.0


@pytest.mark.parametrize(
    ("frames", "labels", "told"),
    [
        (np.zeros((3, 1)), np.zeros((2, 1)), "one L"),
        (np.zeros(3), np.zeros((3, 1)), "[L, D]"),
        (np.zeros((0, 1)), np.zeros((0, 1)), "at least 1"),
        (np.zeros((2, 1)), np.array([[0], [2]]), "0 or 1"),
        (np.zeros((2, 1)), np.array([[0.0], [math.nan]]), "0 or 1"),
    ],
)
def test_what_is_no_stream_is_told(frames: Any, labels: Any, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        EventStream(frames, labels)
    assert told in str(raised.value)


def test_a_frame_that_is_not_finite_is_named() -> None:
    with pytest.raises(NonFiniteError, match="frame 1 "):
        EventStream(np.array([[0.0], [math.inf]]), np.zeros((2, 1)))


def test_episodes_without_events_are_told() -> None:
    bare = Episode(np.zeros((3, 1)), np.zeros(2), np.zeros(2), True, False, {})
    with pytest.raises(UsageError, match="no class in common"):
        event_streams([bare])
    with pytest.raises(UsageError, match="episode 1 does not tell events/hit"):
        event_streams([episode_of("01"), bare], ["hit"])
    nested = Episode({"a": np.zeros((3, 1))}, np.zeros(2), np.zeros(2), True, False, {"events/hit": np.zeros(2)})
    with pytest.raises(UsageError, match="nested"):
        event_streams([nested])
