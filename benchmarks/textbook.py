"""The textbooks' figures, measured again: expected beside measured, a JSON and a PNG each.

    python benchmarks/textbook.py list
    python benchmarks/textbook.py run                 # every figure that has no result yet
    python benchmarks/textbook.py run 7.2 8.2 --again
    python benchmarks/textbook.py table               # measured beside expected, as Markdown

Sutton and Barto (2018) by figure number; Zhao (2025) as course-…; truncation is ours. Results are in
benchmarks/results/textbook.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import textbook_figures
from textbook_figures.figure import FIGURES, Figure, Result, Scale

RESULTS = Path(__file__).parent / "results" / "textbook"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 1 where a measured number lies outside what is expected."""
    options = _parser().parse_args(arguments)
    for module in pkgutil.iter_modules(textbook_figures.__path__):
        importlib.import_module(f"textbook_figures.{module.name}")
    if options.command == "list":
        for figure in FIGURES.values():
            print(f"{figure.name:<24}{figure.title}")
        return 0
    if options.command == "table":
        print(table(options.results))
        return 0
    unknown = [name for name in options.names if name not in FIGURES]
    if unknown:
        sys.exit(f"unknown figures: {', '.join(unknown)}; allowed: {', '.join(FIGURES)}")
    wanted = [FIGURES[name] for name in options.names or FIGURES]
    scale = Scale(options.scale, options.threads)
    fresh = [figure for figure in wanted if options.again or not _path(options.results, figure, "json").exists()]
    return max((_run(figure, scale, options.results) for figure in fresh), default=0)


def _run(figure: Figure, scale: Scale, results: Path) -> int:
    print(f"{figure.name}: {figure.title}", flush=True)
    started = time.perf_counter()
    result = figure.measure(scale)
    seconds = time.perf_counter() - started
    for check in result.checks:
        mark = "ok " if check.holds else "OUT"
        print(f"  {mark} {check.what}: {check.measured:.4g}, expected {check.expected}")
    _draw(figure, result, _path(results, figure, "png"))
    record = {
        "figure": figure.name,
        "title": figure.title,
        "command": f"python benchmarks/textbook.py run {figure.name} --again --scale {scale.factor:g}",
        "seconds": round(seconds, 2),
        "checks": [vars(check) | {"holds": check.holds} for check in result.checks],
        "settings": dict(result.settings),
        "curves": dict(result.curves),
        "versions": {name: version(name) for name in ("numpy", "numba", "gymnasium")},
        "machine": platform.processor() or platform.machine(),
        "code": _code(),
        "finished": time.strftime("%Y-%m-%d"),
    }
    _path(results, figure, "json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"  {seconds:.1f} s, {_path(results, figure, 'png')}", flush=True)
    return int(not all(check.holds for check in result.checks))


def _draw(figure: Figure, result: Result, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7.0, 4.2), layout="constrained")
    result.draw(canvas)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(canvas).print_figure(str(path), dpi=100)


def table(results: Path) -> str:
    """Measured beside expected, of every figure that has a result."""
    lines = ["| figure | what | expected | measured | |", "|---|---|---|---|---|"]
    for figure in FIGURES.values():
        path = _path(results, figure, "json")
        if path.exists():
            record: dict[str, Any] = json.loads(path.read_text())
            lines += [
                f"| {figure.name} | {check['what']} | {check['expected']} | {check['measured']:.4g} | "
                f"{'' if check['holds'] else 'outside'} |"
                for check in record["checks"]
            ]
    return "\n".join(lines)


def _path(results: Path, figure: Figure, suffix: str) -> Path:
    return results / f"{figure.name}.{suffix}"


def _code() -> str:
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of JSON and PNG files")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all figures")
    commands.add_parser("table", help="measured beside expected")
    run = commands.add_parser("run", help="measure and draw")
    run.add_argument("names", nargs="*", help="figures; by default all without a result")
    run.add_argument("--again", action="store_true", help="also those that have a result")
    run.add_argument("--scale", type=float, default=1.0, help="fraction of the full number of runs")
    run.add_argument("--threads", type=int, default=2, help="cores for runs that need no Python")
    return parser


if __name__ == "__main__":
    sys.exit(main())
