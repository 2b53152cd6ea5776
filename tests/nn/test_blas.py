"""BLAS of compiled networks: it keeps to the run's threads, and a resumed run says where it is another one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import rlkit.nn.compiled_mlp  # noqa: F401  # loads BLAS
from rlkit.assembly import current_blas_kernels, restore_matmul_backend
from rlkit.nn import linear

PROGRAM = """
import threadpoolctl
import rlkit.agents.dqn
with threadpoolctl.threadpool_limits(1):
    from rlkit.nn import compiled_mlp
    import numpy as np
    one = np.ones((200, 200), np.float32)
    compiled_mlp.forward(
        np.ones(201 * 200, np.float32), np.array([200, 200]), one, np.zeros(40_000, np.float32), False
    )
    print({pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"})
"""


def test_the_compiled_update_multiplies_on_one_thread_where_one_is_asked_for() -> None:
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=free, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{1}"


def test_other_kernels_than_the_runs_are_told(caplog: pytest.LogCaptureFixture) -> None:
    kernels = current_blas_kernels()
    assert kernels
    restore_matmul_backend({"matmul_backend": None, "blas_kernels": kernels})
    assert not caplog.records
    restore_matmul_backend({"matmul_backend": None, "blas_kernels": "Katmai"})
    assert f"began with BLAS kernels for Katmai, here they are for {kernels}" in caplog.text


def test_a_run_of_a_mixture_that_is_no_more_goes_on_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    before = linear.matmul_backend()
    try:
        restore_matmul_backend({"matmul_backend": "onednn+openblas"})
        assert linear.matmul_backend() == "openblas"
        assert "began with onednn+openblas, where now openblas computes" in caplog.text
    finally:
        linear.set_matmul_backend(before)
