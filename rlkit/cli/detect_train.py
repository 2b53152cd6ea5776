"""`rlkit detect train`: parsed in two stages, first the detector, then the options of that detector."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import tyro

from rlkit import registry
from rlkit.cli.fit import ResumeOptions, is_resume, named, parsed_options, print_help, print_result
from rlkit.cli.flags import renamed

PROG = "rlkit detect train"
HELP = """usage: rlkit detect train DETECTOR (--stream NAME | --data PATH | --features PATH) [OPTIONS]
       rlkit detect train --resume RUN [--updates N]

DETECTOR is how a stream is watched:
{names}

rlkit detect train DETECTOR --help lists all options of a run and of that detector.
"""


def run(arguments: list[str]) -> int:
    """Train or resume, and print where the run is."""
    if not arguments or arguments[0] in ("-h", "--help"):
        return print_help(HELP, registry.DETECTORS, arguments)
    if is_resume(arguments):
        from rlkit.detecting import resume_detection

        options = tyro.cli(ResumeOptions, args=arguments, prog=PROG)
        return _report(resume_detection(options.resume, options.updates))
    return _begin(*named(renamed(arguments, "--env", "--stream"), PROG, "detector"))


def _begin(name: str, arguments: list[str]) -> int:
    config_class = registry.detector_class(name).Config
    from rlkit.detect_config import DetectConfig, DetectOptions
    from rlkit.detecting import start_detection

    options, config, run_dir = parsed_options(
        arguments, f"{PROG} {name}", "detector", config_class, DetectOptions, registry.DETECTORS[name].summary
    )
    return _report(start_detection(DetectConfig(name, config, options), run_dir))


def _report(result: Any) -> int:
    """The last lines of a run: what came of it, and what to do next."""
    print_result(result, ".3f")
    run_dir = shlex.quote(str(result.run_dir))
    if result.exit_code:
        print(f"go on with:  rlkit detect train --resume {run_dir}")
    else:
        print(f"watch with:  rlkit detect run {run_dir}{_source_of(result.run_dir)}")
    code: int = result.exit_code
    return code


def _source_of(run: Path) -> str:
    """The option that names what the run learned from; nothing for a simulator, which is played anew by itself."""
    from rlkit.detect_config import stored_detection
    from rlkit.runs import open_run

    options = stored_detection(open_run(run)).options
    given = {"--data": options.data, "--features": options.features}
    return "".join(f" {name} {shlex.quote(path)}" for name, path in given.items() if path is not None)
