"""`rlkit detect`: a table of what can be done with detectors, so that its help imports nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from rlkit.errors import UnknownNameError

COMMANDS = {
    "train": ("rlkit.cli.detect_train", "train a detector, or go on with a run (--resume RUN)"),
    "run": ("rlkit.cli.detect_run", "watch streams with a trained detector"),
    "score": ("rlkit.cli.detect_score", "score a file of predictions by a published protocol"),
}
HELP = """usage: rlkit detect COMMAND [OPTIONS]

Detectors that tell what happens in a stream, frame by frame.

commands:
{commands}

  rlkit detect COMMAND --help            all options of a command
"""


def run(arguments: list[str]) -> int:
    """Run one of `COMMANDS`."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<16}{summary}" for name, (_, summary) in COMMANDS.items())))
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        raise UnknownNameError("command of rlkit detect", arguments[0], COMMANDS)
    command: Callable[[list[str]], int] = importlib.import_module(COMMANDS[arguments[0]][0]).run
    return command(arguments[1:])
