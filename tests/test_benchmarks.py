"""The benchmark scripts: patches of CleanRL, arithmetic of the table, one tiny measurement."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import pytest
import source_tree

SCRIPT = source_tree.ROOT / "benchmarks" / "agents_speed.py"


@pytest.fixture(scope="module")
def speed() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agents_speed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["agents_speed"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def fake(library: str, number: int, seconds: float, **changes: Any) -> dict[str, Any]:
    record = {
        "work": "ddpg", "env": "Pendulum-v1", "library": library, "sitting": "a", "round": number, "steps": 100,
        "libraries": ["rlkit", "sb3"], "seconds": seconds, "machine": "m", "versions": {"torch": "2"},
        "finished": "2026-01-01",
    }  # fmt: skip
    if library == "rlkit":
        record |= {"code": "0", "matmul_backend": "mkl"}
    return record | changes


def rows(text: str) -> dict[str, list[str]]:
    """Cells by library."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    return {row[1]: row for row in cells[2:]}


def test_ratio_is_the_median_of_the_ratios_of_each_round(speed: ModuleType) -> None:
    # rlkit 100, 50, 20 and sb3 20, 25, 20 steps/s: ratios 5, 2, 1; the ratio of the medians would be 2.5
    seconds = [(1, 5), (2, 4), (5, 5)]
    records = [
        fake(library, number, value)
        for number, pair in enumerate(seconds, 1)
        for library, value in zip(("rlkit", "sb3"), pair, strict=True)
    ]
    found = rows(speed.table(records))
    assert found["rlkit"][2:] == ["50.0 [20.0–100.0] steps/s", "–", "3"]
    assert found["sb3"][2:] == ["20.0 [20.0–25.0] steps/s", "2.00 [1.00–5.00]", "3"]


def test_incomplete_rounds_do_not_count_and_rounds_are_not_put_together_from_two_sittings(speed: ModuleType) -> None:
    records = [fake("rlkit", 1, 1), fake("sb3", 1, 2), fake("rlkit", 2, 1), fake("sb3", 2, 2, sitting="b")]
    assert rows(speed.table(records))["sb3"][4] == "1"


def test_rounds_of_several_sittings_add_up(speed: ModuleType) -> None:
    records = [fake(library, 1, 1, sitting=sitting) for sitting in "ab" for library in ("rlkit", "sb3")]
    assert rows(speed.table(records))["sb3"][4] == "2"


@pytest.mark.parametrize("change", [{"steps": 50}, {"machine": "other"}, {"versions": {"torch": "3"}}, {"code": "1"}])
def test_rounds_under_other_conditions_than_the_newest_are_left_out(speed: ModuleType, change: dict[str, Any]) -> None:
    old = [fake(library, 1, 9, **change) for library in ("rlkit", "sb3")]
    new = [fake(library, 1, 1, sitting="b", finished="2026-02-01") for library in ("rlkit", "sb3")]
    text = speed.table(old + new)
    assert rows(text)["rlkit"][2] == "100.0 [100.0–100.0] steps/s"
    assert "1 complete rounds with other" in text


def test_calls_are_told_in_microseconds(speed: ModuleType) -> None:
    changes = {"work": "acting", "env": "", "libraries": ["rlkit", "torch"]}
    text = speed.table([fake("rlkit", 1, 0.001, **changes), fake("torch", 1, 0.004, **changes)])
    assert rows(text)["torch"][2:4] == ["40.0 [40.0–40.0] µs", "0.25 [0.25–0.25]"]


def test_clock_counts_steps_over_episodes(speed: ModuleType) -> None:
    env = speed.StepClock(gym.make("Pendulum-v1", max_episode_steps=2), 3, 5)
    speed.StepClock.marks.clear()
    for _ in range(3):
        env.reset(seed=0)
        for _ in range(2):
            env.step(env.action_space.sample())
    assert sorted(speed.StepClock.marks) == [3, 5]


def test_marks_come_from_one_environment(speed: ModuleType) -> None:
    for steps in (4, 2):  # the first one goes to the end, the second stops before it
        env = speed.StepClock(gym.make("Pendulum-v1"), 2, 4)
        env.reset(seed=0)
        for _ in range(steps):
            env.step(env.action_space.sample())
    assert list(speed.StepClock.marks) == [2]


def test_a_patch_that_does_not_fit_stops(speed: ModuleType) -> None:
    with pytest.raises(SystemExit, match="has changed"):
        speed.patched("print('another script')")


def test_cleanrl_is_read_from_a_work_tree_and_from_a_bare_directory(speed: ModuleType, tmp_path: Path) -> None:
    tree, bare = tmp_path / "tree", tmp_path / "bare"
    (tree / "cleanrl").mkdir(parents=True)
    (tree / speed.CLEANRL_SCRIPT).write_text("x = 1\n")
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for command in (
        ["init", "-q"],
        ["add", "."],
        [*author, "commit", "-qm", "x"],
        ["clone", "-q", "--bare", ".", bare],
    ):
        subprocess.run(["git", *command], cwd=tree, check=True, capture_output=True)
    for checkout in (tree, bare):
        assert speed.cleanrl_source(checkout, speed.CLEANRL_SCRIPT) == "x = 1\n"
        assert len(speed.git(checkout, "rev-parse", "HEAD").strip()) == 40


def test_patches_fit_cleanrls_script(speed: ModuleType) -> None:
    if "CLEANRL_DIR" not in os.environ:
        pytest.skip("CLEANRL_DIR names no checkout of vwxyzjn/cleanrl")
    source = speed.cleanrl_source(Path(os.environ["CLEANRL_DIR"]), speed.CLEANRL_SCRIPT)
    text = speed.patched(source)
    ast.parse(text)
    assert text.count("SAME_STEP") == 1
    assert 'infos["final_observation"]' not in text


@pytest.mark.slow
def test_tiny_measurement_ends_in_a_table(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "run", "--envs", "Pendulum-v1", "--rounds", "1", "--steps", "20"]
    checkout = os.environ.get("CLEANRL_DIR")
    options = ["--results", str(tmp_path), *([] if checkout is None else ["--cleanrl", checkout])]
    told = subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout
    assert ("CleanRL is left out" in told) == (checkout is None)

    files = sorted(tmp_path.glob("*/r01-ddpg-Pendulum-v1-*.json"))
    records = [json.loads(file.read_text()) for file in files]
    expected = {"rlkit", "sb3"} | (set() if checkout is None else {"cleanrl"})
    assert {record["library"] for record in records} == expected
    assert all(record["seconds"] > 0 and record["steps"] == 20 for record in records)
    assert not list(tmp_path.glob("*/*.partial"))

    command = [sys.executable, str(SCRIPT), "table", "--results", str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == (tmp_path / "table.md").read_text()
    assert set(rows(printed)) == expected
