"""One thread, and shape types that are checked: set before any test module is imported."""

import ast
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import source_tree
from threadpoolctl import threadpool_limits

for _library in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
if "numpy" in sys.modules:  # a pytest plugin was faster, and its BLAS has started its threads
    threadpool_limits(1)

SHAPE_CHECKED = ("rlkit.ops.", "rlkit.nn.")


def modules_with_shape_types() -> Iterator[str]:
    """Modules of `rlkit.ops` and `rlkit.nn` that import jaxtyping.

    The others are left alone: the tabular rules are compiled by numba, which cannot compile a wrapped function.
    """
    for name, file in source_tree.modules().items():
        if name.startswith(SHAPE_CHECKED):
            nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if any(isinstance(node, ast.ImportFrom) and node.module == "jaxtyping" for node in nodes):
                yield name


if find_spec("jaxtyping") and find_spec("beartype"):
    from jaxtyping import install_import_hook

    install_import_hook(list(modules_with_shape_types()), "beartype.beartype")


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """A test that is the first to import torch gets one thread from OMP_NUM_THREADS."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
