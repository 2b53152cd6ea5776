"""What `rlkit pretrain` and `rlkit detect train` share: a name first, then the options of a run and of that name."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from pydantic import create_model

from rlkit.cli.flags import gathered
from rlkit.errors import UsageError
from rlkit.registry import Entry

REPEATED = ("--wrap", "--env-args")
"""Flags that may be given several times."""


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run exactly where it stopped."""

    resume: Path
    """the run's folder"""
    updates: int | None = None
    """a larger number of updates extends the run"""


def is_resume(arguments: Sequence[str]) -> bool:
    """Whether a run is to go on."""
    return any(argument.split("=")[0] == "--resume" for argument in arguments)


def named(arguments: Sequence[str], prog: str, part: str) -> tuple[str, list[str]]:
    """The name, which comes first, and the options after it.

    Raises:
        UsageError: an option comes first.
    """
    name, *rest = arguments
    if name.startswith("-"):
        raise UsageError(f"the {part} comes first: {prog} {part.upper()} {shlex.join(arguments)}")
    return name, gathered(rest, REPEATED)


def parsed_options(
    arguments: list[str], prog: str, part: str, config_class: Any, options_class: Any, summary: str
) -> tuple[Any, Any, Path | None]:
    """The run's options, those of `part`, which stand behind its name, and the run's folder."""
    fields: Any = {part: (config_class, config_class()), "run_dir": (Path | None, None)}
    model: Any = create_model(options_class.__name__, __base__=options_class, **fields)
    parsed = tyro.cli(model, args=arguments, prog=prog, description=summary)
    values = {name: getattr(parsed, name) for name in options_class.model_fields}
    return options_class(**values), getattr(parsed, part), parsed.run_dir


def print_help(text: str, entries: Mapping[str, Entry], arguments: Sequence[str]) -> int:
    """Print `text` with a line for each name where {names} stands; the exit code, wrong usage without arguments."""
    width = max(map(len, entries)) + 2
    print(text.format(names="\n".join(f"  {name:<{width}}{entry.summary}" for name, entry in entries.items())))
    return 0 if arguments else 2


def print_result(result: Any, digits: str) -> None:
    """What came of a run, and where it is; the evaluation in a format such as `.3f`."""
    found = {name.partition("/")[2].replace("_", " "): value for name, value in result.evaluated.items()}
    facts = ", ".join(f"{name} {value:{digits}}" for name, value in found.items())
    print(f"{result.status}: {result.updates:,} updates in {result.seconds:.1f} s{'; ' + facts if facts else ''}")
    print(f"run: {result.run_dir}")
