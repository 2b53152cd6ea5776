"""`rlkit plot` draws what `metrics.jsonl` holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlkit.cli.main import main
from rlkit.cli.plot import _mean


def a_run(folder: Path, values: list[float]) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text("agent: {name: ddpg}\nenv: Pendulum-v1\n")
    lines = [json.dumps({"step": 10 * i, "rollout/ep_rew_mean": value}) for i, value in enumerate(values, 1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_runs_become_a_small_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [a_run(tmp_path / name, [1.0, 2.0, 3.0]) for name in ("a", "b")]
    output = tmp_path / "new" / "curve.png"
    assert main(["plot", *map(str, runs), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert output.read_bytes()[:4] == b"\x89PNG"
    assert output.stat().st_size < 100_000


def test_the_mean_is_over_steps_that_all_runs_logged() -> None:
    assert _mean([[(10, 1.0), (20, 2.0)], [(10, 3.0)], []]) == [(10, 2.0)]


def test_a_run_without_the_metric_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(tmp_path / "a", [1.0])
    assert main(["plot", str(run), "--metrics", "train/loss"]) == 2
    assert "train/loss" in capsys.readouterr().err
