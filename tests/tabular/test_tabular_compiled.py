"""Compiled code draws numpy's numbers, keeps its references in order, and is never older than its source."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import source_tree

import rlkit
from rlkit.tabular.compiled import compiled
from rlkit.tabular.stepping import _integer_below
from rlkit.tabular.streams import generator_of, stream


@compiled
def _draws(a_stream: Any, out: Any) -> None:
    rng = generator_of(a_stream)
    for i in range(0, len(out), 4):
        out[i] = rng.random()
        out[i + 1] = rng.standard_normal()
        out[i + 2] = _integer_below(13, rng)
        out[i + 3] = _integer_below(3, rng)


@pytest.mark.parametrize("seed", range(5))
def test_a_stream_draws_the_numbers_of_its_generator_and_moves_it_on(seed: int) -> None:
    generator, twin = np.random.default_rng(seed), np.random.default_rng(seed)
    out = np.empty(4000)
    _draws(stream(generator), out)
    expected = [
        number
        for _ in range(1000)
        for number in (twin.random(), twin.standard_normal(), twin.integers(13), twin.integers(3))
    ]
    assert out.tolist() == expected
    assert generator.bit_generator.state == twin.bit_generator.state


def test_compiled_calls_leave_no_references_behind() -> None:
    agent = rlkit.make("q-learning", "FrozenLake-v1")
    agent.advance(10, 10)
    arrays = (agent.tables.values, agent.tables.visits, agent._act_rng, agent._streams.env)
    before = [sys.getrefcount(each) for each in arrays]
    for _ in range(50):
        agent.advance(10, 10)
    assert [sys.getrefcount(each) for each in arrays] == before


def run_from_shell(arguments: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=dict(os.environ) | env, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize("agent", ["value-iteration", "q-learning"])
def test_a_tabular_run_imports_no_torch(agent: str, tmp_path: Path) -> None:
    command = ["train", agent, "--env", "FrozenLake-v1", "--total-steps", "2000", "--run-dir", str(tmp_path / "run")]
    code = f"import sys; from rlkit.cli.main import main; main({command!r}); assert 'torch' not in sys.modules"
    run_from_shell(["-c", code], tmp_path)


def test_value_iteration_from_the_shell_takes_under_two_seconds(tmp_path: Path) -> None:
    seconds = []  # of the processor, as another test may run beside this one
    for number in range(4):  # the first may compile
        started = os.times()
        arguments = ["--env", "FrozenLake-v1", "--run-dir", str(tmp_path / str(number))]
        run_from_shell(["-m", "rlkit", "train", "value-iteration", *arguments], tmp_path)
        ended = os.times()
        seconds.append(ended.children_user + ended.children_system - started.children_user - started.children_system)
    assert min(seconds[1:]) < 2.0


@pytest.mark.slow
def test_a_changed_equation_is_compiled_anew(tmp_path: Path) -> None:
    for folder in ("rlkit", "agents", "envs", "configs"):
        shutil.copytree(source_tree.ROOT / folder, tmp_path / folder, symlinks=True)
    code = (
        "import json, rlkit; agent = rlkit.make('q-learning', 'FrozenLake-v1', learning_rate=1.0)\n"
        "agent.advance(5, 5); print(json.dumps([rlkit.__file__, float(agent.tables.values.max())]))"
    )
    env = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def greatest_value() -> float:
        place, value = json.loads(run_from_shell(["-c", code], tmp_path, **env).stdout)
        assert place.startswith(str(tmp_path))
        return float(value)

    assert greatest_value() == 0.0
    source = tmp_path / "rlkit" / "ops" / "td.py"
    changed = source.read_text().replace(
        "return reward_t1 + discount * best", "return reward_t1 + discount * best + 7.0"
    )
    assert changed != source.read_text()
    source.write_text(changed)
    assert greatest_value() >= 7.0
