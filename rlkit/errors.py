"""Every error a user can meet, by name. Each message says what was seen, what is allowed, and what to do next.

Standard library only, so that any module and any worker process can raise them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RlkitError(Exception):
    """Base of all errors that rlkit raises on purpose. The command line prints its message without a traceback."""

    exit_code = 1


class UsageError(RlkitError):
    """Raised when a command, an option or an argument is wrong."""

    exit_code = 2


class UnknownNameError(UsageError):
    """Raised when a name is not registered; suggests the nearest one."""

    def __init__(self, kind: str, name: str, allowed: Iterable[str], hint: str = "") -> None:
        names = sorted(allowed)
        suggestion = did_you_mean(name, names)
        listed = ", ".join(names)
        super().__init__(f"unknown {kind} {name!r}{suggestion}\nallowed: {listed}" + (f"\n{hint}" if hint else ""))


class ConfigError(UsageError):
    """Raised once for all mistakes of a configuration; `problems` holds one sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        heading = "1 mistake" if count == 1 else f"{count} mistakes"
        super().__init__(
            f"{heading} in the configuration:\n" + "\n".join(f"  - {problem}" for problem in self.problems)
        )


class UnsupportedTaskError(UsageError):
    """Raised before the first step when an agent cannot serve the environment's spaces."""


class MissingExtraError(UsageError):
    """Raised when an optional dependency is needed; names the extra to install."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the optional packages of the extra {extra!r}, which are not installed.\n"
            f'In the checkout: pip install -c constraints.txt -e ".[{extra}]"'
        )


class MemoryBudgetError(UsageError):
    """Raised before allocation when a buffer cannot fit into the memory that is free."""


class EnvironmentFault(RlkitError):
    """Raised when an environment raises, dies, hangs or breaks the gymnasium API; names the environment's index."""


class ModelError(UsageError):
    """Raised when transition arrays are not those of a finite Markov decision process."""


class NonFiniteError(RlkitError):
    """Raised when an observation, reward, action or loss is NaN or infinite."""


class CheckpointError(RlkitError):
    """Raised when a checkpoint cannot be written, is damaged, or does not fit what it is loaded into."""


class DatasetError(RlkitError):
    """Raised when a dataset of episodes is damaged, or an episode does not fit the dataset."""


class RunLockedError(RlkitError):
    """Raised when another process is training in the same run folder."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Text such as ` (did you mean 'ddpg'?)`, empty where nothing is near.

    >>> did_you_mean("learning_rte", ["learning_rate", "gamma"])
    " (did you mean 'learning_rate'?)"
    """
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
