"""What the scripts of steps per second share: rows of rounds in one JSON, their ratios, and the command line."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any


def circumstances() -> dict[str, Any]:
    """Machine, versions, commit and day of a record."""
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "machine": platform.processor() or platform.machine(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("numpy", "numba", "gymnasium")},
        "code": answer.stdout.strip(),
        "finished": time.strftime("%Y-%m-%d"),
    }


def write(path: Path, record: Mapping[str, Any]) -> None:
    """One record as JSON."""
    path.write_text(json.dumps(record, indent=1) + "\n")


def ratio(rows: Sequence[Mapping[str, float]], name: str, other: str) -> str:
    """Median (least–greatest) of the ratios within the rounds."""
    ratios = [row[name] / row[other] for row in rows]
    return f"{median(ratios):.3g} ({min(ratios):.3g}–{max(ratios):.3g})"


def main(
    description: str | None, results: Path, run: Callable[[int, Path], None], table: Callable[[Path], str]
) -> None:
    """`run --rounds N` and then, or alone, `table`, which is printed and written beside the results."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=results)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("--rounds", type=int, default=5)
    commands.add_parser("table")
    options = parser.parse_args()
    if options.command == "run":
        run(options.rounds, options.results)
    text = table(options.results)
    (options.results / "table.md").write_text(text + "\n")
    print(text)
    sys.exit(0)
