"""`rlkit check-env`: what is wrong with an environment, and which agents can serve it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from rlkit import registry
from rlkit.assembly import task_of
from rlkit.cli.flags import gathered
from rlkit.config import RunOptions
from rlkit.envs.check import check_env
from rlkit.envs.make import make
from rlkit.envs.wrapper_names import env_arguments, resolve_wrapper


@dataclass(frozen=True)
class CheckEnvOptions:
    """Check an environment before training on it."""

    env: Annotated[str, tyro.conf.Positional]
    """gymnasium id, `module:EnvId-v0` or `path/to/file.py:ClassName`"""
    wrap: tuple[str, ...] = ()
    """wrappers, as for `rlkit train`"""
    env_args: tuple[str, ...] = ()
    """arguments of the environment, as for `rlkit train`"""


def run(arguments: list[str]) -> int:
    """Print the findings; exit code 1 where one is an error."""
    options = tyro.cli(CheckEnvOptions, args=gathered(arguments, ("--wrap", "--env-args")), prog="rlkit check-env")
    wrappers = tuple(resolve_wrapper(text) for text in options.wrap)
    findings = check_env(options.env, wrappers, env_arguments(options.env_args))
    for finding in findings:
        first, *rest = finding.text.splitlines()
        print(f"{finding.level + ':':<9}{first}")
        print("".join(f"         {line}\n" for line in rest), end="")
    errors = sum(finding.level == "error" for finding in findings)
    if errors:
        print(f"\n{errors} error{'s' if errors > 1 else ''}: training would stop or be wrong until mended.")
        return 1
    _print_agents(options)
    return 0


def _print_agents(options: CheckEnvOptions) -> None:
    wrappers, arguments = [resolve_wrapper(text) for text in options.wrap], env_arguments(options.env_args)
    envs = make(options.env, 1, wrappers=wrappers, env_kwargs=arguments)
    task = task_of(RunOptions.model_validate({"env": options.env}), envs)
    envs.close()
    print("\nagents that can serve it:")
    width = max(map(len, registry.AGENTS))
    for name in registry.AGENTS:
        reason = registry.agent_class(name).supports(task)
        print(f"  {name:<{width}} " + ("yes" if reason is None else f"no: {reason}"))
    print(f"\nnext: rlkit train AGENT --env {options.env}")
