"""Flags that may be given several times."""

from __future__ import annotations

from collections.abc import Sequence


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
