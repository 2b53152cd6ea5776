"""Numba's machine code, kept on disk under a digest of its sources.

Numba's own cache looks only at the file of the outermost function: it would go on with old code after a change in
another file that the function calls.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numba
from numba.core import config as numba_config

_NUMBA: Any = numba_config


def cache_folder(name: str, sources: Iterable[bytes]) -> Path:
    """Where the machine code of these sources is kept: below NUMBA_CACHE_DIR, XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "rlkit" / f"numba-{name}-{hashlib.sha256(b''.join(sources)).hexdigest()[:16]}"


def kept(function: Callable[..., Any], folder: Path, **options: Any) -> Any:
    """The function in machine code, compiled on first use and kept in `folder`, where that can be written.

    Args:
        function: What numba can compile.
        folder: From `cache_folder`, of the sources of all that the function calls.
        options: Of `numba.njit`.
    """
    before = _NUMBA.CACHE_DIR
    _NUMBA.CACHE_DIR = str(folder)
    try:
        return numba.njit(function, cache=True, **options)
    except (RuntimeError, OSError) as error:  # nowhere to write
        logging.getLogger(__name__).warning("compiled code is not kept (%s); every process compiles again", error)
        return numba.njit(function, **options)
    finally:
        _NUMBA.CACHE_DIR = before
