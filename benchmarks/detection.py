"""Online detectors on simulator streams: how well they tell what happens, and what a frame costs.

Two streams of `rlkit list streams`: `freeway-hit` from pixels, the score masked, through a frozen encoder that ST-DIM
pretrained on the same frames, and `babyai-subgoals` from the agent's own view. 16,000 frames to learn from and 4,000
of other episodes to test on. Every detector of a stream has the same width, batch, step size and number of updates,
and is judged on every test frame from the first one on. One JSON per finished run under
`benchmarks/results/detection/`:

    python benchmarks/detection.py run --stream freeway-hit --seeds 0-2
    python benchmarks/detection.py run --stream babyai-subgoals --seeds 0-2
    python benchmarks/detection.py table

Beside the detectors stand ridge regressions on what is not seen: the chicken's row in the console's RAM, and its last
16 moves, without and with the agent's own actions (freeway-hit); one observation, and the last four with actions
(babyai-subgoals). A detector that sees the same actions should exceed them.
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

RESULTS = Path(__file__).parent / "results" / "detection"
STREAMS = ("freeway-hit", "babyai-subgoals")
DETECTORS = ("gru", "lstm", "trn", "idn", "oadtr", "oadtr-streaming", "lstr", "testra")
FRAMES, TEST_FRAMES = 16_000, 4_000
WIDTH, BATCH, HORIZON, LEARNING_RATE = 64, 32, 8, 3e-3
UPDATES = {"freeway-hit": 1_000, "babyai-subgoals": 300}
"""Of every detector. Both were chosen on seed 101, with actions. A step size of 3e-3 is better than 1e-3 for the GRU,
and no worse for both OadTR. After 300 updates of BabyAI the GRU and streaming OadTR soon know its 16,000 frames by
heart, while OadTR and LSTR would still learn."""
ENCODER_UPDATES = 800
OWN_OPTIONS: dict[str, dict[str, Any]] = {
    "gru": {"window": 64, "loss_on": "all"},
    "lstm": {"window": 64, "loss_on": "all"},
    "trn": {"window": 32},
    "oadtr-streaming": {"window": 64},
}
"""Few updates ask for many frames in each: the loss is on all frames of a window wherever reading them once gives
them all (MiniROAD's is on the last alone), of streaming OadTR on those that see half a window; TRN's window is half as
long, or its decoder takes minutes."""


def run(stream: str, names: Sequence[str], seeds: Sequence[int]) -> None:
    """Measure what has no result yet."""
    for seed in seeds:
        missing = [
            (name, actions)
            for actions in (False, True)
            for name in (*names, "state")
            if not target_of(stream, name, actions, seed).exists()
        ]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as folder:
            datasets = recorded(stream, seed, Path(folder))
            encoder = encoder_of(stream, seed, datasets["train"], Path(folder))
            for actions in (False, True):
                sets = stream_sets(stream, datasets, encoder, actions)
                for name, with_actions in missing:
                    if with_actions == actions:
                        found = (
                            state_probe(stream, seed, datasets, actions)
                            if name == "state"
                            else trained(name, sets, seed, UPDATES[stream])
                        )
                        store(stream, name, actions, seed, found)


def target_of(stream: str, name: str, actions: bool, seed: int) -> Path:
    """Where a result lies."""
    return RESULTS / stream / f"{name}{'-actions' if actions else ''}-s{seed}.json"


def recorded(stream: str, seed: int, folder: Path) -> dict[str, Any]:
    """Datasets of episodes to learn from and to test on, of seeds of their own."""
    from rlkit.stream_recording import record_stream

    return {
        name: record_stream(stream, folder / name, frames=frames, seed=of)
        for name, frames, of in (("train", FRAMES, seed), ("test", TEST_FRAMES, 1000 + seed))
    }


def encoder_of(stream: str, seed: int, train: Any, folder: Path) -> Any:
    """What sees the pictures, or None where there are none."""
    import rlkit
    from rlkit.envs.streams import STREAMS as NAMED

    if not NAMED[stream].has_pictures:
        return None
    result = rlkit.pretrain(
        "st-dim", run_dir=folder / "encoder", data=str(train.folder), updates=ENCODER_UPDATES, seed=seed,
        method_config={"backbone": "nature", "batch_size": 64}, device="cpu", eval_every=0,
    )  # fmt: skip
    return rlkit.load_encoder(result.run_dir)


def stream_sets(stream: str, datasets: dict[str, Any], encoder: Any, actions: bool) -> dict[str, Any]:
    """Streams with features, those of actions among them or not."""
    from rlkit.stream_features import StreamFeatures, streams_of
    from rlkit.stream_recording import stream_classes

    train = datasets["train"]
    features = StreamFeatures(train.observation_space, train.action_space if actions else None, encoder)
    classes = stream_classes(stream)
    assert classes is not None
    return {name: streams_of(dataset, features, classes) for name, dataset in datasets.items()}


def trained(name: str, sets: dict[str, Any], seed: int, updates: int) -> dict[str, Any]:
    """Train one detector, judge it, and time its frames."""
    from rlkit import registry, seeding
    from rlkit.data.streams import WindowSampler
    from rlkit.detecting import moments
    from rlkit.perception.detection.detector import DetectionTask
    from rlkit.perception.detection.learner import DetectorLearner
    from rlkit.perception.detection.scoring import detection_quality, stream_scores

    kind = registry.detector_class(name)
    shared = {"width": WIDTH, "batch_size": BATCH, "horizon": HORIZON, "learning_rate": LEARNING_RATE}
    config = kind.Config(**shared, **OWN_OPTIONS.get(name, {}))
    train = sets["train"]
    task = DetectionTask(train.feature_size, train.classes, None, *moments(train), updates, seed)
    seeding.seed_global_generators(seed)  # dropout's
    learner = DetectorLearner(kind, config, task)
    sampler = WindowSampler(train, config.window, config.horizon, config.batch_size, seed)
    start = time.perf_counter()
    for _ in range(updates):
        learner.learn(next(sampler))
    seconds = time.perf_counter() - start
    quality = detection_quality(sets["test"], stream_scores(learner.detector, sets["test"].streams))
    return {
        "quality": quality, "settings": config.model_dump(mode="json"), "updates": updates,
        "training_seconds": round(seconds, 1), "parameters": learner.flat.numel(), **costs(learner.detector),
        "prevalence": sets["test"].prevalence,
    }  # fmt: skip


def costs(detector: Any) -> dict[str, Any]:
    """Multiply-adds of one frame, milliseconds of a step of 1 and of 64 streams, and streams a second."""
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    detector.eval()
    found: dict[str, Any] = {}
    with torch.inference_mode():
        for streams in (1, 64):
            memory, seconds = detector.empty(streams), []
            x = torch.randn(streams, detector.task.feature_size)
            for _ in range(detector.config.window + 100):
                start = time.perf_counter()
                _, memory = detector.step(x, memory)
                seconds.append(time.perf_counter() - start)
            found[f"step_milliseconds_{streams}"] = round(1000 * float(np.median(seconds[-100:])), 4)
            found[f"frames_a_second_{streams}"] = round(streams / float(np.median(seconds[-100:])))
    with FlopCounterMode(display=False) as counter:  # with gradients, so that no compiled step hides what it does
        detector.step(torch.randn(1, detector.task.feature_size), detector.empty(1))
    return found | {"multiply_adds": counter.get_total_flops() // 2}


def state_probe(stream: str, seed: int, datasets: dict[str, Any], actions: bool) -> dict[str, Any]:
    """Average precision of ridge regressions on the simulator's state."""
    import numpy as np

    from rlkit.data.events import event_labels
    from rlkit.ops.average_precision import class_average_precision, mean_over_occurring
    from rlkit.stream_recording import stream_classes

    classes = stream_classes(stream)
    assert classes is not None
    told = {}
    for name, dataset in datasets.items():
        inputs = (
            chicken_rows(stream, dataset, {"train": seed, "test": 1000 + seed}[name]) if "freeway" in stream else None
        )
        parts = []
        for number, episode in enumerate(dataset):
            one_hot = np.eye(dataset.action_space.n)[np.asarray(episode.actions)]
            if inputs is not None:  # the last 16 moves
                row = inputs[number]
                moves = np.diff(row, prepend=row[:1], axis=0).clip(-8, 8)  # a score throws it back by 160
                seen = np.concatenate([row[:, None], past(moves[:, None], 16)], 1)
                seen = np.concatenate([seen, past(one_hot, 16)], 1) if actions else seen
            else:
                cells = np.asarray(episode.observations)[1:].reshape(len(episode), -1).astype(np.float64)
                seen = np.concatenate([past(cells, 4), past(one_hot, 4)], 1) if actions else cells
            parts.append((seen, event_labels(episode.infos, classes)))
        told[name] = [np.concatenate(each).astype(np.float64) for each in zip(*parts, strict=True)]
    x, y = told["train"]
    mean = x.mean(0)
    weights = np.linalg.solve(
        (x - mean).T @ (x - mean) + len(x) * 1e-3 * np.eye(x.shape[1]), (x - mean).T @ (y - y.mean(0))
    )
    precision = class_average_precision(told["test"][1], (told["test"][0] - mean) @ weights)
    judged = [k for k, name in enumerate(classes) if name != "background"]
    aps = {f"ap_{name}": float(value) for name, value in zip(classes, precision, strict=True)}
    return {"quality": {"map": mean_over_occurring(precision[judged]), **aps}, "updates": 0}


def past(values: Any, count: int) -> Any:
    """Rows [L, count * C] of the last `count` rows of values [L, C], zeros before the first."""
    import numpy as np

    padded = np.concatenate([np.zeros((count - 1, values.shape[1])), values])
    return np.concatenate([padded[shift : shift + len(values)] for shift in range(count)], 1)


def chicken_rows(stream: str, dataset: Any, seed: int) -> list[Any]:
    """The chicken's row in RAM at each frame of each episode, which are played again."""
    import numpy as np

    from rlkit.envs.streams import stream_named
    from rlkit.seeding import row_seed

    env = stream_named(stream).make()
    found = []
    for number, episode in enumerate(dataset):
        env.reset(seed=row_seed(seed, number))
        rows = []
        for action, observed in zip(episode.actions, np.asarray(episode.observations)[1:], strict=True):
            seen = env.step(action)[0]
            assert np.array_equal(seen, observed)  # the very same episode
            rows.append(float(env.unwrapped.ale.getRAM()[14]))  # type: ignore[attr-defined]
        found.append(np.array(rows))
    env.close()
    return found


def store(stream: str, name: str, actions: bool, seed: int, found: dict[str, Any]) -> None:
    """Keep one result."""
    record = {
        "stream": stream, "detector": name, "actions": actions, "seed": seed, "frames": FRAMES,
        "test_frames": TEST_FRAMES, **found, "threads": 1, "machine": platform.platform(),
        "command": shlex.join(["python", *sys.argv]),
        "versions": {each: version(each) for each in ("torch", "numpy", "gymnasium", "ale-py", "minigrid")},
    }  # fmt: skip
    target = target_of(stream, name, actions, seed)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    partial.rename(target)
    seconds = f", {found['training_seconds']:.0f} s" if "training_seconds" in found else ""
    print(f"{target.stem}: mAP {found['quality']['map']:.3f}{seconds}", flush=True)


def table() -> str:
    """A row for each stream, input and detector."""
    import numpy as np

    heads = (
        "stream", "actions", "detector", "seeds", "mAP [95 %]", "AP hit", "mAP 1, 4, 8 ahead", "multiply-adds",
        "ms a step of 1, 64", "frames/s of 64", "parameters", "training s",
    )  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for stream in STREAMS:
        records = [json.loads(path.read_text()) for path in sorted((RESULTS / stream).glob("*.json"))]
        for actions in (False, True):
            of_input = [record for record in records if record["actions"] == actions]
            groups: dict[str, list[dict[str, Any]]] = {}
            for record in of_input:
                groups.setdefault(record["detector"], []).append(record)
            for name, found in sorted(groups.items(), key=lambda each: -mean_of(each[1], "map")):
                scores = [record["quality"]["map"] for record in found]
                low, high = interval(bootstrapped_iqm(scores, np.random.default_rng(0)))
                hit = f"{mean_of(found, 'ap_hit'):.3f}" if "ap_hit" in found[0]["quality"] else ""
                shown = "ridge on the state" if name == "state" else name
                quality = f"{np.mean(scores):.3f} [{low:.3f}, {high:.3f}] | {hit}"
                rows.append(
                    f"| {stream} | {'yes' if actions else 'no'} | {shown} | {len(found)} | {quality} | "
                    f"{costs_of(found)} |"
                )
    return "\n".join(rows) + "\n"


def mean_of(found: Sequence[dict[str, Any]], key: str) -> float:
    """Of a quality over seeds."""
    return sum(record["quality"][key] for record in found) / len(found)


def costs_of(found: Sequence[dict[str, Any]]) -> str:
    """The columns that only detectors have."""
    if "parameters" not in found[0]:
        return " | " * 5
    ahead = ", ".join(f"{mean_of(found, f'map_ahead_{frames}'):.3f}" for frames in (1, 4, 8))
    first = found[0]
    steps = f"{first['step_milliseconds_1']:.2f}, {first['step_milliseconds_64']:.2f}"
    return (
        f"{ahead} | {first['multiply_adds']:,} | {steps} | {first['frames_a_second_64']:,} | {first['parameters']:,} | "
        f"{first['training_seconds']:.0f}"
    )


def main() -> None:
    """Parse and go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure what has no result yet")
    running.add_argument("--stream", choices=STREAMS, required=True)
    running.add_argument("--detectors", nargs="+", choices=DETECTORS, default=DETECTORS)
    running.add_argument("--seeds", type=seed_list, default=[0])
    commands.add_parser("table", help="print the table and write it beside the results")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.stream, arguments.detectors, arguments.seeds)
    else:
        text = table()
        print(text)
        (RESULTS / "table.md").write_text(text)


if __name__ == "__main__":
    main()
