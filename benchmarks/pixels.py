"""DQN from pixels: small MiniGrid tasks beside the same agent on the state, and the curve of a short Pong run.

One JSON per finished run under `benchmarks/results/pixels/`, so the table adds up over several sittings:

    python benchmarks/pixels.py run --task empty --input pixels --seeds 0-2
    python benchmarks/pixels.py run --task empty --input state --seeds 0-2
    python benchmarks/pixels.py table
    python benchmarks/pixels.py curve /tmp/pong --name pong     # of a run folder that `rlkit train` left behind

Each run is one thread, trains from scratch and is evaluated without exploration on fresh episodes. Beside it stands the
best return there is on the same episodes, found by breadth-first search. Needs the extras minigrid and plot.
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
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import gymnasium as gym
from agents_learning import evaluation_seed, seed_list

RESULTS = Path(__file__).parent / "results" / "pixels"
EVALUATION_EPISODES = 100


@dataclass(frozen=True)
class PixelTask:
    """A MiniGrid environment and a budget of env steps."""

    env: str
    total_steps: int


TASKS = {
    "empty": PixelTask("MiniGrid-Empty-Random-6x6-v0", 15_000),
    "lava": PixelTask("MiniGrid-LavaGapS6-v0", 30_000),
}


@dataclass(frozen=True)
class Player:
    """An agent, its settings, and what it is shown."""

    agent: str
    settings: Mapping[str, Any]
    env_args: tuple[str, ...]
    wrap: tuple[str, ...]


# MiniGrid's own observation: kind, colour and state of the 7 x 7 cells ahead, and the direction; 151 numbers.
STATE = ('filter-observation:filter_keys=["image","direction"]',)
# The whole room in grey, eight pixels a cell.
PIXELS = ("add-render-observation", "grayscale-observation", "frame-stack:n=2")
# A short horizon: turning left and turning right then differ enough in value for a greedy policy that never circles.
SETTINGS = {
    "gamma": 0.9, "learning_rate": 5e-4, "batch_size": 32, "buffer_size": 100_000, "learning_starts": 1_000,
    "target_update_every": 500, "epsilon_fraction": 0.5, "double": True, "n_step": 3,
}  # fmt: skip
PLAYERS = {
    "pixels": Player(
        "dqn", {**SETTINGS, "encoder": "nature", "hidden": (128,)}, ("render_mode=rgb_array", "tile_size=8"), PIXELS
    ),
    "state": Player("dqn", {**SETTINGS, "hidden": (128, 128)}, (), STATE),
    "random": Player("random", {}, (), STATE),
}
FRAMES_A_STEP = 4  # of atari-preprocessing


class Place(NamedTuple):
    """Where the agent of a room stands and looks: 0 right, 1 down, 2 left, 3 up."""

    column: int
    row: int
    direction: int


def shortest(env: gym.Env[Any, Any]) -> int:
    """Fewest actions from here to the goal of a MiniGrid room in which nothing opens or moves."""
    room: Any = env.unwrapped
    start = Place(int(room.agent_pos[0]), int(room.agent_pos[1]), int(room.agent_dir))
    distance, queue = {start: 0}, deque([start])
    while queue:
        here = queue.popleft()
        if kind(room, here.column, here.row) == "goal":
            return distance[here]
        for following in neighbours(room, here):
            if following not in distance:
                distance[following] = distance[here] + 1
                queue.append(following)
    raise ValueError(f"{room} has no way to its goal")


def neighbours(room: Any, here: Place) -> Iterator[Place]:
    """Where one useful action leads: turn, or walk."""
    yield here._replace(direction=(here.direction + 1) % 4)
    yield here._replace(direction=(here.direction - 1) % 4)
    column = here.column + (1, 0, -1, 0)[here.direction]
    row = here.row + (0, 1, 0, -1)[here.direction]
    if kind(room, column, row) in ("", "goal"):
        yield here._replace(column=column, row=row)


def kind(room: Any, column: int, row: int) -> str:
    """What is in a cell: wall, lava, goal, or nothing."""
    cell = room.grid.get(column, row)
    return "" if cell is None else str(cell.type)


def best_returns(env_id: str, seed: int, episodes: int) -> list[float]:
    """The highest returns of the episodes that an evaluation with this seed plays: 1 - 0.9 steps / limit."""
    import minigrid  # noqa: F401  (registers its environments)

    from rlkit.seeding import row_seed

    env = gym.make(env_id)
    found = []
    for episode in range(episodes):  # nothing but a reset draws from these environments' generators
        env.reset(seed=row_seed(seed, 0) if episode == 0 else None)
        limit: int = env.unwrapped.max_steps  # type: ignore[attr-defined]
        found.append(1 - 0.9 * shortest(env) / limit)
    return found


def measured(task: PixelTask, source: str, seed: int) -> dict[str, Any]:
    """Train and evaluate once."""
    import rlkit

    player = PLAYERS[source]
    with tempfile.TemporaryDirectory() as folder:
        result = rlkit.train(
            player.agent, task.env, total_steps=task.total_steps, run_dir=Path(folder) / "run", preset="none",
            seed=seed, agent_config=player.settings, eval_every=0, checkpoint_every=task.total_steps, device="cpu",
            env_args=player.env_args, wrap=player.wrap,
        )  # fmt: skip
        if result.status != "done":
            sys.exit(f"interrupted by {result.status}: nothing is kept of this run")
        first = evaluation_seed(seed)
        evaluation = rlkit.evaluate(result.run_dir, episodes=EVALUATION_EPISODES, seed=first)
        curve = points(result.run_dir, "rollout/ep_rew_mean")
    best = best_returns(task.env, first, EVALUATION_EPISODES)
    assert all(found <= limit + 1e-6 for found, limit in zip(evaluation.returns, best, strict=True))
    return {
        **asdict(player), "mean_return": evaluation.mean, "returns": [round(value, 4) for value in evaluation.returns],
        "best_mean_return": sum(best) / len(best), "training_seconds": round(result.seconds, 1), "curve": curve,
    }  # fmt: skip


def run(task_name: str, source: str, seeds: Sequence[int]) -> None:
    """Train every seed that has no result file yet."""
    task = TASKS[task_name]
    for seed in seeds:
        target = RESULTS / task_name / f"{source}-s{seed}.json"
        if target.exists():
            continue
        record = {
            "task": task_name, "input": source, "seed": seed, "env": task.env, "total_steps": task.total_steps,
            **measured(task, source, seed), **circumstances(),
        }  # fmt: skip
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(record) + "\n")
        partial.rename(target)
        told = f"{record['mean_return']:.3f}, best {record['best_mean_return']:.3f}, {record['training_seconds']} s"
        print(f"{task_name} {source} seed {seed}: {told}", flush=True)


def circumstances() -> dict[str, Any]:
    """What a measurement was made with."""
    packages = ("torch", "numpy", "gymnasium", "minigrid", "opencv-python-headless")
    return {
        "threads": 1, "machine": platform.platform(), "command": " ".join(["python", *sys.argv]),
        "versions": {name: version(name) for name in packages}, "finished": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def points(folder: Path, key: str) -> list[tuple[int, float]]:
    """Env steps and values of one logged key."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], round(line[key], 4)) for line in lines if key in line]


