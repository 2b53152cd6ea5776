"""`rlkit detect train`: parsed in two stages, first the detector, then the options of that detector."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from pydantic import create_model

from rlkit import registry
from rlkit.cli.flags import gathered
from rlkit.errors import UsageError

HELP = """usage: rlkit detect train DETECTOR (--stream NAME | --data PATH | --features PATH) [OPTIONS]
       rlkit detect train --resume RUN [--updates N]

DETECTOR is how a stream is watched:
{detectors}

rlkit detect train DETECTOR --help lists all options of a run and of that detector.
"""


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with a detector's run exactly where it stopped."""

    resume: Path
    """the run's folder"""
    updates: int | None = None
    """a larger number of updates extends the run"""


def run(arguments: list[str]) -> int:
    """Train or resume, and print where the run is."""
    if not arguments or arguments[0] in ("-h", "--help"):
        return _help(asked=bool(arguments))
    if any(argument.split("=")[0] == "--resume" for argument in arguments):
        from rlkit.detecting import resume_detection

        options = tyro.cli(ResumeOptions, args=arguments, prog="rlkit detect train")
        return _report(resume_detection(options.resume, options.updates))
    detector, *rest = arguments
    if detector.startswith("-"):
        raise UsageError(f"the detector comes first: rlkit detect train DETECTOR {shlex.join(arguments)}")
    return _begin(detector, gathered(rest, ("--wrap", "--env-args")))


def _begin(name: str, arguments: list[str]) -> int:
    config_class: Any = registry.detector_class(name).Config
    from rlkit.detect_config import DetectConfig, DetectOptions
    from rlkit.detecting import start_detection

    model: Any = create_model(
        "DetectOptions", __base__=DetectOptions, detector=(config_class, config_class()), run_dir=(Path | None, None)
    )
    parsed = tyro.cli(
        model, args=arguments, prog=f"rlkit detect train {name}", description=registry.DETECTORS[name].summary
    )
    options = DetectOptions(**{field: getattr(parsed, field) for field in DetectOptions.model_fields})
    return _report(start_detection(DetectConfig(name, parsed.detector, options), parsed.run_dir))


def _help(asked: bool) -> int:
    width = max(map(len, registry.DETECTORS)) + 2
    detectors = "\n".join(f"  {name:<{width}}{entry.summary}" for name, entry in registry.DETECTORS.items())
    print(HELP.format(detectors=detectors))
    return 0 if asked else 2


def _report(result: Any) -> int:
    """The last lines of a run: what came of it, and what to do next."""
    run_dir = shlex.quote(str(result.run_dir))
    evaluated = {name.partition("/")[2].replace("_", " "): value for name, value in result.evaluated.items()}
    facts = ", ".join(f"{name} {value:.3f}" for name, value in evaluated.items())
    print(f"{result.status}: {result.updates:,} updates in {result.seconds:.1f} s{'; ' + facts if facts else ''}")
    print(f"run: {result.run_dir}")
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
