"""The `rlkit` command: a literal table of commands, so that `--help` imports nothing."""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from collections.abc import Callable, Sequence

from rlkit.cli.outputs import discard
from rlkit.errors import EnvironmentFault, RlkitError, UnknownNameError

COMMANDS = {
    "train": ("rlkit.cli.train", "train an agent, or go on with a run (--resume RUN)"),
    "evaluate": ("rlkit.cli.evaluate", "returns of a run's policy, with intervals"),
    "inspect": ("rlkit.cli.inspect", "what a run, checkpoint or dataset holds, and whether it verifies"),
    "pretrain": ("rlkit.cli.pretrain", "pretrain an encoder on pictures without rewards"),
    "probe": ("rlkit.cli.probe", "what an encoder's features tell of the simulator's state"),
    "detect": ("rlkit.cli.detect", "detectors of what happens in a stream: train, run, score"),
    "plot": ("rlkit.cli.plot", "learning curves as a picture"),
    "export-dataset": ("rlkit.cli.export_dataset", "episodes of a run's policy as a dataset to learn from"),
    "check-env": ("rlkit.cli.check_env", "what is wrong with an environment, and which agents can serve it"),
    "list": ("rlkit.cli.listing", "agents, encoders, detectors, streams, envs, wrappers or presets"),
}
HELP = """usage: rlkit COMMAND [OPTIONS]

Agents that decide, step after step, in any gymnasium environment.

commands:
{commands}

  rlkit train ddpg --env Pendulum-v1     the first run
  rlkit train --resume RUN               go on where it stopped
  rlkit COMMAND --help                   all options of a command
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 failed, 2 wrong usage, 130/143 interrupted with a checkpoint."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<16}{summary}" for name, (_, summary) in COMMANDS.items())))
        return 0 if given else 2
    if given[0] in ("-V", "--version"):
        from rlkit import __version__

        print(f"rlkit {__version__}")
        return 0
    logging.basicConfig(format="rlkit: %(message)s", level=logging.WARNING)
    logging.getLogger("rlkit").setLevel(logging.INFO)
    try:
        return _command(given[0])(given[1:])
    except RlkitError as error:
        print(f"rlkit: {error}{_where(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("rlkit: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `rlkit list agents | head`
        discard(sys.stdout)
        return 0


def _where(error: RlkitError) -> str:
    """The line of the user's own code that failed, where the error passes on somebody else's."""
    cause = error.__cause__
    if not isinstance(error, EnvironmentFault) or cause is None or cause.__traceback__ is None:
        return ""
    frame = traceback.extract_tb(cause.__traceback__)[-1]
    return f"\n  raised in {frame.filename}:{frame.lineno}, {frame.line}"


def _command(name: str) -> Callable[[list[str]], int]:
    if name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    run: Callable[[list[str]], int] = importlib.import_module(COMMANDS[name][0]).run
    return run
