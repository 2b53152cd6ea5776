"""A learner as one address, so that a call from Python costs 0.5 µs instead of 2.5.

numba takes a named tuple apart, array by array, whenever Python calls compiled code with it. A handle does that once:
it keeps the machine's own form of the tuple in memory, and compiled code reads it from there.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import extending, types
from numba.extending import intrinsic, models

from rlkit.tabular.compiled import compiled

_extending: Any = extending  # numba tells no types of these
_typeof: Any = numba.typeof


class HandleType(types.Type):
    """numba's type of a handle of something of the type `content`."""

    def __init__(self, content: Any) -> None:
        self.content = content
        super().__init__(name=f"Handle[{content}]")


@_extending.register_model(HandleType)
class _HandleModel(models.PrimitiveModel):
    """In machine code a handle is an address."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, manager.lookup(types.uintp).get_value_type())  # type: ignore[no-untyped-call]


class Handle:
    """Keeps a named tuple of arrays ready for compiled code. The arrays are shared; the tuple itself cannot change."""

    def __init__(self, content: Any) -> None:
        self._content = content  # its arrays must live as long as their addresses are used
        self._memory = np.zeros(_size(content) // 8 + 1, dtype=np.int64)
        self.address = self._memory.ctypes.data
        self._numba_type_ = HandleType(_typeof(content))
        _write(content, np.uint64(self.address))


def _unbox(kind: Any, handle: Any, c: Any) -> Any:
    address = c.pyapi.object_getattr_string(handle, "address")
    native = c.unbox(types.uintp, address)
    c.pyapi.decref(address)
    return _extending.NativeValue(native.value, is_error=native.is_error)


_extending.unbox(HandleType)(_unbox)


@intrinsic
def _content_of(context: Any, handle: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        return builder.load(builder.inttoptr(arguments[0], kind.as_pointer()))

    return handle.content(handle), generate


@intrinsic
def _size_of(context: Any, content: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.intp, context.get_abi_sizeof(arguments[0].type))

    return types.intp(content), generate


@intrinsic
def _write_at(context: Any, content: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[0], builder.inttoptr(arguments[1], arguments[0].type.as_pointer()))
        return context.get_dummy_value()

    return types.void(content, address), generate


content_of: Any = _content_of
"""The named tuple behind a handle, in compiled code."""
_size_in_code: Any = _size_of
_write_in_code: Any = _write_at


@compiled
def _size(content: Any) -> int:
    return _size_in_code(content)


@compiled
def _write(content: Any, address: Any) -> None:
    _write_in_code(content, address)
