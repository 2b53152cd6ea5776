"""Makes `agents`, `envs` and `configs`, imported from the checkout's root, the same modules as `rlkit.agents`, ….

Those folders are installed inside `rlkit`, but from the root Python also finds them under their bare names and would
run every file a second time, so that each class existed twice. The `__init__.py` of each folder calls `install` when it
is run under its bare name. Standard library only.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NAMES = ("agents", "envs", "configs")


class _AliasFinder(MetaPathFinder, Loader):
    """Finds `agents.x` as `rlkit.agents.x`, and only after `agents` itself was found to be ours."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        head = fullname.partition(".")[0]
        ours = sys.modules.get(f"rlkit.{head}")
        if head == fullname or head not in NAMES or ours is None or sys.modules.get(head) is not ours:
            return None
        real = importlib.util.find_spec(f"rlkit.{fullname}")
        return None if real is None else ModuleSpec(fullname, self, origin=real.origin)

    def exec_module(self, module: ModuleType) -> None:
        # The import system returns what stands in sys.modules after this call. Replacing the empty `module` there,
        # instead of returning the real one from `create_module`, leaves the real one's `__spec__` as it is.
        sys.modules[module.__name__] = importlib.import_module(f"rlkit.{module.__name__}")


def install(name: str) -> None:
    """Replace the top-level module `name`, which is being imported, by `rlkit.<name>`, now and for its submodules."""
    if not any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AliasFinder())
    sys.modules[name] = importlib.import_module(f"rlkit.{name}")
