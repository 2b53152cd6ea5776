"""What must not be imported, and how fast the command line answers."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "gymnasium", "pydantic", "tensorboard", "stable_baselines3", "numba", "scipy"}
HELP_SECONDS = 0.5


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running `code`."""
    report = "import sys; print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    return set(run([sys.executable, "-c", f"{code}\n{report}"]).splitlines()[-1].split())


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_rlkit_loads_nothing_heavy() -> None:
    assert loaded_by("import rlkit") & HEAVY == set()


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
from rlkit.cli.main import main
sys.argv = ["rlkit", "--help"]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert not code, code
"""
    assert loaded_by(code) & HEAVY == set()


@pytest.mark.parametrize("command", [[sys.executable, "-m", "rlkit"], [str(Path(sys.executable).parent / "rlkit")]])
def test_help_answers_at_once(command: list[str]) -> None:
    seconds = []  # of the processor, as another test may run beside this one
    for _ in range(5):
        before = os.times()
        assert "train" in run([*command, "--help"])
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert statistics.median(seconds) < HELP_SECONDS
