"""`rlkit probe`: an encoder beside its controls, on the state of the environment that it was pretrained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlkit
from rlkit.cli.main import main
from rlkit.errors import UnsupportedTaskError, UsageError
from rlkit.frames import FrameSource, record_frames
from rlkit.probing import ProbeOptions, judge

ENV = f"{Path(__file__).parent / 'picture_env.py'}:Square"
CONFIG: dict[str, Any] = {"backbone": "impala", "feature_size": 16, "batch_size": 16}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "run"
    return rlkit.pretrain("simclr", run_dir=folder, env=ENV, frames=60, updates=2, method_config=CONFIG).run_dir


def options(**given: Any) -> ProbeOptions:
    return ProbeOptions.model_validate({"frames": 600, "supervised": False, **given})


def test_the_controls_stand_beside_the_encoder_on_the_same_frames(run: Path) -> None:
    found = judge(run, options())
    assert list(found.tables) == ["pretrained", "untrained", "majority"]
    scores = {name: table.overall()["f1_weighted"] for name, table in found.tables.items()}
    assert scores["majority"] < min(scores["pretrained"], scores["untrained"])
    assert scores["pretrained"] != scores["untrained"]
    assert all(set(table.variables) == {"agent/row", "agent/column"} for table in found.tables.values())
    assert json.loads(json.dumps(found.record()))["scores"]["majority"]["overall"] == found.tables["majority"].overall()


def test_frames_of_the_probe_are_not_those_of_pretraining(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def record(source: FrameSource, folder: Path, frames: int, seed: int) -> None:
        seeds.append(seed)
        record_frames(source, folder, frames, seed)

    monkeypatch.setattr("rlkit.probing.record_frames", record)
    for seed in range(2):
        judge(run, options(seed=seed))
    assert len(set(seeds)) == 2
    assert not set(seeds) & {0, 1}


def test_a_supervised_encoder_is_trained_where_asked_for(run: Path) -> None:
    found = judge(run, options(supervised=True, kind="neighbours"))
    assert found.tables["supervised"].overall()["f1_weighted"] > found.tables["majority"].overall()["f1_weighted"]


def test_the_same_seed_gives_the_same_scores(run: Path) -> None:
    first, second = judge(run, options()), judge(run, options())
    assert first.record() == second.record()


def test_other_pictures_and_environments_without_known_state_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedTaskError, match="the encoder takes pictures"):
        judge(run, options(env="CartPole-v1"))
    np.savez(tmp_path / "data.npz", images=np.zeros((20, 16, 16, 1), np.uint8))
    blind = rlkit.pretrain(
        "simclr", run_dir=tmp_path / "run", data=str(tmp_path / "data.npz"), updates=1, method_config=CONFIG
    ).run_dir
    with pytest.raises(UsageError, match="name the environment whose state it is to tell"):
        judge(blind, options())


def test_too_few_frames_for_three_episodes_are_told_by_their_option(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", str(run), "--env", ENV.replace("Square", "LastingSquare"), "--frames", "1500"]) == 2
    told = capsys.readouterr().err
    assert "--frames 1500" in told
    assert "are 2 episodes" in told
    assert "for 3 episodes at least" in told


def test_a_dataset_without_labels_is_refused_with_what_to_do(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_frames(FrameSource(ENV), tmp_path / "data", 200, 0)
    assert main(["probe", str(run), "--data", str(tmp_path / "data"), "--no-supervised"]) == 2
    told = capsys.readouterr().err
    assert "has no labels" in told
    assert "--wrap simulator-state" in told


def test_the_command_line_prints_a_column_each(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(run), "--frames", "600", "--no-supervised"]) == 0
    told = capsys.readouterr().out
    assert "pretrained" in told.splitlines()[0]
    assert "agent F1" in told
    assert "frames:" in told
    assert main(["probe", str(run), "--frames", "600", "--no-supervised", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["scores"]) == {"pretrained", "untrained", "majority"}
