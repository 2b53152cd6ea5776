"""Arrays of frames from archives and folders, and what is said of files that hold none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlkit.data.frame_files import read_class_names, read_frame_arrays, write_frame_arrays
from rlkit.errors import DatasetError, UsageError

FRAMES = {"b": np.arange(6.0).reshape(3, 2), "a": np.zeros((2, 2), np.uint8)}


def test_an_archive_and_a_folder_give_the_same_videos(tmp_path: Path) -> None:
    np.savez(tmp_path / "file.npz", **FRAMES, classes=np.array(["background", "jump"]))
    (tmp_path / "root" / "target_perframe").mkdir(parents=True)
    for name, array in FRAMES.items():
        np.save(tmp_path / "root" / "target_perframe" / f"{name}.npy", array)
    archive = read_frame_arrays(tmp_path / "file.npz")
    assert archive.classes == ("background", "jump")
    for found in (archive, read_frame_arrays(tmp_path / "root"), read_frame_arrays(tmp_path / "root/target_perframe")):
        assert list(found.videos) == ["a", "b"]
        assert all((found.videos[name] == array).all() for name, array in FRAMES.items())


def test_any_video_name_but_classes_is_written(tmp_path: Path) -> None:
    videos = {"allow_pickle": np.eye(2), "file": np.ones((1, 2))}
    write_frame_arrays(tmp_path / "new" / "told.npz", videos, ("a", "b"))
    found = read_frame_arrays(tmp_path / "new" / "told.npz")
    assert found.classes == ("a", "b")
    assert {name: array.tolist() for name, array in found.videos.items()} == {
        name: array.tolist() for name, array in videos.items()
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["told.npz"]
    with pytest.raises(DatasetError, match="a video is called 'classes'"):
        write_frame_arrays(tmp_path / "told.npz", {"classes": np.eye(2)}, ("a", "b"))


def test_what_holds_no_videos_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither an \.npz file nor a folder"):
        read_frame_arrays(tmp_path / "missing.npz")
    with pytest.raises(DatasetError, match="holds no videos"):
        read_frame_arrays(tmp_path)
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DatasetError, match=r"bad.npz cannot be read"):
        read_frame_arrays(tmp_path / "bad.npz")
    np.savez(tmp_path / "numbers.npz", video=np.zeros(2), classes=np.zeros(2))
    with pytest.raises(DatasetError, match=r"float64 \[2\]: text \[K\]"):
        read_frame_arrays(tmp_path / "numbers.npz")


def test_python_objects_are_never_read(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    np.save(tmp_path / "videos" / "v.npy", np.array([{}], dtype=object))
    with pytest.raises(DatasetError, match=r"v.npy cannot be read.*plain arrays"):
        read_frame_arrays(tmp_path / "videos")


def test_class_names_are_lines(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("background\nhigh jump \n\n")
    assert read_class_names(file) == ("background", "high jump")
    file.write_text("background\n\njump\n")
    with pytest.raises(UsageError, match="empty line 2"):
        read_class_names(file)
    with pytest.raises(UsageError, match="there is no file"):
        read_class_names(tmp_path / "nothing")
