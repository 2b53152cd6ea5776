"""`rlkit inspect` for the folder of an episode dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlkit.data.datasets import MANIFEST, EpisodeDataset
from rlkit.errors import DatasetError


def is_dataset(folder: Path) -> bool:
    """Whether the manifest in the folder is a dataset's, a damaged one too."""
    try:
        return "shards" in json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def dataset_facts(folder: Path) -> dict[str, Any]:
    """What it holds, and whether every shard verifies."""
    try:
        dataset = EpisodeDataset(folder)
        dataset.verify()
    except DatasetError as error:
        return {"state": f"damaged: {error}"}
    returns = dataset.returns
    spread = {"mean": returns.mean(), "least": returns.min(), "greatest": returns.max()} if len(dataset) else {}
    return {
        "state": "verified",
        "episodes": len(dataset),
        "steps": int(dataset.lengths.sum()),
        "returns": {name: float(value) for name, value in spread.items()},
        "observation_space": str(dataset.observation_space),
        "action_space": str(dataset.action_space),
        "sources": [f"{env}, {made_by}" for env, made_by in dataset.sources],
    }


def dataset_text(folder: Path, facts: dict[str, Any]) -> str:
    """The same for people."""
    lines = [str(folder), f"  dataset  {facts['state']}"]
    if "episodes" in facts:
        lines.append(f"  {facts['episodes']:,} episodes, {facts['steps']:,} steps")
        if facts["returns"]:
            lines.append("  returns: " + ", ".join(f"{name} {value:.1f}" for name, value in facts["returns"].items()))
        lines += [f"  observations: {facts['observation_space']}", f"  actions: {facts['action_space']}"]
        lines += [f"  from {source}" for source in facts["sources"]]
    return "\n".join(lines)
