"""`rlkit pretrain`: parsed in two stages, first the method, then the options of that method."""

from __future__ import annotations

import os
import shlex
from typing import Any

import tyro

from rlkit import registry
from rlkit.cli.fit import ResumeOptions, is_resume, named, parsed_options, print_help, print_result

PROG = "rlkit pretrain"
HELP = """usage: rlkit pretrain METHOD (--env ENV [--frames N] [--policy RUN] | --data PATH) [OPTIONS]
       rlkit pretrain --resume RUN [--updates N]

METHOD is how the encoder learns:
{names}

rlkit pretrain METHOD --help lists all options of a run and of that method.
"""


def run(arguments: list[str]) -> int:
    """Pretrain or resume, and print where the run is."""
    if not arguments or arguments[0] in ("-h", "--help"):
        return print_help(HELP, registry.METHODS, arguments)
    if is_resume(arguments):
        from rlkit.pretraining import resume_pretraining

        options = tyro.cli(ResumeOptions, args=arguments, prog=PROG)
        return _report(resume_pretraining(options.resume, options.updates))
    return _begin(*named(arguments, PROG, "method"))


def _begin(method: str, arguments: list[str]) -> int:
    config_class = registry.method_class(method).Config
    from rlkit.pretrain_config import PretrainConfig, PretrainOptions
    from rlkit.pretraining import start_pretraining

    options, config, run_dir = parsed_options(
        arguments, f"{PROG} {method}", "method", config_class, PretrainOptions, registry.METHODS[method].summary
    )
    return _report(start_pretraining(PretrainConfig(method, config, options), run_dir))


def _report(result: Any) -> int:
    """The last lines of a run: what came of it, and what to do next; of several processes one tells."""
    if os.environ.get("RANK", "0") != "0":
        return 0
    print_result(result, ".3g")
    run_dir = shlex.quote(str(result.run_dir))
    if result.exit_code:
        print(f"go on with:  rlkit pretrain --resume {run_dir}")
    else:
        print(f"use it with: rlkit train AGENT --env ENV --encoder {run_dir}")
        print(f"judge with:  rlkit probe {run_dir} --env ENV")
    code: int = result.exit_code
    return code
