"""What encoders that were pretrained without rewards tell of Atari games' RAM, beside their controls.

The protocol of Anand et al. 2019 (https://arxiv.org/abs/1906.08226) scaled to two cores: frames of 210x160 after frame
skip, grey, of random play; 30,000 to pretrain on, 20,000 others to probe. One JSON per finished run under
`benchmarks/results/probes/`, so the table adds up over several sittings:

    python benchmarks/probes.py run --game pong --methods untrained majority supervised --seeds 0-2
    python benchmarks/probes.py run --game pong --methods st-dim cpc byol simclr moco-v2 dino mae --seeds 0-2
    python benchmarks/probes.py run --game freeway --methods untrained majority supervised st-dim cpc --seeds 0-2
    python benchmarks/probes.py table

A seed has its own frames; all methods of a seed share them, and see about the same number of pictures in updates. Two
linear probes judge an encoder: rlkit's, which standardises features and converges, and the published one, which does
neither. The whole protocol of the paper: `--frames 100000 --probe-frames 50000 --updates 50000 --supervised-epochs
100`, for each of its 22 games.
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
            parts = probing_frames(data["probe"], seed, arguments)
            for method in missing:
                start = time.perf_counter()
                record = measured(method, seed, data["pretrain"], parts, arguments, Path(folder))
                record["seconds"] = round(time.perf_counter() - start, 1)
                store(game, method, seed, record, arguments)


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


def probing_frames(dataset: str, seed: int, arguments: argparse.Namespace) -> Any:
    """Labelled frames to train, validate and test probes."""
    from rlkit import seeding
    from rlkit.data.datasets import EpisodeDataset
    from rlkit.perception.probing.frames import probing_parts

    generator = seeding.generator(seed, "probing")
    return probing_parts(EpisodeDataset(dataset), generator, max_frames=arguments.probe_frames)


def measured(
    method: str, seed: int, data: str, parts: Any, arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Scores of one method by two linear probes, and what its run was like."""
    import rlkit
    from rlkit.perception.probing.linear_probe import LinearProbe
    from rlkit.perception.probing.majority_probe import MajorityProbe
    from rlkit.perception.probing.probe import probe
    from rlkit.perception.probing.supervised_probe import SupervisedProbe

    if method == "majority":
        return scored({"": probe(*parts, MajorityProbe())})
    if method in CONTROLS:
        encoder = untrained_encoder(data, seed)
    if method == "supervised":
        by = SupervisedProbe(encoder.backbone, seed=seed, max_epochs=arguments.supervised_epochs)
        return scored({"": probe(*parts, by)}) | {"epochs": arguments.supervised_epochs}
    facts: dict[str, Any] = {"updates": 0}
    if method not in CONTROLS:
        result = rlkit.pretrain(
            method, run_dir=folder / f"run-{method}", data=data, updates=arguments.updates, seed=seed, eval_every=0,
            method_config=options_of(method), checkpoint_every=arguments.updates, device="cpu",
        )  # fmt: skip
        encoder = rlkit.load_encoder(result.run_dir)
        facts = {"updates": arguments.updates, "pretraining_seconds": round(result.seconds, 1)}
    encoded = [part.encoded(encoder.features(part.inputs)) for part in parts]
    facts["feature_deviation"] = float(encoded[0].inputs.std(0).mean())
    tables = {
        "": probe(*encoded, LinearProbe(seed=seed)),
        "as_published_": probe(*encoded, LinearProbe.as_published(seed=seed)),
    }
    return scored(tables) | facts


def untrained_encoder(data: str, seed: int) -> Any:
    """The encoder that pretraining of this seed begins with."""
    from rlkit.data.datasets import EpisodeDataset
    from rlkit.perception.ssl.objective import new_encoder
    from rlkit.pretrained import FrozenBackbone
    from rlkit.registry import method_class

    space = EpisodeDataset(data).observation_space
    return FrozenBackbone(new_encoder(method_class("simclr").Config(**options_of("simclr")), space, seed), space)


def scored(tables: dict[str, Any]) -> dict[str, Any]:
    """Overall and category scores of each table, their names behind its own."""
    return {
        f"{name}{key}": value
        for name, table in tables.items()
        for key, value in (("overall", table.overall()), ("categories", table.categories()))
    }


def store(game: str, method: str, seed: int, found: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Keep one result."""
    record = {
        "game": game, "method": method, "seed": seed, "env": GAMES[game], "frames": arguments.frames,
        "probe_frames": arguments.probe_frames, "settings": options_of(method), **found, "threads": 1,
        "machine": platform.platform(), "command": shlex.join(["python", *sys.argv]),
        "versions": {name: version(name) for name in ("torch", "numpy", "gymnasium", "ale-py")},
    }  # fmt: skip
    target = target_of(game, method, seed)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    partial.rename(target)
    print(f"{game} {method} seed {seed}: F1 {found['overall']['f1_weighted']:.3f}", flush=True)


def table() -> str:
    """A row for each game and method: weighted F1 over seeds, and in units of the supervised encoder's."""
    heads = (
        "game", "method", "seeds", "updates", "F1, mean of categories [95 %]", "of supervised", "agent",
        "small objects", "F1 by the published probe [95 %]",
    )  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for game in GAMES:
        records = [json.loads(path.read_text()) for path in sorted((RESULTS / game).glob("*.json"))]
        by_method = {
            name: [r for r in records if r["method"] == name] for name in dict.fromkeys(r["method"] for r in records)
        }
        for name in sorted(by_method, key=lambda name: -mean_f1(by_method[name], "overall")):
            found = by_method[name]
            part = ""
            if "supervised" in by_method:
                part = f"{mean_f1(found, 'overall') / mean_f1(by_method['supervised'], 'overall'):.0%}"
            cells = (
                game, name, str(len(found)), f"{found[0].get('updates', 0):,}", with_interval(found, "overall"), part,
                of_category(found, "agent"), of_category(found, "small_object"),
                with_interval(found, "as_published_overall"),
            )  # fmt: skip
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def mean_f1(found: Sequence[dict[str, Any]], key: str) -> float:
    """Of the seeds' weighted F1."""
    return sum(record[key]["f1_weighted"] for record in found) / len(found)


def with_interval(found: Sequence[dict[str, Any]], key: str) -> str:
    """The mean, with a bootstrap interval over seeds; nothing where it was not measured."""
    import numpy as np

    scores = [record[key]["f1_weighted"] for record in found if key in record]
    if not scores:
        return ""
    low, high = interval(bootstrapped_iqm(scores, np.random.default_rng(0)))
    return f"{np.mean(scores):.3f} [{low:.3f}, {high:.3f}]"


def of_category(found: Sequence[dict[str, Any]], name: str) -> str:
    """Mean F1 of one category, where there is such."""
    scores = [record["categories"][name]["f1_weighted"] for record in found if name in record["categories"]]
    return f"{sum(scores) / len(scores):.3f}" if scores else ""


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
    running.add_argument("--updates", type=int, default=300)
    running.add_argument("--supervised-epochs", type=int, default=8)
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
