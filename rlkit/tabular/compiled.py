"""`compiled`: numba without reference counting, cached on disk under a digest of all compiled sources.

Two measured reasons (numba 0.68, Zen 4). Learners are named tuples of arrays; counting references on every call costs
0.4 µs a step, twenty times the arithmetic, so it is switched off (compiled code then must not allocate memory), and
functions are inlined, because passing a large tuple costs as much again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba.core import caching
from numba.extending import overload

from rlkit import machine_code

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
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
    in_machine_code = machine_code.kept(function, _CACHE, **options)
    _KEPT.append(in_machine_code)
    return in_machine_code


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


def _sources() -> list[bytes]:
    here = Path(__file__).parent
    sources = [here.parent / "mdp.py", *sorted((here.parent / "ops").glob("*.py")), Path(__file__)]
    files = [*sorted(here.glob("*.py")), *sorted((here.parent / "linear").glob("*.py"))]
    users = [content for path in files if _is_compiled(content := path.read_bytes())]
    return [*(path.read_bytes() for path in sources), *users]


def _is_compiled(source: bytes) -> bool:
    return b"from numba" in source or b"from rlkit.tabular.compiled import" in source


_CACHE = machine_code.cache_folder("tabular", _sources())
