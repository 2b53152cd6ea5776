"""The linter, the formatter and the type checker find nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
import source_tree


def check(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=source_tree.ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}{done.stderr}"


def test_ruff_finds_nothing() -> None:
    check("ruff", "check", ".")


def test_files_are_formatted() -> None:
    check("ruff", "format", "--check", ".")


@pytest.mark.timeout(900)
def test_mypy_finds_nothing() -> None:
    links = [source_tree.ROOT / "rlkit" / name for name in ("agents", "envs", "configs")]
    if not all(link.is_dir() for link in links):
        pytest.skip("the links in rlkit/ are missing (git config core.symlinks true); mypy needs them")
    check("mypy")
