"""Flags that may be given several times, or under two names."""

from __future__ import annotations

from collections.abc import Sequence

from rlkit.errors import UsageError


def renamed(arguments: Sequence[str], flag: str, name: str) -> list[str]:
    """The arguments with `flag` under its other name.

    Raises:
        UsageError: both are there.

    >>> renamed(["--env=CartPole-v1"], "--env", "--stream")
    ['--stream=CartPole-v1']
    """
    given = {argument.partition("=")[0] for argument in arguments}
    if {flag, name} <= given:
        raise UsageError(f"{flag} and {name} are two names of one option: leave out one")
    return [name + argument[len(flag) :] if argument.partition("=")[0] == flag else argument for argument in arguments]


def gathered(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The arguments with the values of each repeated flag behind its first place; the last one alone would count.

    >>> gathered(["--wrap", "a", "--seed", "1", "--wrap=b"], ["--wrap"])
    ['--wrap', 'a', 'b', '--seed', '1']
    """
    found: dict[str, list[str]] = {}
    rest: list[str | list[str]] = []
    current: list[str] | None = None
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag in flags:
            if flag not in found:
                rest.append(found.setdefault(flag, [flag]))
            current = found[flag]
            current.extend([value] if equals else [])
        elif argument.startswith("-") or current is None:
            current = None
            rest.append(argument)
        else:
            current.append(argument)
    return [each for part in rest for each in ([part] if isinstance(part, str) else part)]
