"""Nothing rlkit reads can run code: no pickle, no `torch.load`, no `eval`, no YAML beyond the safe loader."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
import source_tree

MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
NAMES = {
    *(
        "torch.load",
        "torch.save",
        "torch.serialization",
        "torch.hub.load",
        "os.system",
        "os.popen",
        "pandas.read_pickle",
    ),
    *(f"yaml.{name}" for name in ("load", "load_all", "Loader", "CLoader", "UnsafeLoader", "CUnsafeLoader")),
    *(f"yaml.{name}" for name in ("FullLoader", "CFullLoader", "unsafe_load", "unsafe_load_all")),
    *(f"yaml.{name}" for name in ("full_load", "full_load_all")),
}
"""Full names, however they were imported."""


def dotted(node: ast.AST, imported: dict[str, str]) -> str:
    """`np.load` as `numpy.load`; empty where `node` is not a chain of names that starts at an import."""
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, imported)
        return f"{owner}.{node.attr}" if owner else ""
    return imported.get(node.id, "") if isinstance(node, ast.Name) else ""


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Local name -> full name."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def allows_pickle(call: ast.Call, name: str) -> bool:
    """Whether a call passes an `allow_pickle` that is not the literal False; `numpy.load` may not hide it either."""
    given = [word.value for word in call.keywords if word.arg == "allow_pickle"]
    if name == "numpy.load":
        given += [word.value for word in call.keywords if word.arg is None] + call.args[2:3]
    return any(not (isinstance(value, ast.Constant) and value.value is False) for value in given)


def banned(tree: ast.Module) -> Iterator[str]:
    """What in `tree` is banned, with its line."""
    names = imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in full if name in NAMES or name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.Call):
            found = ["allow_pickle"] if allows_pickle(node, dotted(node.func, names)) else []
        elif isinstance(node, ast.Name) and node.id in BUILTINS and node.id not in names:
            found = [node.id]
        elif isinstance(node, ast.Attribute):
            name = dotted(node, names)
            found = [name] if name in NAMES or name.removeprefix("builtins.") in BUILTINS else []
        else:
            found = []
        yield from (f"line {getattr(node, 'lineno', 0)}: {name}" for name in found)


def test_the_package_reads_nothing_that_can_run_code() -> None:
    found = [f"{name}, {ban}" for name, _, tree in source_tree.parsed() for ban in banned(tree)]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "def f():\n    import dill",
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x', weights_only=True)",
        "from torch import load",
        "eval('1')",
        "run = exec",
        "compile('1', '', 'eval')",
        "import builtins\nbuiltins.eval('1')",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "from yaml import unsafe_load",
        "import yaml\nclass Mine(yaml.FullLoader): pass",
        "import os\nos.system('ls')",
        "from os import system as s",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', None, True)",
        "from numpy import load\nload('x', **options)",
        "import numpy as np\nnp.lib.format.read_array(file, allow_pickle=True)",
    ],
)
def test_a_banned_name_is_found(code: str) -> None:
    assert len(list(banned(ast.parse(code)))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import re\nre.compile('x')",
        "from re import compile\ncompile('x')",
        "import torch\ntorch.compile(f)",
        "model.eval()",
        "import yaml\nyaml.safe_load('x')",
        "import yaml\nclass Mine(yaml.SafeLoader): pass",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import numpy as np\nnp.load('x')",
        "import multiprocessing",
        "import safetensors.numpy\nsafetensors.numpy.load(b'')",
        "text = 'pickle'",
    ],
)
def test_a_harmless_name_is_not(code: str) -> None:
    assert list(banned(ast.parse(code))) == []
