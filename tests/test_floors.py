"""Imports go down the floors only (CONTRIBUTING.md), and heavy libraries stay where they belong.

Every import counts, also inside functions and under `if TYPE_CHECKING:`. Only there may a third-party name be imported
for annotations alone. Names in strings, as in the registry's table, are not imports.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import source_tree
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROWS = {
    "base": (
        "rlkit.types",
        "rlkit.errors",
        "rlkit.config",
        "rlkit.mdp",
        "rlkit.seeding",
        "rlkit.spaces",
        "rlkit.machine_code",
        "rlkit._alias",
    ),
    "ops": ("rlkit.ops",),
    "attention": ("rlkit.attention",),
    "data": ("rlkit.data",),
    "envs": ("rlkit.envs",),
    "nn": ("rlkit.nn",),
    "tabular": ("rlkit.tabular",),
    "linear": ("rlkit.linear",),
    "perception": ("rlkit.perception",),
    "agents": ("rlkit.agents",),
    "configs": ("rlkit.configs",),
    "loop": (
        "rlkit.loop",
        "rlkit.evaluation",
        "rlkit.recording",
        "rlkit.projector",
        "rlkit.hooks",
        "rlkit.finite",
        "rlkit.logs",
        "rlkit.runs",
        "rlkit.checkpoint",
        "rlkit.codec",
    ),
    "top": (
        "rlkit.registry",
        "rlkit.resolve",
        "rlkit.assembly",
        "rlkit.autotune",
        "rlkit.run_encoder",
        "rlkit.detect_config",
        "rlkit.detected",
        "rlkit.detecting",
        "rlkit.detection_report",
        "rlkit.fitting",
        "rlkit.frames",
        "rlkit.pretrain_config",
        "rlkit.pretrained",
        "rlkit.pretraining",
        "rlkit.probing",
        "rlkit.representation",
        "rlkit.running",
        "rlkit.stream_features",
        "rlkit.stream_recording",
        "rlkit.stream_sources",
        "rlkit.timeline",
        "rlkit.watching",
        "rlkit.policy",
        "rlkit.api",
        "rlkit.cli",
        "rlkit.__main__",
        "rlkit",
    ),
}
"""Row of the floor table -> its modules, each with everything below it, lowest row first."""

MAY_IMPORT = {
    "base": set(),
    "ops": set(),
    "attention": set(),
    "data": set(),
    "envs": set(),
    "nn": {"attention", "ops"},
    "tabular": {"ops", "data"},
    "linear": {"tabular", "ops", "data"},
    "perception": {"nn", "attention", "ops", "data", "envs"},
    "agents": {"perception", "linear", "tabular", "nn", "attention", "ops", "data"},
    "configs": set(),
    "loop": {"envs", "data"},
    "top": set(ROWS),
}
"""Row -> the other rows it may import, besides `base`."""

ONLY = {
    "rlkit.errors": set(),
    "rlkit._alias": set(),
    "rlkit.seeding": {"numpy", "torch"},
    "rlkit.machine_code": {"numba"},
    "base": {"numpy", "gymnasium.spaces", "pydantic", "yaml"},
}
"""Module or row -> all the third-party names it may import."""

OPTIONAL = {"rlkit.attention.kernels": {"triton"}, "rlkit.attention.decode": {"triton"}}
"""Module -> what it imports though no run needs it; so nothing else imports such a module outside a function."""

NEVER = {"envs": {"torch"}, "tabular": {"torch"}, "linear": {"torch"}}
INSIDE_FUNCTIONS = {"base": {"torch"}, "data": {"torch"}}
ATTENTION_CALLS = {
    "scaled_dot_product_attention",
    "multi_head_attention_forward",
    "MultiheadAttention",
    "flex_attention",
    "TransformerEncoderLayer",
    "TransformerDecoderLayer",
}


@dataclass(frozen=True)
class Import:
    target: str
    line: int
    in_function: bool
    for_typing: bool


@cache
def core_dependencies() -> set[str]:
    """Import names of what pyproject.toml asks for without any extra."""
    project = tomllib.loads((source_tree.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    core = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    owners = packages_distributions()
    return {name for name in owners if core & {canonicalize_name(owner) for owner in owners[name]}}


def row_of(module: str) -> str | None:
    for row, members in ROWS.items():
        for member in members:
            if module == member or (member != "rlkit" and module.startswith(member + ".")):
                return row
    return None


def imports_of(tree: ast.Module, module: str, is_package: bool, known: set[str]) -> Iterator[Import]:
    """Every import with its absolute target; `from rlkit import errors` aims at `rlkit.errors`."""

    def targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        base = node.module or ""
        if node.level:
            parts = module.split(".")
            parent = parts[: len(parts) - node.level + is_package]
            base = ".".join([*parent, base]).rstrip(".")
        for alias in node.names:
            full = f"{base}.{alias.name}"
            yield full if full in known or base == "gymnasium" else base

    def visit(node: ast.AST, in_function: bool, for_typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (Import(target, node.lineno, in_function, for_typing) for target in targets(node))
        in_function |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                yield from visit(child, in_function, True)
            for child in node.orelse:
                yield from visit(child, in_function, for_typing)
            return
        for child in ast.iter_child_nodes(node):
            yield from visit(child, in_function, for_typing)

    return visit(tree, False, False)


def first_party_fault(module: str, row: str, found: Import) -> str | None:
    target = found.target
    target_row = row_of(target)
    if target_row is None:
        return f"imports {target}, which is in no row of the floor table"
    if module == "rlkit.errors":
        return f"imports {target}; it may import the standard library only"
    if target_row not in {row, "base"} | MAY_IMPORT[row]:
        return f"imports {target}: row {row!r} may not import row {target_row!r}"
    if target in OPTIONAL and module not in OPTIONAL and not (found.in_function or found.for_typing):
        return f"imports {target} outside a function, which needs {', '.join(sorted(OPTIONAL[target]))}"
    return None


def third_party_fault(module: str, row: str, found: Import) -> str | None:
    top = found.target.partition(".")[0]
    if top in sys.stdlib_module_names or top == "__future__" or found.for_typing:
        return None
    only = ONLY.get(module, ONLY.get(row))
    if only is not None and not any(found.target == name or found.target.startswith(name + ".") for name in only):
        return f"imports {found.target}; of third-party packages it may import {sorted(only)}"
    if top in NEVER.get(row, ()):
        return f"imports {top}, which row {row!r} never does"
    if found.in_function:
        return None
    if top in INSIDE_FUNCTIONS.get(row, ()):
        return f"imports {top} outside a function"
    if top not in core_dependencies() | OPTIONAL.get(module, set()):
        return f"imports {top} outside a function, and it is no core dependency"
    return None


def faults(root: Path) -> list[str]:
    """One sentence for each import or call that breaks the floor table."""
    found = []
    known = set(source_tree.modules(root))
    for module, file, tree in source_tree.parsed(root):
        row = row_of(module)
        if row is None:
            found.append(f"{module} is in no row of the floor table")
            continue
        for item in imports_of(tree, module, file.stem == "__init__", known):
            top = item.target.partition(".")[0]
            if top in source_tree.PACKAGES and top != "rlkit":
                fault: str | None = f"imports {item.target}; inside the package its name is rlkit.{item.target}"
            elif top == "rlkit":
                fault = first_party_fault(module, row, item)
            else:
                fault = third_party_fault(module, row, item)
            if fault:
                found.append(f"{module}:{item.line} {fault}")
        if row != "attention":
            found += [f"{module}:{line} uses {name}; only rlkit.attention does" for line, name in attention_calls(tree)]
    return list(dict.fromkeys(found))


def attention_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name) if name in ATTENTION_CALLS:
                yield node.lineno, name


def test_imports_go_down_only() -> None:
    assert faults(source_tree.ROOT) == []


def test_the_table_lists_each_row_below_the_rows_that_import_it() -> None:
    order = list(ROWS)
    for row, below in MAY_IMPORT.items():
        assert row == "top" or all(order.index(other) < order.index(row) for other in below)


@pytest.mark.parametrize(
    ("file", "code", "expected"),
    [
        ("agents/ddpg.py", "from rlkit.envs import make", "may not import row 'envs'"),
        ("agents/ddpg.py", "import rlkit.loop", "may not import row 'loop'"),
        ("agents/ddpg.py", "from ..loop import run", "may not import row 'loop'"),
        ("agents/ddpg.py", "def f():\n    from rlkit import loop", "may not import row 'loop'"),
        ("agents/ddpg.py", "from envs import make", "its name is rlkit.envs"),
        ("agents/ddpg.py", "import rlkit", "may not import row 'top'"),
        ("agents/ddpg.py", "import torch\ntorch.nn.MultiheadAttention(8, 2)", "uses MultiheadAttention"),
        ("agents/ddpg.py", "from torch.nn.functional import scaled_dot_product_attention as f", "uses scaled_dot"),
        ("envs/make.py", "def f():\n    import torch", "never does"),
        ("envs/make.py", "import mujoco", "no core dependency"),
        ("envs/make.py", "def f():\n    import mujoco", None),
        ("rlkit/nn/mlp.py", "import torch, yaml", None),
        ("envs/make.py", "from . import grid", None),
        ("envs/make.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", None),
        ("envs/make.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rlkit.loop", "row 'loop'"),
        ("rlkit/loop.py", "def f():\n    from rlkit.agents.ddpg import DDPG", "may not import row 'agents'"),
        ("rlkit/loop.py", 'NAME = "rlkit.agents.ddpg:DDPG"', None),
        ("rlkit/data/replay.py", "import torch", "outside a function"),
        ("rlkit/data/replay.py", "def f():\n    import torch", None),
        ("rlkit/data/replay.py", "from rlkit.types import Array\nfrom rlkit.data import append", None),
        ("rlkit/tabular/engine.py", "def f():\n    import torch", "never does"),
        ("rlkit/ops/td.py", "from rlkit.nn import mlp", "may not import row 'nn'"),
        ("rlkit/errors.py", "import numpy", "may import []"),
        ("rlkit/attention/kernels.py", "import triton", None),
        ("rlkit/attention/mask.py", "import triton", "no core dependency"),
        ("rlkit/attention/mask.py", "def f():\n    from rlkit.attention import kernels", None),
        (
            "rlkit/attention/mask.py",
            "from rlkit.attention.kernels import dot",
            "outside a function, which needs triton",
        ),
        ("rlkit/errors.py", "from rlkit.types import Array", "standard library only"),
        ("rlkit/types.py", "import gymnasium", "may import"),
        ("rlkit/types.py", "from gymnasium import spaces", None),
        ("rlkit/stray.py", "", "in no row"),
        ("rlkit/cli/main.py", "from rlkit.agents.ddpg import DDPG", None),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, file: str, code: str, expected: str | None) -> None:
    others = ("rlkit/__init__.py", "rlkit/loop.py", "rlkit/attention/kernels.py", "envs/__init__.py", "envs/grid.py")
    for name in (*others, "agents/__init__.py", file):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        (tmp_path / name).parent.joinpath("__init__.py").touch()
    (tmp_path / file).write_text(code + "\n")
    found = faults(tmp_path)
    assert (found == []) if expected is None else (len(found) == 1 and expected in found[0])
