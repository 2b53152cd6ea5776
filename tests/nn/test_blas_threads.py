"""Every BLAS that an update uses keeps to the run's number of threads, also where no environment variable says so."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import threadpoolctl
import rlkit.agents.dqn
with threadpoolctl.threadpool_limits(1):
    from rlkit.nn import compiled_mlp
    import numpy as np
    one = np.ones((200, 200), np.float32)
    compiled_mlp.forward(np.ones(201 * 200, np.float32), np.array([200, 200]), one, np.zeros(40_000, np.float32), False)
    print({pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"})
"""


def test_the_compiled_update_multiplies_on_one_thread_where_one_is_asked_for() -> None:
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=free, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{1}"
