"""`compiled`: numba without reference counting, cached on disk under a digest of all compiled sources.

Two measured reasons (numba 0.68, Zen 4). Learners are named tuples of arrays; counting references on every call costs
0.4 µs a step, twenty times the arithmetic, so it is switched off (compiled code then must not allocate memory), and
functions are inlined, because passing a large tuple costs as much again. And numba's own
cache looks only at the file of the outermost function: after a change in `rlkit.ops` it would go on with old equations.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba.core import caching
from numba.core import config as numba_config
from numba.extending import overload

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)
_NUMBA: Any = numba_config
_WITHOUT_COUNTING: Any = {"_nrt": False}
_APART: Any = {**_WITHOUT_COUNTING, "nogil": True}
_OPTIONS: Any = {**_APART, "forceinline": True}
_KEPT: list[Any] = []
"""Functions whose machine code is kept on disk."""


def compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The function in machine code, compiled on first use for each kind of arguments. It must not allocate or raise."""
    return cast(Callable[Parameters, Result], _machine_code(function, _OPTIONS))


def compiled_apart(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Like `compiled`, but called and not put into its callers, which saves time of compiling.

    For much code that runs seldom, or that takes few numbers: a large named tuple is slow to hand over.
    """
    return cast(Callable[Parameters, Result], _machine_code(function, _APART))


def _machine_code(function: Callable[..., Any], options: Any) -> Any:
    return _kept(function, options) if is_ours(function) else numba.njit(function, **options)


def _kept(function: Callable[..., Any], options: Any) -> Any:
    before = _NUMBA.CACHE_DIR
    _NUMBA.CACHE_DIR = str(_CACHE)
    try:
        machine_code = numba.njit(function, cache=True, **options)
        _KEPT.append(machine_code)
    except (RuntimeError, OSError) as error:  # nowhere to write
        _LOG.warning("compiled code is not kept (%s); every process compiles again", error)
        machine_code = numba.njit(function, **options)
    finally:
        _NUMBA.CACHE_DIR = before
    return machine_code


def is_ours(thing: Any) -> bool:
    """Whether a function or class is part of rlkit, so that every process can import it and its source is watched."""
    module: str = thing.__module__
    return module.startswith("rlkit.")


def keep_nothing() -> None:
    """From now on this process keeps no machine code and reads none.

    For types that other processes may not be able to import: numba's cache would fail for them all.
    """
    for function in _KEPT:
        function._cache = caching.NullCache()


def compiled_inside(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Like `compiled`, for functions that only compiled code calls, because Python could not take their result."""
    options: Any = {**_WITHOUT_COUNTING, "no_cpython_wrapper": True}
    return cast(Callable[Parameters, Result], numba.njit(function, **options))


def by_type(stub: Callable[..., Any], implementation: Callable[..., Any]) -> None:
    """Let compiled code that calls `stub` call what `implementation`, given the numba types, answers.

    Both need parameters of the same names as the stub's, without annotations (numba compares them): hence lambdas.
    """
    overload(stub, jit_options=_WITHOUT_COUNTING)(implementation)


def cache_folder() -> Path:
    """Where machine code is kept: below NUMBA_CACHE_DIR, XDG_CACHE_HOME or ~/.cache, one folder for each version."""
    home = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "rlkit" / f"numba-{_digest()}"


def _digest() -> str:
    here = Path(__file__).parent
    sources = [here.parent / "mdp.py", *sorted((here.parent / "ops").glob("*.py")), Path(__file__)]
    files = [*sorted(here.glob("*.py")), *sorted((here.parent / "linear").glob("*.py"))]
    users = [path for path in files if _is_compiled(path.read_bytes())]
    content = b"".join(path.read_bytes() for path in [*sources, *users])
    return hashlib.sha256(content).hexdigest()[:16]


def _is_compiled(source: bytes) -> bool:
    return b"from numba" in source or b"from rlkit.tabular.compiled import" in source


_CACHE = cache_folder()
