"""Every kernel compiles for an H100 as it would be launched, without a GPU; run as `test_attention_kernels.py` is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs the extra triton")

pytestmark = pytest.mark.triton
SHARED = 227 * 1024
"""Bytes of shared memory that one program may have on an H100."""


@pytest.mark.timeout(600)
def test_the_kernels_compile_for_an_h100_and_registers_suffice(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(Path(__file__).with_name("hopper.py"))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    taken = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record["kernel"] for record in taken} == {"_forward", "_by_queries", "_by_keys", "_step"}
    for record in taken:
        assert record["stack"] == 0, record
        assert record["shared"] <= SHARED, record
