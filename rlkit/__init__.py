"""rlkit: sequential decisions on gymnasium environments, from the first Monte Carlo estimate to policies with memory.

Importing rlkit is cheap: the functions below bring their libraries with the first use.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlkit.api import Policy, RunResult, evaluate, export_dataset, load, make, resume, train

__all__ = ["Policy", "RunResult", "__version__", "evaluate", "export_dataset", "load", "make", "resume", "train"]

try:
    __version__ = version("rlkit-torch")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in __all__:
        from rlkit import api

        return vars(api)[name]
    raise AttributeError(f"module 'rlkit' has no attribute {name!r}")
