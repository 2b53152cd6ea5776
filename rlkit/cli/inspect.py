"""`rlkit inspect`: what a run, checkpoint or dataset holds, and whether it verifies. Loads no code that files name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from rlkit.checkpoint import MANIFEST, CheckpointStore, load_checkpoint, read_manifest
from rlkit.cli.inspect_dataset import dataset_facts, dataset_text, is_dataset
from rlkit.errors import CheckpointError
from rlkit.runs import RunFolder, open_run


@dataclass(frozen=True)
class InspectOptions:
    """Show what a run, one of its checkpoints, or a dataset of episodes holds."""

    path: Annotated[Path, tyro.conf.Positional]
    """the folder of a run, a checkpoint or a dataset"""
    json: bool = False
    """print one JSON object"""


def run(arguments: list[str]) -> int:
    """Print; exit code 1 where a checkpoint or dataset is damaged."""
    options = tyro.cli(InspectOptions, args=arguments, prog="rlkit inspect")
    if is_dataset(options.path):
        found = dataset_facts(options.path)
        print(json.dumps(found, indent=1) if options.json else dataset_text(options.path, found))
        return 0 if found["state"] == "verified" else 1
    if (options.path / MANIFEST).exists():
        checkpoints = [_checkpoint(options.path)]
        facts: dict[str, Any] = {"checkpoints": checkpoints}
    else:
        folder = open_run(options.path)
        facts = _run(folder)
        checkpoints = facts["checkpoints"]
    print(json.dumps(facts, indent=1) if options.json else _text(options.path, facts))
    return 0 if all(checkpoint["state"] == "verified" for checkpoint in checkpoints) else 1


def _run(folder: RunFolder) -> dict[str, Any]:
    meta = folder.meta()
    stores: list[CheckpointStore] = [folder.checkpoints, folder.best]
    return {
        "config": dict(folder.config_tree().data),
        "result": folder.result(),
        "restore_tier": meta.get("env_restore_tier"),  # runs of pretraining have none
        "device": meta["device"],
        "started": meta["started"],
        "versions": meta["versions"],
        "checkpoints": [_checkpoint(path) for store in stores for path in store.candidates()],
    }


def _checkpoint(path: Path) -> dict[str, Any]:
    name = f"{path.parent.name}/{path.name}"
    try:
        manifest = read_manifest(path)
        load_checkpoint(path)
    except CheckpointError as error:
        return {"name": name, "state": f"damaged: {error}"}
    logs = manifest["logs"].values()
    size = sum(file["size"] for file in manifest["files"].values())
    size += sum(segment["size"] for log in logs for segment in log["segments"])
    holds = sorted({file.partition("/")[0] for file in manifest["files"]})
    return {"name": name, "state": "verified", "step": manifest["step"], "holds": holds, "bytes": size}


def _text(path: Path, facts: dict[str, Any]) -> str:
    lines = [str(path)]
    if "config" in facts:
        config, result = facts["config"], facts["result"]
        kind = "method" if "method" in config else "agent"  # of pretraining, of training
        unit = "updates" if kind == "method" else "steps"
        planned = config["updates"] if kind == "method" else config["total_steps"]
        final = None if result is None else result.get("final_return")
        lines += [
            f"  {config[kind]['name']} on {config['env'] or config['data']}, {planned:,} {unit}, seed "
            f"{config['seed']}, {facts['device']}, started {facts['started']}",
            "  "
            + ("not finished" if result is None else f"{result['status']} after {result['steps']:,} {unit}")
            + ("" if final is None else f", return {final:.1f}"),
            *([] if kind == "method" else [f"  environment restore tier: {facts['restore_tier']}"]),
            "  " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        ]
        own = {name: value for name, value in config[kind].items() if name != "name"}
        lines += [f"  {kind} options:", *(f"    {name}: {value}" for name, value in own.items())]
    lines.append("  checkpoints:")
    for item in facts["checkpoints"]:
        what = (
            f"step {item['step']:,}, {' and '.join(item['holds'])}, {item['bytes'] / 1e6:.1f} MB"
            if "step" in item
            else ""
        )
        lines.append(f"    {item['name']}  {item['state']}  {what}".rstrip())
    return "\n".join(lines)
