"""What must not be imported, and how fast the command line answers."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
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
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert "train" in run([*command, "--help"])
        seconds.append(time.perf_counter() - start)
    assert statistics.median(seconds) < HELP_SECONDS
