"""`rlkit detect score` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlkit.cli.main import main
from rlkit.ops.average_precision import average_precision
from rlkit.types import Array

NAMES = ["background", "jump", "ambiguous"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two videos of 100 and 40 frames."""
    rng = np.random.default_rng(0)
    truth: dict[str, Array] = {}
    scores: dict[str, Array] = {}
    for name, length in (("v1", 100), ("v2", 40)):
        truth[name] = np.eye(3, dtype=np.uint8)[np.repeat(rng.choice(3, length // 5, p=[0.5, 0.3, 0.2]), 5)]
        scores[name] = rng.dirichlet(np.ones(3), length) * 0.5 + truth[name] * 0.5
    np.savez(tmp_path / "pred.npz", **scores)
    np.savez(tmp_path / "gt.npz", **truth, classes=np.array(NAMES))
    for kind, arrays in (("pred", scores), ("gt", truth)):
        (tmp_path / kind).mkdir()
        for name, array in arrays.items():
            np.save(tmp_path / kind / f"{name}.npy", array)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main(["detect", "score", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    assert main(["detect", "score", *map(str, arguments)]) == code
    return capsys.readouterr().err


def test_the_average_precision_is_that_of_the_frames(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, files / "pred.npz", files / "gt.npz", "--protocol", "miniroad")
    with np.load(files / "pred.npz") as scores, np.load(files / "gt.npz") as truth:
        s = np.concatenate([scores["v1"], scores["v2"]])
        y = np.concatenate([truth["v1"], truth["v2"]])
    kept = y[:, 2] == 0
    assert found["AP"] == {"jump": average_precision(y[kept, 1], s[kept, 1])}
    assert found["mAP"] == found["AP"]["jump"]
    assert (found["frames"], found["frames_left_out"]) == (int(kept.sum()), {"ambiguous": int((~kept).sum())})
    assert (found["videos"], found["videos_in_one_file_only"], found["absent_classes"]) == (2, [], [])
    assert len(found["mcAP_by_stage"]) == 10


def test_folders_and_named_classes_give_the_same(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = told(capsys, files / "pred.npz", files / "gt.npz", "--protocol", "oadtr")
    folder = told(capsys, files / "pred", files / "gt", "--protocol", "oadtr", "--classes", files / "names.txt")
    assert folder == archive
    assert folder["videos_left_out"] == ["v2"]


def test_the_table_tells_what_was_left_out(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = (files / "pred.npz", files / "gt.npz", "--protocol", "oadtr", "--starts", "--delay-at", "0.01")
    assert main(["detect", "score", *map(str, given)]) == 0
    text = capsys.readouterr().out
    for part in ("jump", "mean", "63 of a video", "9 of a video", "ambiguous", "no frame is scored of videos: v2",
                 "delay", "starts by activitynet"):  # fmt: skip
        assert part in text, part


def test_starts_and_delays_are_in_the_record(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = (
        files / "pred.npz",
        files / "gt.npz",
        "--protocol",
        "lstr",
        "--starts",
        "--start-rule",
        "woad",
        "--fps",
        "2",
    )
    found = told(capsys, *given, "--delay-at", "0.05")
    assert found["starts"]["rule"] == "woad"
    assert list(found["starts"]["mean_pAP"]) == [str(second) for second in range(1, 11)]
    rising = list(found["starts"]["mean_pAP"].values())
    assert rising[-1] >= rising[0] > 0
    assert list(found["delay"]) == ["jump"]
    assert found["delay"]["jump"] >= 0


def test_early_detection_is_told_and_drawn(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = (files / "pred.npz", files / "gt.npz", "--protocol", "miniroad", "--early-at", "0.1")
    found = told(capsys, *given, "--plot", files / "new" / "amoc.png")["early"]
    assert 0 < found["time_to_detect"]["jump"] == found["mean_time_to_detect"] <= 1
    assert list(found["accuracy"]) == [f"{tenth / 10:g}" for tenth in range(1, 11)]
    assert (files / "new" / "amoc.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["detect", "score", *map(str, given)]) == 0
    text = capsys.readouterr().out
    assert f"at most 10 % of a class told too soon; mean {found['mean_time_to_detect']:.4f} of 6 actions" in text
    assert f"{found['mean_time_to_detect']:.4f}" in text.splitlines()[1]
    assert "after each tenth of an action: –" in text, "one class is no choice"


def test_without_an_action_there_is_no_time(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = {name: np.eye(3, dtype=np.uint8)[np.zeros(length, np.int64)] for name, length in (("v1", 100), ("v2", 40))}
    np.savez(files / "nothing.npz", **truth, classes=np.array(NAMES))
    given = (files / "pred.npz", files / "nothing.npz", "--protocol", "miniroad", "--early-at", "0.005")
    assert main(["detect", "score", *map(str, given), "--plot", str(files / "a.png")]) == 0
    assert "at most 0.5 % of a class told too soon; mean – of 0 actions" in capsys.readouterr().out


def test_labels_may_be_class_numbers(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(files / "gt.npz") as truth:
        np.savez(files / "numbers.npz", v1=truth["v1"].argmax(1), v2=truth["v2"].argmax(1), classes=np.array(NAMES))
    multi_hot = told(capsys, files / "pred.npz", files / "gt.npz", "--protocol", "lstr")
    assert told(capsys, files / "pred.npz", files / "numbers.npz", "--protocol", "lstr") == multi_hot
    np.savez(files / "numbers.npz", v1=np.full(100, 3), v2=np.zeros(40, np.int64))
    assert "numbers 3 to 3" in refused(capsys, 1, files / "pred.npz", files / "numbers.npz", "--protocol", "lstr")


def test_logits_give_what_their_probabilities_give(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(files / "pred.npz") as scores:
        np.savez(files / "logits.npz", **{name: np.log(scores[name]) + 7 for name in scores.files})
    for protocol in ("oadtr", "miniroad"):
        probabilities = told(capsys, files / "pred.npz", files / "gt.npz", "--protocol", protocol)
        found = told(capsys, files / "logits.npz", files / "gt.npz", "--protocol", protocol, "--logits")
        assert found["AP"]["jump"] == pytest.approx(probabilities["AP"]["jump"], abs=1e-12)


def test_a_missing_video_is_an_error_or_left_out_by_name(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "pred" / "v2.npy").unlink()
    given = (files / "pred", files / "gt.npz", "--protocol", "lstr")
    assert "1 of 2 videos have no predictions: v2" in refused(capsys, 1, *given)
    found = told(capsys, *given, "--common")
    assert (found["videos"], found["videos_in_one_file_only"]) == (1, ["v2"])
    (files / "pred" / "v1.npy").rename(files / "pred" / "v3.npy")
    assert "no video in common" in refused(capsys, 1, *given, "--common")


def test_wrong_files_and_flags_are_named(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = (files / "pred.npz", files / "gt.npz", "--protocol", "lstr")
    assert "neither an .npz" in refused(capsys, 2, files / "no.npz", *given[1:])
    assert "--delay-at is 3" in refused(capsys, 2, *given, "--delay-at", "3")
    assert "--early-at is -1" in refused(capsys, 2, *given, "--early-at", "-1")
    (files / "file").touch()
    plot = ("--early-at", "0.1", "--plot", files / "file" / "a.png")
    assert f"--plot {files / 'file' / 'a.png'} cannot be written" in refused(capsys, 2, *given, *plot)
    assert "add --early-at" in refused(capsys, 2, *given, "--plot", files / "a.png")
    assert "--fps is 0" in refused(capsys, 2, *given, "--fps", "0")
    (files / "names.txt").write_text("background\njump\n")
    assert "needed is [frames, 2]" in refused(capsys, 1, *given, "--classes", files / "names.txt")
    np.savez(files / "other.npz", v1=np.zeros((100, 3)), classes=np.array(["a", "b", "c"]))
    assert "name other classes" in refused(capsys, 1, files / "other.npz", *given[1:])


def test_detect_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "--help"]) == 0
    assert "score a file of predictions" in capsys.readouterr().out
    assert main(["detect"]) == 2
    capsys.readouterr()
    assert main(["detect", "scor"]) == 2
    assert "did you mean 'score'" in capsys.readouterr().err
