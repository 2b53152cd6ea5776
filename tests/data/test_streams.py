"""Streams with labels, and windows of them, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlkit.data.stream_files import read_streams, write_streams
from rlkit.data.streams import LabelledStream, StreamSet, WindowSampler, streams_to_test
from rlkit.errors import DatasetError, UsageError

CLASSES = ("background", "hit")


def stream(name: str, first: int, shown: list[int]) -> LabelledStream:
    """Features are the frames' numbers from `first` on."""
    numbers = np.arange(first, first + len(shown), dtype=np.float32)[:, None]
    return LabelledStream(name, numbers, np.eye(2, dtype=np.uint8)[shown])


def two_streams() -> StreamSet:
    """Frames 10 … 13 and 20 … 22, hits in 12 and 20."""
    return StreamSet(CLASSES, (stream("a", 10, [0, 0, 1, 0]), stream("b", 20, [1, 0, 0])))


def test_a_window_ends_with_its_frame_and_its_future_begins_with_the_next() -> None:
    windows = WindowSampler(two_streams(), 3, 2, 4, 0).ending_at(np.array([2, 3, 4, 6]))
    assert windows.features[..., 0].tolist() == [[10, 11, 12], [11, 12, 13], [0, 0, 20], [20, 21, 22]]
    assert windows.labels[..., 1].tolist() == [[0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0]]
    assert windows.labels.sum(-1).tolist() == windows.is_there.astype(int).tolist()
    assert windows.is_there.astype(int).tolist() == [
        [1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1],
        [1, 1, 1, 0, 0],
    ]
    assert windows.is_first.astype(int).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]]


def test_an_epoch_has_every_frame_once_in_an_order_of_its_own() -> None:
    sampler = WindowSampler(two_streams(), 1, 0, 3, 5)
    drawn = [next(sampler).features[:, 0, 0].tolist() for _ in range(4)]
    epochs = [drawn[0] + drawn[1], drawn[2] + drawn[3]]
    for epoch in epochs:  # the seventh frame is left out
        assert len(set(epoch)) == 6
        assert set(epoch) < {10, 11, 12, 13, 20, 21, 22}
    assert epochs[0] != epochs[1]


def test_a_sampler_goes_on_from_its_state() -> None:
    first, second = (WindowSampler(two_streams(), 2, 1, 3, 5) for _ in range(2))
    for _ in range(3):
        next(first)
    second.load_state(first.state())
    for _ in range(3):
        np.testing.assert_array_equal(next(first).features, next(second).features)


def test_the_last_streams_are_tested_on_and_none_is_in_both_parts() -> None:
    streams = StreamSet(CLASSES, tuple(stream(name, 0, [0, 1]) for name in "abcdefg"))
    train, test = streams.split(0.3)
    assert ("".join(each.name for each in train.streams), [each.name for each in test.streams]) == ("abcde", ["f", "g"])
    assert [streams_to_test(count, 0.25) for count in (1, 4, 8, 10)] == [1, 1, 2, 2]
    with pytest.raises(UsageError, match="1 streams cannot be split"):
        StreamSet(CLASSES, streams.streams[:1]).split(0.5)


def test_what_does_not_fit_together_is_named() -> None:
    with pytest.raises(UsageError, match="no streams"):
        StreamSet(CLASSES, ())
    with pytest.raises(UsageError, match="several streams are called a"):
        StreamSet(CLASSES, (stream("a", 0, [0]), stream("a", 1, [0])))
    longer = LabelledStream("b", np.zeros((3, 1), np.float32), np.zeros((2, 2), np.uint8))
    with pytest.raises(UsageError, match=r"stream b has features \[3, 1\] and labels \[2, 2\]"):
        StreamSet(CLASSES, (stream("a", 0, [0]), longer))
    with pytest.raises(UsageError, match="7 frames are fewer than the 8 windows of a batch"):
        WindowSampler(two_streams(), 1, 0, 8, 0)


def test_streams_are_kept_in_a_file(tmp_path: Path) -> None:
    train, test = two_streams(), StreamSet(("hit", "unsure"), (stream("é/1", 3, [1]),), 4.0, 1)
    write_streams(tmp_path / "streams.npz", {"train": train, "test": test})
    found = read_streams(tmp_path / "streams.npz")
    assert list(found) == ["train", "test"]
    assert [each.digest() for each in found.values()] == [train.digest(), test.digest()]
    assert (found["test"].frame_rate, found["test"].ambiguous) == (4.0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["streams.npz"]
    (tmp_path / "streams.npz").write_bytes((tmp_path / "streams.npz").read_bytes()[:-40])
    with pytest.raises(DatasetError, match="holds no streams that can be read"):
        read_streams(tmp_path / "streams.npz")


@pytest.mark.parametrize("what", ["name", "features", "labels", "class", "ambiguous"])
def test_a_digest_changes_with_anything(what: str) -> None:
    changed = {
        "name": StreamSet(CLASSES, (stream("b", 0, [0, 1]),)),
        "features": StreamSet(CLASSES, (stream("a", 1, [0, 1]),)),
        "labels": StreamSet(CLASSES, (stream("a", 0, [0, 0]),)),
        "class": StreamSet(("background", "score"), (stream("a", 0, [0, 1]),)),
        "ambiguous": StreamSet(CLASSES, (stream("a", 0, [0, 1]),), ambiguous=1),
    }
    assert changed[what].digest() != StreamSet(CLASSES, (stream("a", 0, [0, 1]),)).digest()
