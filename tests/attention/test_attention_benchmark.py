"""`benchmarks/attention_gpu.py`: its arithmetic, and all of it in small on the CPU; no GPU has to be there."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import source_tree
import torch

SCRIPT = source_tree.ROOT / "benchmarks" / "attention_gpu.py"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[SimpleNamespace]:
    sys.path.insert(0, str(SCRIPT.parent))
    names = ("gpu", "table", "contenders")
    yield SimpleNamespace(**{name: importlib.import_module(f"attention_{name}") for name in names})
    sys.path.remove(str(SCRIPT.parent))


def record(shape: str, contender: str, forward: float, backward: float, **more: Any) -> dict[str, Any]:
    times = {"forward_us": forward, "backward_us": backward, "total_us": forward + backward, "forward_gb_s": 1.0}
    common = {"floors_us": [10.0, 20.0], "moved": [30_000, 60_000], "how": "graph"}
    return {"shape": shape, "contender": contender, **times, **common, **more}


def found(goals: list[dict[str, Any]], words: str) -> tuple[float | None, bool | None]:
    (goal,) = (goal for goal in goals if words in goal["what"])
    return goal["found"], goal["passed"]


def test_goals_compare_with_the_fastest_that_computes_the_same(benchmark: SimpleNamespace) -> None:
    records = [
        record("S1", "own", 15.0, 25.0, peak_bytes=1), record("S1", "SDPA efficient", 60.0, 60.0),
        record("S1", "SDPA math", 90.0, 90.0), record("S1", "SDPA flash, mask ignored", 1.0, 1.0),
        record("S1", "SDPA cuDNN", 1.0, 1.0, wrong=True), record("S1", "Flex", 20.0, 24.0),
        record("S1", "Flex, mask anew", 80.0, 80.0), {"shape": "S2", "contender": "own", "problem": "it fell over"},
    ]  # fmt: skip
    goals = benchmark.table.goals(records, None)
    assert {goal["goal"] for goal in goals} == set(range(1, 9))
    assert found(goals, "S1, SDPA with dense mask") == (3.0, True)
    assert found(goals, "S1, Flex over ours") == (1.1, False)
    assert found(goals, "S1, Flex with its mask built anew") == (4.0, True)
    assert found(goals, "S1 forward over floor") == (1.5, True)
    assert found(goals, "S2, SDPA with dense mask") == (None, None)
    assert found(goals, "whole policy step") == (None, None)


def test_the_floor_is_the_lower_of_the_notes_and_this_gpus(benchmark: SimpleNamespace) -> None:
    own = record("S1", "own", 1.0, 1.0)
    assert benchmark.table.floor(own, False, None) == 10.0
    assert benchmark.table.floor(own, False, 1.0) == 10.0
    assert benchmark.table.floor(own, True, 4.0) == 15.0


@pytest.mark.parametrize("name", ["S1", "S2", "S5", "S7"])
def test_floors_of_the_notes_are_the_bytes_over_three_terabytes(benchmark: SimpleNamespace, name: str) -> None:
    shape = benchmark.contenders.SHAPES[name]
    for backward, floor in enumerate(shape.floors):
        assert shape.moved(bool(backward)) / 3e12 * 1e6 == pytest.approx(floor, rel=0.03)


def test_what_a_contender_fails_with_is_kept(benchmark: SimpleNamespace) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("no kernel\nand more")

    assert benchmark.gpu.guarded(broken, math.inf) == {"problem": "RuntimeError: no kernel"}
    assert "no time was left" in benchmark.gpu.guarded(broken, 0.0)["problem"]


def test_torchs_own_is_measured_and_right(benchmark: SimpleNamespace) -> None:
    shape = benchmark.contenders.SHAPES["S2"].tiny()
    mask = shape.mask("cpu")
    sets = benchmark.contenders.buffers(shape, "cpu", torch.float32)
    prepare = dict(benchmark.contenders.contenders(shape, mask, "cpu"))["SDPA math"]
    measured = benchmark.gpu.measure(prepare, sets, benchmark.gpu.right_answers(sets[0], mask), shape, "cpu")
    assert measured["error"] < 1e-6
    assert measured["gradient_error"] < 1e-6
    assert not measured["wrong"]


@pytest.mark.triton
@pytest.mark.skipif(find_spec("triton") is None, reason="needs the extra triton")
def test_a_dry_run_measures_everything_in_small(tmp_path: Path) -> None:
    shapes = ("S2", "S5", "S6 cross", "S8 MQA C=64")
    command = [sys.executable, str(SCRIPT), "--dry", "--results", str(tmp_path), "--shapes", *shapes]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "results.json").read_text("utf-8"))
    own = {record["shape"]: record for record in kept["records"] if record["contender"] == "own"}
    assert set(own) == {*shapes, "steady", "policy"}
    for name in ("S2", "S5", "S6 cross"):
        assert own[name]["error"] < 1e-6
        assert own[name]["gradient_error"] < 1e-6
    assert own["S8 MQA C=64"]["forward_us"] > 0
    assert own["steady"]["compiled"] == 0
    assert "not measured" in own["policy"]["problem"]
    cudnn = next(record for record in kept["records"] if record["contender"] == "SDPA cuDNN")
    assert "RuntimeError" in cudnn["problem"]
    text = (tmp_path / "table.md").read_text("utf-8")
    assert text in done.stdout
    assert text.startswith("Dry run, the figures mean nothing.")
    again = subprocess.run([*command[:2], "table", "--results", str(tmp_path)], capture_output=True, text=True)
    assert again.stdout == text


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_refuses_in_one_line() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "attention_gpu.py measures on an NVIDIA GPU, and torch sees no CUDA device here"
    ]
