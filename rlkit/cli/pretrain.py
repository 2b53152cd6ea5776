"""`rlkit pretrain`: parsed in two stages, first the method, then the options of that method."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from pydantic import create_model

from rlkit import registry
from rlkit.cli.flags import gathered
from rlkit.errors import UsageError

HELP = """usage: rlkit pretrain METHOD (--env ENV [--frames N] [--policy RUN] | --data PATH) [OPTIONS]
       rlkit pretrain --resume RUN [--updates N]

METHOD is how the encoder learns:
{methods}

rlkit pretrain METHOD --help lists all options of a run and of that method.
"""


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with a pretraining run exactly where it stopped."""

    resume: Path
    """the run's folder"""
    updates: int | None = None
    """a larger number of updates extends the run"""


def run(arguments: list[str]) -> int:
    """Pretrain or resume, and print where the run is."""
    if not arguments or arguments[0] in ("-h", "--help"):
        return _help(asked=bool(arguments))
    if any(argument.split("=")[0] == "--resume" for argument in arguments):
        from rlkit.pretraining import resume_pretraining

        options = tyro.cli(ResumeOptions, args=arguments, prog="rlkit pretrain")
        return _report(resume_pretraining(options.resume, options.updates))
    method, *rest = arguments
    if method.startswith("-"):
        raise UsageError(f"the method comes first: rlkit pretrain METHOD {shlex.join(arguments)}")
    return _begin(method, gathered(rest, ("--wrap", "--env-args")))


def _begin(method: str, arguments: list[str]) -> int:
    config_class: Any = registry.method_class(method).Config
    from rlkit.pretrain_config import PretrainConfig, PretrainOptions
    from rlkit.pretraining import start_pretraining

    model: Any = create_model(
        "PretrainOptions", __base__=PretrainOptions, method=(config_class, config_class()), run_dir=(Path | None, None)
    )
    parsed = tyro.cli(
        model, args=arguments, prog=f"rlkit pretrain {method}", description=registry.METHODS[method].summary
    )
    options = PretrainOptions(**{name: getattr(parsed, name) for name in PretrainOptions.model_fields})
    return _report(start_pretraining(PretrainConfig(method, parsed.method, options), parsed.run_dir))


def _help(asked: bool) -> int:
    width = max(map(len, registry.METHODS)) + 2
    methods = "\n".join(f"  {name:<{width}}{entry.summary}" for name, entry in registry.METHODS.items())
    print(HELP.format(methods=methods))
    return 0 if asked else 2


def _report(result: Any) -> int:
    """The last lines of a run: what came of it, and what to do next; of several processes one tells."""
    if os.environ.get("RANK", "0") != "0":
        return 0
    run_dir = shlex.quote(str(result.run_dir))
    facts = ", ".join(
        f"{name.partition('/')[2].replace('_', ' ')} {value:.3g}" for name, value in result.evaluated.items()
    )
    print(f"{result.status}: {result.updates:,} updates in {result.seconds:.1f} s{'; ' + facts if facts else ''}")
    print(f"run: {result.run_dir}")
    if result.exit_code:
        print(f"go on with:  rlkit pretrain --resume {run_dir}")
    else:
        print(f"use it with: rlkit train AGENT --env ENV --encoder {run_dir}")
        print(f"judge with:  rlkit probe {run_dir} --env ENV")
    code: int = result.exit_code
    return code
