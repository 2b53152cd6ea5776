"""What encoders that were pretrained without rewards tell of Atari games' RAM, beside their controls.

The protocol of Anand et al. 2019 (https://arxiv.org/abs/1906.08226) scaled to two cores: frames of 210x160 after frame
skip, grey, of random play; 30,000 to pretrain on, 20,000 others to probe. One JSON per finished run under
`benchmarks/results/probes/`, so the table adds up over several sittings:

    python benchmarks/probes.py run --game pong --methods untrained majority supervised --seeds 0-2
    python benchmarks/probes.py run --game pong --methods st-dim cpc byol simclr moco-v2 dino mae --seeds 0-2
    python benchmarks/probes.py run --game freeway --methods untrained majority supervised st-dim cpc --seeds 0-2
    python benchmarks/probes.py table

A seed has its own frames; all methods of a seed share them, and the same number of pictures seen in updates. The whole
protocol of the paper: `--frames 100000 --probe-frames 50000`, for each of its 22 games.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

from agents_learning import bootstrapped_iqm, interval, seed_list

RESULTS = Path(__file__).parent / "results" / "probes"
GAMES = {"pong": "ALE/Pong-v5", "freeway": "ALE/Freeway-v5"}
CONTROLS = ("untrained", "majority", "supervised")
ENV_ARGS = ("obs_type=grayscale",)
# Clips in a batch such that an update of each method sees about 128 pictures or views.
BATCH_SIZES = {"cpc": 8, "bert": 16, "dino": 32, "swav": 32, "mae": 128, "spr": 20, "atc": 32}
PATCHED = ("mae",)


def options_of(method: str) -> dict[str, Any]:
    """Of a method, besides its defaults."""
    backbone = {} if method in PATCHED else {"backbone": "atari"}
    return {**backbone, "batch_size": BATCH_SIZES.get(method, 64)}


def run(game: str, methods: Sequence[str], seeds: Sequence[int], arguments: argparse.Namespace) -> None:
    """Pretrain and probe what has no result yet."""
    for seed in seeds:
        missing = [method for method in methods if not target_of(game, method, seed).exists()]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as folder:
            data = recorded(game, seed, arguments, Path(folder))
            for method in missing:
                start = time.perf_counter()
                scores, facts = measured(method, seed, data, arguments, Path(folder))
                store(
                    game, method, seed, scores, {**facts, "seconds": round(time.perf_counter() - start, 1)}, arguments
                )


def target_of(game: str, method: str, seed: int) -> Path:
    """Where a result lies."""
    return RESULTS / game / f"{method}-s{seed}.json"


def recorded(game: str, seed: int, arguments: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Datasets to pretrain on and to probe with."""
    from rlkit.frames import FrameSource, record_frames

    source = FrameSource(GAMES[game], ENV_ARGS, ("simulator-state",))
    found = {}
    for name, frames, of in (("pretrain", arguments.frames, seed), ("probe", arguments.probe_frames, 1000 + seed)):
        found[name] = str(folder / name)
        record_frames(source, folder / name, frames, of)
    return found


def measured(
    method: str, seed: int, data: dict[str, str], arguments: argparse.Namespace, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Overall and category scores of one method, and what its run was like."""
    import rlkit
    from rlkit.probing import ProbeOptions, judge

    trained = "simclr" if method in CONTROLS else method
    updates = 1 if method in CONTROLS else arguments.updates
    result = rlkit.pretrain(
        trained, run_dir=folder / f"run-{method}", data=data["pretrain"], updates=updates, seed=seed,
        method_config=options_of(trained), checkpoint_every=updates, device="cpu",
    )  # fmt: skip
    options = ProbeOptions.model_validate(
        {"data": data["probe"], "frames": arguments.probe_frames, "supervised": method == "supervised", "seed": seed}
    )
    table = judge(result.run_dir, options).tables[method if method in CONTROLS else "pretrained"]
    facts = {"updates": updates, "pretraining_seconds": round(result.seconds, 1), "evaluated": dict(result.evaluated)}
    return {"overall": table.overall(), "categories": table.categories()}, facts


def store(
    game: str, method: str, seed: int, scores: dict[str, Any], facts: dict[str, Any], arguments: argparse.Namespace
) -> None:
    """Keep one result."""
    record = {
        "game": game, "method": method, "seed": seed, "env": GAMES[game], "frames": arguments.frames,
        "probe_frames": arguments.probe_frames, "settings": options_of(method), **scores, **facts, "threads": 1,
        "machine": platform.platform(), "command": shlex.join(["python", *sys.argv]),
        "versions": {name: version(name) for name in ("torch", "numpy", "gymnasium", "ale-py")},
    }  # fmt: skip
    target = target_of(game, method, seed)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    partial.rename(target)
    print(f"{game} {method} seed {seed}: F1 {scores['overall'].get('f1_weighted'):.3f}", flush=True)


def table() -> str:
    """A row for each game and method: weighted F1 over seeds, and in units of the supervised encoder's."""
    import numpy as np

    heads = ("game", "method", "seeds", "updates", "F1, mean of categories [95 %]", "of supervised", "small objects")
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for game in GAMES:
        records = [json.loads(path.read_text()) for path in sorted((RESULTS / game).glob("*.json"))]
        by_method = {
            name: [r for r in records if r["method"] == name] for name in dict.fromkeys(r["method"] for r in records)
        }
        middle = {
            name: float(np.mean([r["overall"]["f1_weighted"] for r in found])) for name, found in by_method.items()
        }
        for name in sorted(by_method, key=lambda name: -middle[name]):
            found = by_method[name]
            scores = [r["overall"]["f1_weighted"] for r in found]
            low, high = interval(bootstrapped_iqm(scores, np.random.default_rng(0)))
            part = f"{middle[name] / middle['supervised']:.0%}" if "supervised" in middle else ""
            small = [r["categories"]["small_object"]["f1_weighted"] for r in found if "small_object" in r["categories"]]
            small_text = f"{np.mean(small):.3f}" if small else ""
            rows.append(
                f"| {game} | {name} | {len(found)} | {found[0]['updates']:,} | {middle[name]:.3f} [{low:.3f}, "
                f"{high:.3f}] | {part} | {small_text} |"
            )
    return "\n".join(rows) + "\n"


def main() -> None:
    """Parse and go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="pretrain and probe what has no result yet")
    running.add_argument("--game", choices=GAMES, required=True)
    running.add_argument("--methods", nargs="+", required=True)
    running.add_argument("--seeds", type=seed_list, default=[0])
    running.add_argument("--frames", type=int, default=30_000)
    running.add_argument("--probe-frames", type=int, default=20_000)
    running.add_argument("--updates", type=int, default=600)
    commands.add_parser("table", help="print the table and write it beside the results")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.game, arguments.methods, arguments.seeds, arguments)
    else:
        text = table()
        print(text)
        (RESULTS / "table.md").write_text(text)


if __name__ == "__main__":
    main()
