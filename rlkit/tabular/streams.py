"""Random generators as compiled code takes them: the addresses that numpy's `bit_generator.ctypes` documents.

numba can take a Generator itself, but looks at it anew in every call, which costs 10 µs, and without reference counting
it would never let go of it. A stream draws the very numbers of its generator, and moves that generator on.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rlkit.tabular.compiled import compiled_inside

Stream: TypeAlias = npt.NDArray[np.uint64]
"""uint64 [6]: addresses of a bit generator's state and functions. Valid as long as the generator lives."""

_struct_proxy: Any = cgutils.create_struct_proxy
_FIELDS = ("state_address", "state", "fnptr_next_uint64", "fnptr_next_uint32", "fnptr_next_double", "bit_generator")
_GENERATOR = types.NumPyRandomGeneratorType("generator")
_BIT_GENERATOR = types.NumPyRandomBitGeneratorType("bit_generator")


class Streams(NamedTuple):
    """The three random streams of a run: the environment's, that of acting, and the learner's own."""

    env: Stream
    act: Stream
    learn: Stream


def stream(generator: np.random.Generator) -> Stream:
    """The stream of a generator, which the caller keeps alive."""
    interface = generator.bit_generator.ctypes
    functions = (interface.next_uint64, interface.next_uint32, interface.next_double)
    addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in functions]
    owner = interface.bit_generator.value
    return np.array([interface.state_address, interface.state.value, *addresses, owner], dtype=np.uint64)


@intrinsic
def _generator_of_addresses(
    context: Any, state_address: Any, state: Any, next_uint64: Any, next_uint32: Any, next_double: Any, owner: Any
) -> Any:
    """Numba's view of a Generator, made of its addresses; nothing in it is counted."""
    signature = _GENERATOR(*[types.uintp] * len(_FIELDS))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bit_generator = _struct_proxy(_BIT_GENERATOR)(context, builder)
        for name, value in zip(_FIELDS, arguments, strict=True):
            setattr(bit_generator, name, value)
        generator = _struct_proxy(_GENERATOR)(context, builder)
        generator.bit_generator = bit_generator._getvalue()
        return generator._getvalue()

    return signature, generate


_assembled: Any = _generator_of_addresses


@compiled_inside
def generator_of(stream: Stream) -> np.random.Generator:
    """The generator behind a stream, for compiled code."""
    generator: np.random.Generator = _assembled(stream[0], stream[1], stream[2], stream[3], stream[4], stream[5])
    return generator
