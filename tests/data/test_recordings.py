from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from rlkit.data.datasets import DatasetWriter, Episode, EpisodeDataset
from rlkit.data.recordings import read_recording, recording_of
from rlkit.errors import DatasetError, UsageError

PICTURES = spaces.Box(0, 255, (4, 5, 3), np.uint8)


def episode(length: int, first: int) -> Episode:
    values = np.arange(first, first + length + 1, dtype=np.uint8)
    observations = np.broadcast_to(values[:, None, None, None], (length + 1, *PICTURES.shape)).copy()
    rewards, infos = np.zeros(length), {"x": np.arange(first + 1, first + length + 1), "text": np.array(["a"] * length)}
    return Episode(observations, np.arange(1, length + 1), rewards, True, False, infos)


def write(folder: Path, *lengths: int) -> Path:
    with DatasetWriter(folder, PICTURES, spaces.Discrete(9), env="E", made_by="test") as writer:
        for number, length in enumerate(lengths):
            writer.add(episode(length, 10 * number))
    return folder


def test_a_dataset_becomes_one_recording_whose_labels_are_of_the_observation_they_tell_of(tmp_path: Path) -> None:
    found = read_recording(write(tmp_path / "data", 2, 3))
    assert found.observations[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 12, 13]
    assert found.episode.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert found.actions is not None
    assert found.actions.tolist() == [1, 2, 0, 1, 2, 3, 0]
    known = found.labels["is_labelled"]
    assert known.tolist() == [False, True, True, False, True, True, True]
    assert np.array_equal(found.labels["x"][known], found.observations[known, 0, 0, 0])
    assert set(found.labels) == {"x", "is_labelled"}  # text is no label


def test_labels_that_an_episode_lacks_are_left_out(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", PICTURES, spaces.Discrete(9), env="E", made_by="test") as writer:
        whole = episode(2, 0)
        writer.add(whole)
        writer.add(Episode(whole.observations, whole.actions, whole.rewards, True, False, {}))
    assert recording_of(EpisodeDataset(tmp_path / "data")).labels == {}


def test_a_folder_of_pictures_is_read_in_name_order_with_its_subfolders_as_classes(tmp_path: Path) -> None:
    for name, value in (("cats/1.png", 10), ("dogs/0.png", 30), ("cats/0.png", 20)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (5, 4), (value, 0, 0)).save(tmp_path / name)
    found = read_recording(tmp_path)
    assert found.observations.shape == (3, 4, 5, 3)
    assert found.observations[:, 0, 0, 0].tolist() == [20, 10, 30]
    assert found.labels["class"].tolist() == [0, 0, 1]
    assert len(set(found.episode)) == 3


def test_pictures_of_other_sizes_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    with pytest.raises(UsageError, match=r"b\.png has 6 x 4 pixels, .*a\.png has 5 x 4"):
        read_recording(tmp_path)


def test_a_few_unreadable_pictures_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(38):
        Image.new("RGB", (5, 4)).save(tmp_path / f"{number:02}.png")
    (tmp_path / "98.png").write_bytes(b"nothing")
    (tmp_path / "99.png").write_bytes((tmp_path / "00.png").read_bytes()[:30])
    assert len(read_recording(tmp_path)) == 38
    assert "2 of 40 pictures" in caplog.text
    assert "98.png (no picture)" in caplog.text
    assert "99.png" in caplog.text
    (tmp_path / "97.png").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"3 of 41 pictures in .* cannot be read.*At most 5% are left out"):
        read_recording(tmp_path)


def test_arrays_of_an_npz_file_are_taken_by_their_names(tmp_path: Path) -> None:
    pictures = np.zeros((3, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=pictures, episode=[0, 0, 1], digit=[7, 8, 9])
    found = read_recording(tmp_path / "a.npz")
    assert found.observations.shape == pictures.shape
    assert found.episode.tolist() == [0, 0, 1]
    assert found.labels["digit"].tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": np.zeros(3)}, r"holds \['x'\]; the pictures must be called observations"),
        ({"images": np.zeros((3, 2, 2)), "digit": np.zeros(2)}, r"\['digit'\] have not as many rows as images \(3\)"),
        ({"images": np.zeros((2, 2, 2)), "episode": np.array([1, 0])}, "must not fall"),
        ({"images": np.zeros((2, 2, 2)), "episode": np.array([0.5, 1])}, "'episode' is float64"),
        ({"images": np.array(3)}, r"have the shape \(\), they must be pictures"),
    ],
)
def test_npz_files_that_do_not_fit_are_explained(tmp_path: Path, arrays: dict[str, np.ndarray], told: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=told):
        read_recording(tmp_path / "a.npz")


def test_npz_files_with_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DatasetError, match="no arrays that can be read"):
        read_recording(tmp_path / "a.npz")


def test_files_that_are_no_npz_are_told_so(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("nothing")
    with pytest.raises(DatasetError, match="is no npz file"):
        read_recording(tmp_path / "a.npz")


def test_what_is_no_data_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no pictures"):
        read_recording(tmp_path)
    with pytest.raises(UsageError, match="is no data to learn from: give a dataset"):
        read_recording(tmp_path / "nothing")
