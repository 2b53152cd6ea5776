"""rlkit: sequential decisions on gymnasium environments, from the first Monte Carlo estimate to policies with memory.

Importing rlkit is cheap: the functions below bring their libraries with the first use.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlkit.api import Policy, RunResult, evaluate, export_dataset, load, make, resume, train
    from rlkit.detected import load_detector
    from rlkit.detecting import train_detector
    from rlkit.pretrained import load_encoder
    from rlkit.pretraining import pretrain

__all__ = [
    "Policy", "RunResult", "__version__", "evaluate", "export_dataset", "load", "load_detector", "load_encoder", "make",
    "pretrain", "resume", "train", "train_detector",
]  # fmt: skip
_ELSEWHERE = {
    "load_detector": "rlkit.detected",
    "load_encoder": "rlkit.pretrained",
    "pretrain": "rlkit.pretraining",
    "train_detector": "rlkit.detecting",
}

try:
    __version__ = version("rlkit-torch")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in __all__:
        return vars(import_module(_ELSEWHERE.get(name, "rlkit.api")))[name]
    raise AttributeError(f"module 'rlkit' has no attribute {name!r}")
