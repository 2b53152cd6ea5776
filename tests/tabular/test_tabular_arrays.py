"""Arrays of learners lie in memory as the machine code likes them."""

from __future__ import annotations

import numpy as np
import pytest

from rlkit.tabular.arrays import aligned_zeros


@pytest.mark.parametrize("shape", [(3, 648), (1, 1), (2, 3, 5)])
def test_aligned_zeros_begin_with_a_cache_line(shape: tuple[int, ...]) -> None:
    found = [aligned_zeros(shape) for _ in range(10)]
    for array in found:
        assert (array.shape, array.dtype, array.flags.c_contiguous) == (shape, np.float64, True)
        assert array.ctypes.data % 64 == 0
        assert not array.any()
    found[0][...] = 1.0
    assert not found[1].any()
