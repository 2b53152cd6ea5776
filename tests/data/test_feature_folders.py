"""Folders of features in the layouts of LSTR, MiniROAD, TRN and OadTR, small ones, and what is said of broken ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlkit.data import memory
from rlkit.data.feature_folders import read_feature_folder
from rlkit.data.streams import StreamSet
from rlkit.data.video_labels import FolderPolicy
from rlkit.data.video_lists import THUMOS14_CLASSES
from rlkit.errors import DatasetError, MemoryBudgetError, UnknownNameError, UsageError

LENGTHS = {"a": 4, "b": 3, "c": 5}
CLASSES = ["Background", "run", "Ambiguous"]
INFO: dict[str, Any] = {"class_names": CLASSES, "train_session_set": ["b", "a"], "test_session_set": ["c"], "fps": 4}


def save(root: Path, folder: str, arrays: Mapping[str, Any]) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(root / folder / f"{name}.npy", array)


def features_of(size: int, seed: int, lengths: Mapping[str, int] = LENGTHS) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(length, size)).astype(np.float32) for name, length in lengths.items()}


def one_hot(numbers: list[int], classes: int = 3) -> Any:
    return np.eye(classes)[numbers]


LABELS = {"a": one_hot([0, 1, 1, 0]), "b": one_hot([2, 0, 1]), "c": one_hot([0, 0, 1, 1, 2])}


def thumos_folder(root: Path, info: Mapping[str, Any] | None = None) -> Path:
    """As LSTR and MiniROAD have it: two folders of features, one of labels, and the list in the folder above."""
    folder = root / "THUMOS"
    save(folder, "flow_kinetics_bninception", features_of(2, 1))
    save(folder, "rgb_kinetics_resnet50", features_of(3, 0))
    save(folder, "target_perframe", LABELS)
    others = {"HDD": {"class_index": ["background", "x"], "train_session_set": ["1"], "test_session_set": ["2"]}}
    (root / "data_info.json").write_text(json.dumps({**others, "THUMOS": INFO | dict(info or {})}))
    return folder


def names(streams: StreamSet | None) -> list[str]:
    assert streams is not None
    return [stream.name for stream in streams.streams]


def test_the_layout_of_lstr_is_read_with_its_split_and_classes(tmp_path: Path) -> None:
    found = read_feature_folder(thumos_folder(tmp_path))
    assert (names(found.train), names(found.test)) == (["b", "a"], ["c"])
    assert found.train.classes == ("background", "run", "ambiguous")
    assert (found.train.frame_rate, found.train.ambiguous) == (4.0, 2)
    rgb, flow = features_of(3, 0), features_of(2, 1)
    for stream in found.train.streams:
        np.testing.assert_array_equal(stream.features, np.concatenate((rgb[stream.name], flow[stream.name]), axis=1))
        assert (stream.features.dtype, stream.labels.dtype) == (np.float32, np.uint8)
        np.testing.assert_array_equal(stream.labels, LABELS[stream.name])
    train, test = found.split(0.9)
    assert (names(train), names(test)) == (["b", "a"], ["c"]), "the share is for layouts without a split"


def test_one_of_several_features_can_be_read_alone(tmp_path: Path) -> None:
    folder = thumos_folder(tmp_path)
    save(folder, "rgb_anet_resnet50", features_of(4, 2))
    with pytest.raises(UsageError, match="several features of one kind, rgb_anet_resnet50, rgb_kinetics_resnet50"):
        read_feature_folder(folder)
    found = read_feature_folder(folder / "rgb_anet_resnet50")
    np.testing.assert_array_equal(found.train.streams[1].features, features_of(4, 2)["a"])
    assert names(found.test) == ["c"]


def test_the_layout_of_hdd_has_maps_sensors_and_class_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = {name: rng.normal(size=(length, 6, 2, 4)).astype(np.float32) for name, length in LENGTHS.items()}
    save(tmp_path, "inceptionresnetv2", maps)
    save(tmp_path, "sensor", features_of(2, 1))
    save(tmp_path, "target", {"a": np.array([0, 1, 1, 0]), "b": np.array([2.0, 0.0, 1.0]), "c": np.arange(5) % 3})
    info = {"class_index": ["background", "left turn", "merge"], "train_session_set": ["a"], "test_session_set": ["c"]}
    (tmp_path / "data_info.json").write_text(json.dumps({"HDD": info}))
    found = read_feature_folder(tmp_path)
    assert found.train.classes == ("background", "left turn", "merge")
    assert (found.train.ambiguous, found.train.frame_rate) == (None, None)
    (stream,) = found.train.streams
    mean = maps["a"].astype(np.float64).reshape(4, 6, 8).mean(2)
    np.testing.assert_allclose(stream.features, np.concatenate((mean, features_of(2, 1)["a"]), axis=1), atol=1e-6)
    assert stream.labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_oadtrs_folder_of_both_kinds_counts_as_two(tmp_path: Path) -> None:
    rgb, flow = features_of(3, 0), features_of(2, 1)
    save(tmp_path, "Anet2016_feature_v2", {f"{name}_rgb": array for name, array in rgb.items()})
    save(tmp_path, "Anet2016_feature_v2", {f"{name}_flow": array for name, array in flow.items()})
    save(tmp_path, "target_perframe", LABELS)
    found = read_feature_folder(tmp_path)
    assert (names(found.train), found.test) == (["a", "b", "c"], None)
    np.testing.assert_array_equal(found.train.streams[0].features, np.concatenate((rgb["a"], flow["a"]), axis=1))
    assert [names(part) for part in found.split(0.3)] == [["a", "b"], ["c"]]


def test_pickles_are_refused_with_what_to_write_instead(tmp_path: Path) -> None:
    save(tmp_path, "rgb_anet", features_of(3, 0))
    (tmp_path / "thumos_val_anno.pickle").write_bytes(b"\x80\x04.")
    for given in (None, str(tmp_path / "thumos_val_anno.pickle")):
        with pytest.raises(UsageError, match=r"thumos_val_anno.pickle is a pickle.*numpy\.save.*\['anno'\]"):
            read_feature_folder(tmp_path, given)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "thumos_all_feature_val.pickle").write_bytes(b"\x80\x04.")
    with pytest.raises(UsageError, match=r"is a pickle.*features\['VIDEO'\]\['rgb'\]"):
        read_feature_folder(tmp_path / "only")


def test_thumos14_is_known_by_its_columns_and_split_by_its_names(tmp_path: Path) -> None:
    lengths = {"video_test_0000004": 2, "video_validation_0000051": 3}
    save(tmp_path, "rgb_anet", features_of(2, 0, lengths))
    save(tmp_path, "target", {name: one_hot([0, 5, 21][:length], 22) for name, length in lengths.items()})
    found = read_feature_folder(tmp_path)
    assert (names(found.train), names(found.test)) == (["video_validation_0000051"], ["video_test_0000004"])
    assert (found.train.classes[5], found.train.classes[20]) == ("CliffDiving", "VolleyballSpiking")
    assert (len(found.train.classes), found.train.ambiguous) == (22, 21)


def test_classes_have_names_from_a_text_file_or_numbers(tmp_path: Path) -> None:
    save(tmp_path, "rgb_anet", features_of(3, 0))
    save(tmp_path, "target_perframe", LABELS)
    assert read_feature_folder(tmp_path).train.classes == ("background", "class-1", "class-2")
    (tmp_path / "classes.txt").write_text("Background\nrun\nhigh jump\n")
    assert read_feature_folder(tmp_path).train.classes == ("background", "run", "high jump")
    (tmp_path / "classes.txt").write_text("run\nhigh jump\n")  # as TRN lists TVSeries
    assert read_feature_folder(tmp_path).train.classes == ("background", "run", "high jump")
    (tmp_path / "classes.txt").write_text("background\nrun\nrun\n")
    with pytest.raises(DatasetError, match=r"classes.txt names run twice"):
        read_feature_folder(tmp_path)


def test_class_numbers_need_names(tmp_path: Path) -> None:
    save(tmp_path, "inceptionresnetv2", features_of(3, 0))
    save(tmp_path, "target", {name: np.zeros(length, np.int64) for name, length in LENGTHS.items()})
    with pytest.raises(DatasetError, match=r"the classes have no names: write them to classes.txt"):
        read_feature_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("background\nmerge\n")
    for wrong in (2.0, -1.0, 0.5, np.nan):
        save(tmp_path, "target", {"b": np.array([0.0, 1.0, wrong])})
        with pytest.raises(DatasetError, match=r"b.npy holds class number .*: allowed are 0 to 1"):
            read_feature_folder(tmp_path)


def test_frames_without_any_label_are_background(tmp_path: Path) -> None:
    folder = thumos_folder(tmp_path)
    save(folder, "target_perframe", {"c": np.array([[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]])})
    test = read_feature_folder(folder).test
    assert test is not None
    assert test.streams[0].labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0], [1, 0, 0]]


def interval_file(path: Path, **videos: Any) -> str:
    database = {
        name: {"annotations": [{"segment": row[:2], "label": row[2]} for row in rows]} | told
        for name, (rows, told) in videos.items()
    }
    path.write_text(json.dumps({"version": "test", "database": database}))
    return str(path)


def test_intervals_become_labels_by_a_named_rule(tmp_path: Path) -> None:
    """0.3 to 0.55 s at 4 frames a second are 1.2 to 2.2 frames."""
    save(tmp_path, "rgb_anet", features_of(2, 0))
    rows: dict[str, Any] = {
        "a": ([(0.3, 0.55, "run")], {"subset": "training"}),
        "b": ([(0.0, 0.25, "jump"), (0.0, 0.5, "run")], {"subset": "training"}),
        "c": ([], {"subset": "validation", "duration": 1.25}),
        "z": ([(0.0, 0.5, "run")], {"subset": "testing"}),
    }
    file = interval_file(tmp_path / "anno.json", **rows)
    for found in (read_feature_folder(tmp_path), read_feature_folder(tmp_path, file)):
        assert found.train.classes == ("background", "jump", "run")
        assert (names(found.train), names(found.test)) == (["a", "b"], ["c"])
        assert found.train.frame_rate == 4.0
        assert found.train.streams[0].labels[:, 2].tolist() == [0, 1, 1, 0]
        assert found.train.streams[1].labels.tolist() == [[0, 1, 1], [0, 0, 1], [1, 0, 0]]
    middle = read_feature_folder(tmp_path, file, FolderPolicy(rule="middle"))
    assert middle.train.streams[0].labels[:, 2].tolist() == [0, 1, 0, 0]
    with pytest.raises(UnknownNameError, match=r"did you mean 'lstr'"):
        read_feature_folder(tmp_path, file, FolderPolicy(rule="lstrr"))


def test_the_rate_of_intervals_is_that_of_the_list_or_with_oadtr_the_videos_own(tmp_path: Path) -> None:
    save(tmp_path, "rgb_anet", features_of(2, 0))
    rows = {name: ([(0.5, 1.0, "Diving")], {"fps": 12.0 if name == "a" else 18.0}) for name in LENGTHS}
    file = interval_file(tmp_path / "anno.json", **rows)
    found = read_feature_folder(tmp_path, file, FolderPolicy(rule="oadtr"))
    diving = THUMOS14_CLASSES.index("Diving")
    assert found.train.classes == THUMOS14_CLASSES
    assert [np.flatnonzero(each.labels[:, diving]).tolist() for each in found.train.streams] == [[1], [1, 2], [1, 2]]
    assert found.train.frame_rate is None
    info = INFO | {"class_names": ["background", "Diving"], "fps": 2}
    (tmp_path / "data_info.json").write_text(json.dumps({"MINE": info}))
    found = read_feature_folder(tmp_path, file, FolderPolicy(rule="oadtr"))
    assert [np.flatnonzero(each.labels[:, 1]).tolist() for each in found.train.streams] == [[1], [1]]
    assert found.train.frame_rate == 2.0


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ((0.5, 0.25, "run"), "b: interval 1, 0.5 to 0.25 s of class 1, is reversed"),
        ((0.1, 0.4, "run"), "b: interval 1, 0.1 to 0.4 s of class 1, overlaps another of its class"),
        ((0.5, 2.0, "run"), "b: interval 1, 0.5 to 2 s of class 1, leaves the video .3 frames at 4 a second"),
        ((0.5, 0.6, "runn"), r"b has class 'runn' \(did you mean 'run'\?\); allowed: background, run"),
        ((0.5, 0.6, "Background"), "b: interval 1, .* is background"),
    ],
)
def test_a_wrong_interval_is_named_with_its_video(tmp_path: Path, row: tuple[float, float, str], told: str) -> None:
    save(tmp_path, "rgb_anet", features_of(2, 0))
    (tmp_path / "classes.txt").write_text("background\nrun\n")
    file = interval_file(tmp_path / "anno.json", a=([], {}), b=([(0.0, 0.25, "run"), row], {}), c=([], {}))
    with pytest.raises(DatasetError, match=told):
        read_feature_folder(tmp_path, file)


def test_intervals_that_leave_the_video_or_overlap_can_be_cut_and_joined(tmp_path: Path) -> None:
    save(tmp_path, "rgb_anet", features_of(2, 0, {"b": 3}))
    file = interval_file(tmp_path / "anno.json", b=([(0.2, 0.3, "run"), (0.25, 9.0, "run")], {}))
    found = read_feature_folder(tmp_path, file, FolderPolicy(outside="clip", overlapping="merge"))
    assert found.train.streams[0].labels[:, 1].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"database": {"a": {}}}', '{"database": {"a": {"annotations": [{}]}}}']
)
def test_a_damaged_file_of_intervals_is_explained(tmp_path: Path, content: str) -> None:
    save(tmp_path, "rgb_anet", features_of(2, 0))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "anno.json").write_text(content)
    with pytest.raises(DatasetError, match=r"anno.json (cannot be read as JSON|has (no videos|a video that cannot))"):
        read_feature_folder(tmp_path, str(tmp_path / "elsewhere" / "anno.json"))


def test_three_subsets_need_a_list(tmp_path: Path) -> None:
    save(tmp_path, "rgb_anet", features_of(2, 0))
    subsets = zip(LENGTHS, ("training", "validation", "testing"), strict=True)
    file = interval_file(tmp_path / "anno.json", **{name: ([], {"subset": subset}) for name, subset in subsets})
    with pytest.raises(DatasetError, match=r"videos of three subsets: write .* to data_info.json"):
        read_feature_folder(tmp_path, file)


def test_a_duration_that_the_features_do_not_have_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, "rgb_anet", features_of(2, 0))
    rows = {name: ([], {"duration": 25.0 if name == "c" else 1.0}) for name in LENGTHS}
    read_feature_folder(tmp_path, interval_file(tmp_path / "anno.json", **rows))
    told = [record.message for record in caplog.records if "lasts" in record.message]
    assert told == ["c lasts 25 s, and its features 1.25 s at the rate of rule 'lstr': is that their rate?"]


def test_files_that_a_listed_video_lacks_are_all_named(tmp_path: Path) -> None:
    folder = thumos_folder(tmp_path, {"train_session_set": ["a", "b", "d"]})
    (folder / "flow_kinetics_bninception" / "b.npy").unlink()
    (folder / "target_perframe" / "c.npy").unlink()
    told = (
        r"b \(flow_kinetics_bninception\), d \(rgb_kinetics_resnet50\), d \(flow_kinetics_bninception\), "
        r"d \(labels\), c \(labels\)"
    )
    with pytest.raises(DatasetError, match=f"files are missing: {told}"):
        read_feature_folder(folder)


def test_videos_that_are_not_listed_are_left_out_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = thumos_folder(tmp_path, {"train_session_set": ["b"]})
    assert names(read_feature_folder(folder).train) == ["b"]
    assert "1 videos are left out, as they are not listed: a" in caplog.text


def test_a_list_of_other_videos_is_refused(tmp_path: Path) -> None:
    folder = thumos_folder(tmp_path, {"train_session_set": ["x"], "test_session_set": ["y"]})
    with pytest.raises(DatasetError, match=r"data_info.json .HDD.* list none of the 3 videos .* such as a"):
        read_feature_folder(folder)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"test_session_set": ["c", "a"]}, "has a both in train_session_set and in test_session_set"),
        ({"test_session_set": "c"}, "test_session_set of .* a list of names is needed"),
        ({"fps": 0}, "fps of .* is 0: a positive number"),
        ({"class_names": ["run", "Run", "run"]}, "names run twice"),
    ],
)
def test_a_wrong_list_is_explained(tmp_path: Path, entry: dict[str, Any], told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        read_feature_folder(thumos_folder(tmp_path, entry))


def test_lengths_that_hardly_differ_are_cut_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = thumos_folder(tmp_path)
    save(folder, "target_perframe", {"a": one_hot([0, 1, 1])})
    found = read_feature_folder(folder)
    assert [len(stream) for stream in found.train.streams] == [3, 3]
    np.testing.assert_array_equal(found.train.streams[1].features[:, :3], features_of(3, 0)["a"][:3])
    told = "1 videos have files of other lengths, cut to the shortest: a (rgb_kinetics_resnet50 4, "
    assert f"{told}flow_kinetics_bninception 4, labels 3)" in caplog.text
    with pytest.raises(DatasetError, match=r"0 frames apart at most are allowed: a .*labels 3"):
        read_feature_folder(folder, policy=FolderPolicy(longest_cut=0))
    save(folder, "target_perframe", {"a": one_hot([0])})
    with pytest.raises(DatasetError, match="2 frames apart at most are allowed"):
        read_feature_folder(folder)


def test_classes_that_never_occur_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = thumos_folder(tmp_path)
    save(folder, "target_perframe", {"c": one_hot([0] * 5)})
    read_feature_folder(folder)
    assert "the 1 videos to test on never show run, ambiguous" in caplog.text
    assert "to learn from never" not in caplog.text


@pytest.mark.parametrize(
    ("folder", "array", "told"),
    [
        ("target_perframe", np.zeros((5, 4)), r"c.npy holds float64 \[5, 4\]: with 3 classes .* multi-hot \[L, 3\]"),
        ("target_perframe", np.full((5, 3), 0.5), "c.npy holds labels from 0.5 to 0.5: allowed are 0 and 1"),
        ("target_perframe", np.array([{}] * 5, dtype=object), "c.npy cannot be read: .*plain arrays of numbers"),
        ("rgb_kinetics_resnet50", np.array([{}] * 5, dtype=object), "c.npy cannot be read: .*plain arrays of numbers"),
        ("rgb_kinetics_resnet50", np.zeros((5, 3, 2)), r"c.npy holds float64 \[5, 3, 2\]: features are numbers"),
        ("rgb_kinetics_resnet50", np.zeros((5, 4)), "has 3 features for b and 4 for c .1 of 3 videos differ"),
        ("rgb_kinetics_resnet50", np.full((5, 3), np.nan), "features of c are not finite at frame 0"),
        ("rgb_kinetics_resnet50", np.zeros((0, 3)), "c.npy"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, folder: str, array: Any, told: str) -> None:
    root = thumos_folder(tmp_path)
    save(root, folder, {"c": array})
    with pytest.raises(DatasetError, match=told):
        read_feature_folder(root)


def test_a_cut_off_file_is_named(tmp_path: Path) -> None:
    folder = thumos_folder(tmp_path)
    file = folder / "rgb_kinetics_resnet50" / "c.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DatasetError, match=r"c.npy cannot be read"):
        read_feature_folder(folder)


def test_what_is_no_folder_of_features_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        read_feature_folder(tmp_path / "missing")
    with pytest.raises(UsageError, match="holds no features"):
        read_feature_folder(tmp_path)
    save(tmp_path, "rgb_anet", features_of(2, 0))
    with pytest.raises(UsageError, match=r"has no labels: target_perframe/"):
        read_feature_folder(tmp_path)
    with pytest.raises(UsageError, match=r"annotations .* are neither"):
        read_feature_folder(tmp_path, str(tmp_path / "nothing.json"))
    save(tmp_path, "target_perframe", LABELS)
    interval_file(tmp_path / "anno.json", a=([], {}))
    with pytest.raises(UsageError, match=r"there are several labels, .*target_perframe, .*anno.json: say which"):
        read_feature_folder(tmp_path)
    assert names(read_feature_folder(tmp_path, str(tmp_path / "target_perframe")).train) == ["a", "b", "c"]


def test_features_that_do_not_fit_into_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 frames of 5 numbers of 4 bytes and 3 labels: 276 bytes."""
    folder = thumos_folder(tmp_path)
    monkeypatch.setattr(memory, "available_bytes", lambda: 276)
    read_feature_folder(folder)
    monkeypatch.setattr(memory, "available_bytes", lambda: 275)
    with pytest.raises(MemoryBudgetError, match="12 frames of 5 features"):
        read_feature_folder(folder)


def test_what_is_concatenated_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    read_feature_folder(thumos_folder(tmp_path))
    assert "features of a frame: rgb_kinetics_resnet50 (3), flow_kinetics_bninception (2)" in caplog.text
