"""Runs of detectors that learn from folders of features: the folder's split is theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlkit
from rlkit.cli.main import main
from rlkit.data.stream_files import read_streams
from rlkit.errors import DatasetError, UsageError
from rlkit.watching import WatchOptions, watched_streams

SMALL: dict[str, Any] = {"width": 8, "window": 4, "horizon": 1, "batch_size": 8}
FLAGS = ["--detector.width", "8", "--detector.window", "4", "--detector.horizon", "1", "--detector.batch-size", "8"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four videos of 30 frames, the first one of which is tested on; their first feature tells the class."""
    rng = np.random.default_rng(0)
    root = tmp_path / "thumos14"
    for name in ("rgb_anet", "flow_anet", "target_perframe"):
        (root / name).mkdir(parents=True)
    for video in "abcd":
        numbers = np.repeat(rng.integers(0, 3, 10), 3)
        np.save(root / "rgb_anet" / f"{video}.npy", (numbers[:, None] + rng.normal(0, 0.1, (30, 2))).astype(np.float32))
        np.save(root / "flow_anet" / f"{video}.npy", rng.normal(size=(30, 1)).astype(np.float32))
        np.save(root / "target_perframe" / f"{video}.npy", np.eye(3)[numbers])
    info = {"class_names": ["Background", "run", "jump"], "train_session_set": [*"bcd"], "test_session_set": ["a"]}
    (root / "data_info.json").write_text(json.dumps({"THUMOS": info | {"fps": 4}}))
    return root


def test_a_detector_learns_from_a_folder_and_is_tested_on_its_test_set(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert (
        main(["detect", "train", "gru", "--features", str(folder), "--updates", "3", *FLAGS, "--run-dir", str(run)])
        == 0
    )
    streams = read_streams(run / "streams.npz")
    assert [each.name for each in streams["train"].streams] == ["b", "c", "d"]
    assert [each.name for each in streams["test"].streams] == ["a"]
    assert (streams["test"].feature_size, streams["test"].frame_rate) == (3, 4.0)
    assert "eval/ap_jump" in json.loads((run / "result.json").read_text())


def test_intervals_are_read_by_the_rule_that_the_run_names(folder: Path, tmp_path: Path) -> None:
    """0.3 to 0.55 s at 4 frames a second are frames 1 and 2 by LSTR's rule, and frame 1 by that of the middle."""
    rows = [{"segment": [0.3, 0.55], "label": "run"}, {"segment": [7.0, 9.0], "label": "jump"}]
    database = {video: {"annotations": rows} for video in "abcd"}
    (tmp_path / "anno.json").write_text(json.dumps({"database": database}))
    options: dict[str, Any] = {
        "features": str(folder), "annotations": str(tmp_path / "anno.json"), "updates": 1, "detector_config": SMALL,
    }  # fmt: skip
    with pytest.raises(DatasetError, match="leaves the video"):
        rlkit.train_detector("gru", run_dir=tmp_path / "run", **options)
    with pytest.raises(UsageError, match="features of videos need no encoder and know of no actions"):
        rlkit.train_detector("gru", run_dir=tmp_path / "run", actions=True, **options)
    for rule, frames in (("lstr", [1, 2]), ("middle", [1])):
        run = rlkit.train_detector("gru", run_dir=tmp_path / rule, label_rule=rule, outside="clip", **options).run_dir
        (stream,) = read_streams(run / "streams.npz")["test"].streams
        assert np.flatnonzero(stream.labels[:, 1]).tolist() == frames


def test_a_run_watches_the_videos_that_it_was_tested_on_by_the_rules_that_it_learned_by(
    folder: Path, tmp_path: Path
) -> None:
    """Without a split of its own, with labels in `target/`, and with intervals that leave their video."""
    (folder / "data_info.json").unlink()
    (folder / "target_perframe").rename(folder / "target")
    rows = [{"segment": [0.3, 0.55], "label": "run"}, {"segment": [7.0, 9.0], "label": "jump"}]
    (tmp_path / "anno.json").write_text(json.dumps({"database": {video: {"annotations": rows} for video in "abcd"}}))
    by_intervals = {"annotations": str(tmp_path / "anno.json"), "outside": "clip", "label_rule": "middle"}
    for name, more, label, ones in (
        ("frames", {}, "class-1", np.load(folder / "target" / "d.npy")[:, 1]),
        ("intervals", by_intervals, "run", np.eye(30)[1]),
    ):
        run = rlkit.train_detector(
            "gru", run_dir=tmp_path / name, features=str(folder), updates=1, detector_config=SMALL, **more
        ).run_dir
        (watched,) = watched_streams(run, WatchOptions(features=str(folder)))
        assert watched.name == "d"
        assert watched.truth is not None
        np.testing.assert_array_equal(watched.truth[:, watched.classes.index(label)], ones)


def test_labels_of_other_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"features": str(folder), "updates": 1, "detector_config": SMALL}
    run = rlkit.train_detector("gru", run_dir=tmp_path / "run", **options).run_dir
    info = (folder / "data_info.json").read_text()
    (folder / "data_info.json").write_text(info.replace('"run", "jump"', '"jump", "run"'))
    with pytest.raises(UsageError, match="the classes background, jump, run, the detector tells background, run"):
        list(watched_streams(run, WatchOptions(features=str(folder))))
