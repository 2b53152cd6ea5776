"""`benchmarks/gpu_speed.py`: what it counts, and what it says where something is missing."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import source_tree
import torch

SCRIPT = source_tree.ROOT / "benchmarks" / "gpu_speed.py"


@pytest.fixture(scope="module")
def gpu_speed() -> Iterator[ModuleType]:
    sys.path.insert(0, str(SCRIPT.parent))
    yield importlib.import_module("gpu_speed")
    sys.path.remove(str(SCRIPT.parent))


def test_steps_are_counted_from_the_first_time_to_the_last(gpu_speed: ModuleType) -> None:
    found = gpu_speed.speed([10.0, 12.0, 13.0, 14.0], cycle=2048)
    assert found == {"steps": 3 * 2048, "seconds": 4.0, "steps_per_second": 1536.0}


def test_too_short_a_measurement_says_what_to_change(gpu_speed: ModuleType) -> None:
    with pytest.raises(SystemExit, match="--seconds"):
        gpu_speed.speed([1.0], cycle=1)


@pytest.mark.parametrize("agent", ["ddpg", "ppo"])
def test_rlkit_is_timed_after_its_burn_in(gpu_speed: ModuleType, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"hidden": (8,), "batch_size": 8}
    settings = {"ddpg": {**own, "learning_starts": 50}, "ppo": {**own, "n_steps": 32, "epochs": 1}}
    monkeypatch.setattr(gpu_speed, "SETTINGS", settings)
    monkeypatch.setattr(gpu_speed, "LEARNING_STARTS", 50)
    monkeypatch.setattr(gpu_speed, "ROLLOUT", 32)
    given: list[tuple[list[float], int]] = []
    plain = gpu_speed.speed
    monkeypatch.setattr(gpu_speed, "speed", lambda begun, cycle: (given.append((begun, cycle)), plain(begun, cycle))[1])

    record = gpu_speed.measure_rlkit(agent, "Pendulum-v1", "cpu", 0.5)
    ((begun, cycle),) = given
    times = max(gpu_speed.Clocked.begun, key=len)
    assert begun[0] == times[64 if agent == "ppo" else 53]
    assert begun[1] == times[96 if agent == "ppo" else 54]
    assert record["mode"] == "eager, cpu"
    assert record["steps"] == (len(begun) - 1) * cycle


def leanrl_checkout(folder: Path, program: str) -> Path:
    script = folder / "leanrl" / "td3_continuous_action_torchcompile.py"
    script.parent.mkdir()
    script.write_text(program)
    return folder


def test_the_last_speed_that_leanrl_shows_counts(gpu_speed: ModuleType, tmp_path: Path) -> None:
    program = """
import sys
assert sys.argv[1:] == ["--seed", "1", "--compile", "--cudagraphs"]
sys.stderr.write("900.5000 sps, \\r 2%| 936.2500 sps, ")
"""
    checkout = leanrl_checkout(tmp_path, program)
    found = gpu_speed.measure_leanrl("td3", "compile + CUDA graphs", checkout, sys.executable, 0.0)
    assert found["steps_per_second"] == 936.25


def test_what_leanrl_failed_with_is_kept(gpu_speed: ModuleType, tmp_path: Path) -> None:
    checkout = leanrl_checkout(tmp_path, "raise KeyError('final_observation')")
    found = gpu_speed.measure_leanrl("td3", "eager", checkout, sys.executable, 0.0)
    assert found["steps_per_second"] is None
    assert found["problem"] == "KeyError: 'final_observation'"


def test_a_missing_leanrl_is_told(gpu_speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--leanrl DIR" in gpu_speed.leanrl_problem(None, sys.executable)
    assert "no folder leanrl" in gpu_speed.leanrl_problem(tmp_path, sys.executable)
    checkout = leanrl_checkout(tmp_path, "")
    monkeypatch.setattr(gpu_speed, "LEANRL_PACKAGES", ("json", "no_such_package"))
    assert "lacks no_such_package" in gpu_speed.leanrl_problem(checkout, sys.executable)
    monkeypatch.setattr(gpu_speed, "LEANRL_PACKAGES", ("json",))
    assert gpu_speed.leanrl_problem(checkout, sys.executable) is None


def test_the_table_has_what_was_measured_and_what_was_published(gpu_speed: ModuleType, tmp_path: Path) -> None:
    common: dict[str, Any] = {"agent": "ppo", "gpu": "NVIDIA H200"}
    for record in (
        {**common, "library": "rlkit", "mode": "eager, cuda", "steps_per_second": 887.0},
        {**common, "library": "LeanRL", "mode": "eager, cuda", "steps_per_second": None},
    ):
        gpu_speed.write(record, tmp_path)
    assert json.loads((tmp_path / "ppo-rlkit-eager-cuda.json").read_text())["steps_per_second"] == 887.0
    text = gpu_speed.table(tmp_path)
    assert "| ppo | rlkit | eager, cuda | 887 | 0.50 | NVIDIA H200 |" in text
    assert "| ppo | LeanRL | eager, cuda | - | - | NVIDIA H200 |" in text
    assert "| ppo | LeanRL, published | compile + CUDA graphs, cuda | 1,774 | 1.00 | H100 |" in text


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_refuses_in_one_line() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["gpu_speed.py measures on an NVIDIA GPU, and torch sees no CUDA device here"]
