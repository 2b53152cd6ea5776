"""Where commands write: files that are checked before the work, and pipes whose reader may have gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from rlkit.errors import UsageError


def discard(file: IO[str]) -> None:
    """Send what is written to the file, and what of it is not written yet, nowhere, as after `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def require_writable(flag: str, path: Path | None) -> None:
    """Make the folder of a file that is to be written, where one is named.

    Raises:
        UsageError: there can be no such file.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{flag} {path} cannot be written: {error.strerror}") from error
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{flag} {path} cannot be written: name a file in a folder of yours")
