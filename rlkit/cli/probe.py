"""`rlkit probe`: what an encoder's features tell of the simulator's state, beside its controls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import create_model

from rlkit.cli.flags import gathered


def run(arguments: list[str]) -> int:
    """Print a row for each kind of score and a column for the encoder and each control."""
    from rlkit.probing import ProbeOptions, judge

    positional: Any = Annotated[Path, tyro.conf.Positional]
    as_json: Any = Annotated[bool, tyro.conf.arg(name="json")]
    model: Any = create_model(
        "ProbeOptions", __base__=ProbeOptions, run=(positional, ...), as_json=(as_json, False)
    )  # fmt: skip
    options = tyro.cli(
        model, args=gathered(arguments, ("--wrap", "--env-args")), prog="rlkit probe",
        description="Judge a pretrained encoder (the folder RUN) by what linear probes of its features tell.",
    )  # fmt: skip
    kept = ProbeOptions(**{name: getattr(options, name) for name in ProbeOptions.model_fields})
    found = judge(options.run, kept)
    print(json.dumps(found.record(), indent=1) if options.as_json else _text(found))
    return 0


def _text(found: Any) -> str:
    from rlkit.probing import scores_of

    columns = {name: scores_of(table) for name, table in found.tables.items()}
    rows = list(next(iter(columns.values())))
    width = max(map(len, rows)) + 2
    lines = [" " * width + "".join(f"{name:>12}" for name in columns)]
    lines += [f"{row:<{width}}" + "".join(f"{scores[row]:>12.3f}" for scores in columns.values()) for row in rows]
    frames = ", ".join(f"{count:,} to {name}" for name, count in found.frames.items())
    return "\n".join([*lines, f"frames: {frames}"])
