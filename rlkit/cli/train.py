"""`rlkit train`: parsed in two stages, first the agent, then the options of that agent."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from pydantic import create_model

from rlkit import registry
from rlkit.api import load, resume, start
from rlkit.autotune import TUNED, Tuned, autotune
from rlkit.cli.flags import gathered
from rlkit.config import AgentConfig, RunConfig, RunOptions
from rlkit.errors import UsageError
from rlkit.resolve import joined, resolve
from rlkit.running import RunResult

HELP = """usage: rlkit train AGENT --env ENV [OPTIONS]
       rlkit train AGENT --env ENV --encoder RUN [--freeze | --finetune] [OPTIONS]
       rlkit train --resume RUN [--total-steps N]

AGENT is a registered name, path/to/file.py:ClassName or module:ClassName:
{agents}

rlkit train AGENT --help lists all options of a run and of that agent.
"""


class TrainOptions(RunOptions):
    """A run's options, and where they come from."""

    preset: str = "auto"
    """a preset's name, `none`, or `auto`: the one of this agent and environment"""
    config: Path | None = None
    """YAML file of options; flags win over it, it wins over the preset"""
    run_dir: Path | None = None
    """the run's folder; by default runs/<env>/<agent>/<time>-s<seed>-<4 hex>"""
    seeds: int = 1
    """train this many seeds one after the other, from --seed on, each in its own folder"""
    autotune: bool = False
    """measure for some seconds which --vector, --device and --threads train fastest here, and train with them"""


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run exactly where it stopped."""

    resume: Path
    """the run's folder"""
    total_steps: int | None = None
    """a larger number of env steps extends the run"""


def run(arguments: list[str]) -> int:
    """Train or resume, and print where the run is."""
    if any(argument.split("=")[0] == "--resume" for argument in arguments):
        _refuse_autotune(arguments)
        options = tyro.cli(ResumeOptions, args=arguments, prog="rlkit train")
        return _report(resume(options.resume, total_steps=options.total_steps))
    if not arguments or arguments[0].startswith("-"):
        return _help(arguments)
    _refuse_both_frozen_and_tuned(arguments)
    agent, *rest = ["--no-finetune" if argument == "--freeze" else argument for argument in arguments]
    parsed = _parse(agent, gathered(rest, ("--wrap", "--env-args")))
    tuned = _tuned(_run_config(agent, parsed, parsed.seed), rest) if parsed.autotune else None
    code = 0
    for seed in range(parsed.seed, parsed.seed + parsed.seeds):
        config = _run_config(agent, parsed, seed)
        code = _report(start(tuned.applied(config) if tuned else config, run_dir=_run_dir(parsed, seed), tuned=tuned))
        if code:
            break
    return code


def _tuned(config: RunConfig, arguments: list[str]) -> Tuned:
    """The fastest way to compute the run, told as a table; what a flag says stays."""
    print(f"autotune: env steps per second of short training runs, {config.agent_name} on {config.options.env}")
    fixed = [name for name in TUNED if _peek(arguments, f"--{name}") is not None]
    tuned = autotune(config, fixed=fixed, load_actor=lambda run: load(run).agent)
    print(tuned.table(), flush=True)
    return tuned


def _refuse_autotune(arguments: list[str]) -> None:
    if "--autotune" in arguments:
        raise UsageError(
            "--autotune measures before a run begins; a resumed run keeps the vector, device and threads that it began "
            "with (they are in its config.yaml): leave --autotune out"
        )


def _refuse_both_frozen_and_tuned(arguments: list[str]) -> None:
    if {"--freeze", "--finetune"} <= set(arguments):
        raise UsageError("--freeze leaves the encoder as it is, --finetune learns on from it: leave out one")


def _help(arguments: list[str]) -> int:
    if arguments and arguments[0] not in ("-h", "--help"):
        raise UsageError(f"the agent comes first: rlkit train AGENT {shlex.join(arguments)}")
    width = max(map(len, registry.AGENTS)) + 2
    agents = "\n".join(f"  {name:<{width}}{entry.summary}" for name, entry in registry.AGENTS.items())
    print(HELP.format(agents=agents))
    return 0 if arguments else 2


def _parse(agent: str, arguments: list[str]) -> Any:
    """All options; defaults are those of preset and file."""
    config_class = registry.config_class(registry.agent_class(agent))
    first = {name: _peek(arguments, f"--{name}") for name in ("env", "preset", "config")}
    asks_for_help = "-h" in arguments or "--help" in arguments
    env = first["env"] or ("ENV" if asks_for_help else None)
    config_file = None if first["config"] is None else Path(first["config"])
    resolved = resolve(agent, env, preset=first["preset"] or "auto", config_file=config_file)
    model: Any = create_model("TrainOptions", __base__=TrainOptions, agent=(config_class, ...))
    default = model(**resolved.options.model_dump(), agent=resolved.agent)
    parsed = tyro.cli(model, default=default, args=arguments, prog=f"rlkit train {agent}")
    own = {name: getattr(parsed.agent, name) for name in _given(arguments, config_class)}
    if parsed.encoder is not None and "encoder" in own:
        raise UsageError("--encoder brings a network of its own: leave out --agent.encoder")
    options = joined(config_class, resolved.agent.model_dump(), own)
    return parsed.model_copy(update={"agent": config_class.model_validate(options)})


def _given(arguments: list[str], config_class: type[AgentConfig]) -> list[str]:
    """The agent's options that the command line names."""
    flags = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    names = {name: name.replace("_", "-") for name in config_class.model_fields}
    return [name for name, flag in names.items() if flags & {f"--agent.{flag}", f"--agent.no-{flag}"}]


def _run_config(agent: str, parsed: Any, seed: int) -> RunConfig:
    values = {name: getattr(parsed, name) for name in RunOptions.model_fields}
    return RunConfig(agent, parsed.agent, RunOptions(**{**values, "seed": seed}))


def _run_dir(parsed: Any, seed: int) -> Path | None:
    if parsed.run_dir is None or parsed.seeds == 1:
        directory: Path | None = parsed.run_dir
        return directory
    return Path(parsed.run_dir) / f"s{seed}"


def _peek(arguments: list[str], flag: str) -> str | None:
    """Value of a flag before the real parsing, as `--flag value` or `--flag=value`; the last one counts."""
    found = None
    for position, argument in enumerate(arguments):
        if argument == flag and position + 1 < len(arguments):
            found = arguments[position + 1]
        elif argument.startswith(f"{flag}="):
            found = argument.partition("=")[2]
    return found


def _report(result: RunResult) -> int:
    """The last lines of a run: what came of it, and what to do next."""
    run_dir = shlex.quote(str(result.run_dir))
    value = "no episode finished" if result.final_return is None else f"return {result.final_return:.1f}"
    if result.evaluated_step is not None and result.evaluated_step < result.steps:
        value += f" when last evaluated, at step {result.evaluated_step:,}"
    print(f"{result.status}: {result.steps:,} steps in {result.seconds:.1f} s, {value}")
    print(f"run: {result.run_dir}")
    if result.exit_code:
        print(f"go on with:    rlkit train --resume {run_dir}")
    else:
        print(f"evaluate with: rlkit evaluate {run_dir} --episodes 100")
        logdir = "runs" if result.run_dir.parts[:1] == ("runs",) else run_dir
        print(f"watch with:    tensorboard --logdir {logdir}")
    return result.exit_code
