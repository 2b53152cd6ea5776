"""The package's sources, each module by the name it is installed under; shared by the tests that read code."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"rlkit": "rlkit", "agents": "rlkit.agents", "envs": "rlkit.envs", "configs": "rlkit.configs"}
"""Top-level folders and what they are installed as."""


def package_folders(root: Path = ROOT) -> dict[str, Path]:
    """Package name -> folder, for every folder with an `__init__.py` (and `rlkit`). Symbolic links are not followed."""
    found = {}
    for folder, package in PACKAGES.items():
        for path, subfolders, files in os.walk(root / folder):
            subfolders[:] = sorted(name for name in subfolders if name != "__pycache__")
            if "__init__.py" in files or path == str(root / folder):
                found[".".join([package, *Path(path).relative_to(root / folder).parts])] = Path(path)
    return found


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Module name -> file."""
    found = {}
    for package, folder in package_folders(root).items():
        for file in sorted(folder.glob("*.py")):
            found[package if file.stem == "__init__" else f"{package}.{file.stem}"] = file
    return found


def parsed(root: Path = ROOT) -> Iterator[tuple[str, Path, ast.Module]]:
    """Module name, file and syntax tree of every module."""
    for name, file in modules(root).items():
        yield name, file, ast.parse(file.read_text(encoding="utf-8"), str(file))