def table() -> str:
    """A row for each task and input: mean return of each seed, and the best there is."""
    rows = ["| task | input | env steps | mean return by seed | mean | best possible | training |", "|" + "---|" * 7]
    for name, task in TASKS.items():
        for source in PLAYERS:
            records = [json.loads(path.read_text()) for path in sorted((RESULTS / name).glob(f"{source}-s*.json"))]
            if not records:
                continue
            scores = [record["mean_return"] for record in records]
            best = mean([record["best_mean_return"] for record in records])
            steps = "" if source == "random" else f"{task.total_steps:,}"
            took = "" if source == "random" else f"{mean([record['training_seconds'] for record in records]):.0f} s"
            by_seed = ", ".join(f"{score:.3f}" for score in scores)
            rows.append(f"| {task.env} | {source} | {steps} | {by_seed} | {mean(scores):.3f} | {best:.3f} | {took} |")
    return "\n".join(rows) + "\n"


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def curve(folder: Path, name: str) -> None:
    """Keep the curve of an Atari run of at most 100 training episodes: each one's return, and the evaluations."""
    from rlkit.checkpoint import load_checkpoint

    training = load_checkpoint(sorted((folder / "checkpoints").glob("step-*"))[-1]).training
    assert training is not None
    episodes, step = [], 0
    for episode_return, length in training["session"]["episodes"]:
        step += length
        episodes.append((step, episode_return))
    assert len(episodes) == training["session"]["episode_count"], "the checkpoint keeps the last 100 episodes only"
    meta, result = (json.loads((folder / file).read_text()) for file in ("meta.json", "result.json"))
    record = {
        "run": name, "command": shlex.join(["rlkit", *meta["argv"][1:]]), "frames_a_step": FRAMES_A_STEP,
        "steps": result["steps"], "seconds": result["seconds"], "versions": meta["versions"],
        "machine": platform.platform(), "episodes": episodes, "evaluations": points(folder, "eval/mean_reward"),
        "evaluation_lengths": points(folder, "eval/mean_ep_length"), "loss": points(folder, "train/loss"),
        "steps_per_second": points(folder, "time/fps"),
    }  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record) + "\n")
    draw(record, RESULTS / f"{name}.png")


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Return of each training episode and of the evaluations over frames."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    kinds = (("episodes", "o", "training episodes"), ("evaluations", "s-", "evaluations, without exploration"))
    for key, style, label in kinds:
        steps, returns = zip(*record[key], strict=True)
        axes.plot([step * FRAMES_A_STEP for step in steps], returns, style, markersize=4, label=label)
    axes.set(xlabel="frames", ylabel="return", title=record["run"])
    axes.legend()
    FigureCanvasAgg(figure).print_figure(str(path), dpi=100)


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="train the seeds that have no result yet")
    runner.add_argument("--task", choices=sorted(TASKS), required=True)
    runner.add_argument("--input", choices=sorted(PLAYERS), required=True)
    runner.add_argument("--seeds", type=seed_list, required=True)
    commands.add_parser("table", help="print the table and write it beside the results")
    drawer = commands.add_parser("curve", help="keep the curve of a finished Atari run")
    drawer.add_argument("folder", type=Path)
    drawer.add_argument("--name", required=True)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.task, arguments.input, arguments.seeds)
    elif arguments.command == "curve":
        curve(arguments.folder, arguments.name)
    else:
        text = table()
        (RESULTS / "table.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
