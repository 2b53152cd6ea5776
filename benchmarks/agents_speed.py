"""Speed of whole training runs, of acting and of replay sampling: rlkit against its peers, alternating.

One JSON per finished measurement under `benchmarks/results/speed/<sitting>/`, so that rounds add up over sittings:

    python benchmarks/agents_speed.py run --rounds 5 --cleanrl path/to/cleanrl
    python benchmarks/agents_speed.py acting
    python benchmarks/agents_speed.py sampling
    python benchmarks/agents_speed.py table

Every measurement is a process of its own: one thread, one core, the same one for all. Libraries alternate
(A B C A B C …), and ratios are formed within a round, so that a machine that slows down slows them all down.

Training is timed by the environment itself, for every library alike: from the beginning of env step 1,001 to the
beginning of env step 1,001 + STEPS, which is STEPS times act, step, store and update. Everything before (imports,
1,000 random warm-up steps) and after is left out. Each library logs to TensorBoard at its own cadence (rlkit's is the
densest here); nobody evaluates. CleanRL's script runs with one actor and target update a step, like the others
(`--policy-frequency 1`), and is patched in memory for gymnasium 1.x; see `CLEANRL_PATCHES`.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import os
import platform
import runpy
import secrets
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym

Record: TypeAlias = dict[str, Any]
Round: TypeAlias = dict[str, Record]  # by library

RESULTS = Path(__file__).parent / "results" / "speed"
ENVS = ("Pendulum-v1", "HalfCheetah-v5")
WARM_UP = 1_000  # env steps (or calls) before the clock starts
SETTINGS = {"learning_rate": 1e-3, "gamma": 0.99, "tau": 0.005, "batch_size": 256, "buffer_size": 1_000_000}
NOISE_SIGMA = 0.1
HIDDEN = (256, 256)
OBS_SIZE, ACTION_SIZE, REPLAY_ROWS = 17, 6, 100_000  # of `acting` and `sampling`: HalfCheetah's

CLEANRL_SCRIPT, CLEANRL_BUFFERS = "cleanrl/ddpg_continuous_action.py", "cleanrl_utils/buffers.py"
CLEANRL_PATCHES = (
    # gymnasium 1.x begins the next episode one step later by default; the script expects it in the same step
    ("capture_video, run_name)])", "capture_video, run_name)], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)"),
    # infos of ended episodes are a dict of arrays instead of an array of dicts
    ('in infos["final_info"]:', 'in [{"episode": {k: v[0] for k, v in infos["final_info"]["episode"].items()}}]:'),
    ('infos["final_observation"]', 'infos["final_obs"]'),
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One measurement: `steps` env steps of training, or `steps` calls."""

    work: str
    library: str
    env: str
    steps: int
    seed: int
    core: int
    cleanrl: str | None = None

    @property
    def total_steps(self) -> int:
        """Env steps of a training run; the last one only shows that the update before it has ended."""
        return WARM_UP + self.steps + 1


class StepClock(gym.Wrapper[Any, Any, Any, Any]):
    """Notes when env step `first` and env step `last` begin, counted from 1 over all episodes."""

    marks: dict[int, float] = {}  # noqa: RUF012 - of the process, because the library builds the environment

    def __init__(self, env: gym.Env[Any, Any], first: int, last: int) -> None:
        super().__init__(env)
        self._steps = 0
        self._noted = (first, last)

    @property
    def spec(self) -> Any:
        """The wrapped environment's, so that `gym.make` does not look for this wrapper in it."""
        return self.env.spec

    def step(self, action: Any) -> Any:
        """Count, note the time, step."""
        self._steps += 1
        if self._steps == self._noted[0]:
            StepClock.marks.clear()  # rlkit's restore probe may have stepped another instance this far before training
        if self._steps in self._noted:
            StepClock.marks[self._steps] = time.perf_counter()
        return self.env.step(action)


def register_clocked_env(job: Job) -> str:
    """Id of the job's environment inside a `StepClock`, made by `gym.make` in any library."""
    name = f"Clocked/{job.env}"

    def build(**kwargs: Any) -> gym.Env[Any, Any]:
        return StepClock(gym.make(job.env, **kwargs), WARM_UP + 1, job.total_steps)

    gym.register(name, build, order_enforce=False, disable_env_checker=True)
    return name


def clocked_seconds(job: Job) -> float:
    """Seconds between the two marks."""
    return StepClock.marks[job.total_steps] - StepClock.marks[WARM_UP + 1]


def ddpg_rlkit(job: Job, folder: Path) -> float:
    """Train rlkit's DDPG as `rlkit train` does."""
    import rlkit

    own = {"learning_starts": WARM_UP, "noise": "gaussian", "noise_sigma": NOISE_SIGMA, "hidden": HIDDEN}
    rlkit.train(
        "ddpg", register_clocked_env(job), total_steps=job.total_steps, run_dir=folder / "run", preset="none",
        seed=job.seed, agent_config={**SETTINGS, **own, "update_to_data_ratio": 1.0, "n_step": 1},
        eval_every=0, checkpoint_every=job.total_steps, device="cpu",
    )  # fmt: skip
    return clocked_seconds(job)


def ddpg_sb3(job: Job, folder: Path) -> float:
    """Train stable-baselines3's DDPG."""
    import numpy as np
    from stable_baselines3 import DDPG
    from stable_baselines3.common.noise import NormalActionNoise

    env = gym.make(register_clocked_env(job))
    size = env.action_space.shape
    model = DDPG(
        "MlpPolicy", env, **SETTINGS, learning_starts=WARM_UP, train_freq=1, gradient_steps=1,
        action_noise=NormalActionNoise(np.zeros(size), NOISE_SIGMA * np.ones(size)),
        policy_kwargs={"net_arch": list(HIDDEN)}, tensorboard_log=str(folder), verbose=0, seed=job.seed, device="cpu",
    )  # fmt: skip
    model.learn(job.total_steps)
    return clocked_seconds(job)


def ddpg_cleanrl(job: Job, folder: Path) -> float:
    """Run CleanRL's DDPG script, written to a temporary folder; its networks are 256x256."""
    assert job.cleanrl is not None
    checkout = Path(job.cleanrl)
    files = {
        CLEANRL_SCRIPT: patched(cleanrl_source(checkout, CLEANRL_SCRIPT)),
        CLEANRL_BUFFERS: cleanrl_source(checkout, CLEANRL_BUFFERS),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    # its counter starts from 0 and it learns after `learning_starts`, so this is the first update after step 1,001
    options = {**SETTINGS, "exploration_noise": NOISE_SIGMA, "learning_starts": WARM_UP - 1, "policy_frequency": 1}
    options |= {"env_id": register_clocked_env(job), "total_timesteps": job.total_steps, "seed": job.seed}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    sys.argv = [CLEANRL_SCRIPT, *arguments, "--no-cuda"]
    sys.path.insert(0, str(folder))
    runpy.run_path(str(folder / CLEANRL_SCRIPT), run_name="__main__")
    return clocked_seconds(job)


def cleanrl_source(checkout: Path, name: str) -> str:
    """A file of CleanRL, from a work tree or from HEAD of a bare git directory."""
    if (checkout / name).is_file():
        return (checkout / name).read_text(encoding="utf-8")
    return git(checkout, "show", f"HEAD:{name}")


def git(checkout: Path, *arguments: str) -> str:
    """What git prints about a work tree or a bare git directory."""
    folder = checkout / ".git" if (checkout / ".git").exists() else checkout
    command = ["git", "--git-dir", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def patched(source: str) -> str:
    """CleanRL's script for gymnasium 1.x; every patch must fit exactly once."""
    for old, new in CLEANRL_PATCHES:
        if source.count(old) != 1:
            raise SystemExit(f"CleanRL's {CLEANRL_SCRIPT} has changed: {old!r} stands in it {source.count(old)} times")
        source = source.replace(old, new)
    return source


def seconds_of(call: Callable[[], object], job: Job) -> float:
    """Seconds of the job's calls, after warming up."""
    for _ in range(WARM_UP):
        call()
    start = time.perf_counter()
    for _ in range(job.steps):
        call()
    return time.perf_counter() - start


def acting_rlkit(job: Job, folder: Path) -> float:
    """One observation, array to array, through the numpy view of an actor."""
    import numpy as np
    import torch

    from rlkit.nn.mlp import MLP

    generator = torch.Generator().manual_seed(job.seed)
    actor = MLP(OBS_SIZE, HIDDEN, ACTION_SIZE, output="tanh", generator=generator)
    obs = np.random.default_rng(job.seed).standard_normal((1, OBS_SIZE), dtype=np.float32)
    return seconds_of(lambda: actor.numpy_forward(obs), job)


def acting_torch(job: Job, folder: Path) -> float:
    """The same layers in torch's inference mode, from an array to an array, as an environment needs it."""
    import torch

    actor, obs = torch_actor_and_obs(job)
    array = obs.numpy()
    with torch.inference_mode():
        return seconds_of(lambda: actor(torch.from_numpy(array)).numpy(), job)


def acting_torch_tensors(job: Job, folder: Path) -> float:
    """As `acting_torch`, from a tensor to a tensor: the forward pass alone, which is less than rlkit's work."""
    import torch

    actor, obs = torch_actor_and_obs(job)
    with torch.inference_mode():
        return seconds_of(lambda: actor(obs), job)


def torch_actor_and_obs(job: Job) -> tuple[Any, Any]:
    """An ordinary `nn.Sequential` with rlkit's layers, and one observation [1, 17]."""
    import torch
    from torch import nn

    widths = (OBS_SIZE, *HIDDEN)
    hidden = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
    actor = nn.Sequential(*hidden, nn.Linear(HIDDEN[-1], ACTION_SIZE), nn.Tanh())
    return actor, torch.randn(1, OBS_SIZE, generator=torch.Generator().manual_seed(job.seed))


def replay_rows(job: Job) -> Iterator[tuple[Any, ...]]:
    """`REPLAY_ROWS` random transitions: obs [1, 17], action [1, 6], reward [1], next_obs, terminated."""
    import numpy as np

    rng = np.random.default_rng(job.seed)
    size = 2 * OBS_SIZE + ACTION_SIZE + 1
    for row in rng.standard_normal((REPLAY_ROWS, 1, size), dtype=np.float32):
        obs, action, reward, next_obs = np.split(row, np.cumsum([OBS_SIZE, ACTION_SIZE, 1]), axis=1)
        yield obs, action, reward[:, 0], next_obs, np.array([False])


def replay_spaces() -> tuple[gym.spaces.Box, gym.spaces.Box]:
    """Observation and action space, both float32."""
    return gym.spaces.Box(-float("inf"), float("inf"), (OBS_SIZE,)), gym.spaces.Box(-1.0, 1.0, (ACTION_SIZE,))


def sampling_rlkit(job: Job, folder: Path) -> float:
    """A batch as torch tensors, which is what the peer's buffer returns."""
    import numpy as np
    import torch

    from rlkit.data.replay import ReplayBuffer
    from rlkit.types import Transition

    replay = ReplayBuffer(*replay_spaces(), REPLAY_ROWS)
    for obs, action, reward, next_obs, terminated in replay_rows(job):
        replay.add(Transition(obs, action, reward, next_obs, terminated, np.array([False])))
    rng = np.random.default_rng(job.seed)

    def sample() -> object:
        batch = replay.sample(SETTINGS["batch_size"], rng)
        arrays = (batch.obs, batch.action, batch.next_obs, batch.discount, batch.reward)
        return tuple(torch.from_numpy(array) for array in arrays)

    return seconds_of(sample, job)


def sampling_sb3(job: Job, folder: Path) -> float:
    """A batch of stable-baselines3's replay buffer."""
    from stable_baselines3.common.buffers import ReplayBuffer

    replay = ReplayBuffer(REPLAY_ROWS, *replay_spaces(), device="cpu")
    for obs, action, reward, next_obs, terminated in replay_rows(job):
        replay.add(obs, next_obs, action, reward, terminated, [{}])
    return seconds_of(lambda: replay.sample(SETTINGS["batch_size"]), job)


# By kind of work and library; rlkit is the one that the others are compared with. `ddpg` is measured per environment.
MEASURES: Mapping[str, Mapping[str, Callable[[Job, Path], float]]] = {
    "ddpg": {"rlkit": ddpg_rlkit, "sb3": ddpg_sb3, "cleanrl": ddpg_cleanrl},
    "acting": {"rlkit": acting_rlkit, "torch": acting_torch, "torch-tensors": acting_torch_tensors},
    "sampling": {"rlkit": sampling_rlkit, "sb3": sampling_sb3},
}
DEFAULT_STEPS = {"ddpg": 3_000, "acting": 20_000, "sampling": 20_000}


def measure_here(job: Job) -> None:
    """Measure in this process, which must be fresh, and print one JSON line."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job.core})
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        seconds = MEASURES[job.work][job.library](job, Path(folder))
        os.chdir("/")
    result = {"library": job.library, "env": job.env, "steps": job.steps, "seconds": seconds}
    if job.library == "rlkit":
        linear = sys.modules.get("rlkit.nn.linear")
        result |= {"code": code_fingerprint(), "matmul_backend": linear and linear.matmul_backend()}
    print(json.dumps(result), flush=True)


def code_fingerprint() -> str:
    """Digest of the sources of rlkit that this process has imported: rounds add up only where it is the same."""
    names = [name for name in sys.modules if name.partition(".")[0] == "rlkit"]
    files = sorted({file for name in names if (file := getattr(sys.modules[name], "__file__", None))})
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:12]


def measure(job: Job) -> Record:
    """What a fresh process with one thread measures."""
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    command = [sys.executable, str(Path(__file__).resolve()), "measure", json.dumps(asdict(job))]
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SystemExit(f"{job} failed:\n{done.stderr[-3000:]}")
    record: Record = json.loads(done.stdout.splitlines()[-1])
    return record


@functools.cache
def circumstances() -> Record:
    """Machine, versions and command; rounds of different machines or versions never share a row of the table."""
    versions = {}
    for name in ("torch", "numpy", "gymnasium", "stable-baselines3", "mujoco", "tensorboard"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or platform.machine()
    machine = f"{processor}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}"
    return {"machine": machine, "versions": versions, "threads": 1, "command": shlex.join(["python", *sys.argv])}


def sit(groups: Sequence[Sequence[Job]], rounds: int, results: Path) -> None:
    """One sitting: `rounds` times every group of jobs, the libraries of a group directly after one another."""
    sitting = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    load = os.getloadavg()[0]
    print(f"sitting {sitting}, load average {load:.1f}{': the machine is not quiet' if load > 0.5 else ''}", flush=True)
    for number, group in itertools.product(range(1, rounds + 1), groups):
        for job in (replace(job, seed=number) for job in group):
            planned = {"sitting": sitting, "round": number, "libraries": [other.library for other in group]}
            record = planned | record_of(job)
            name = "-".join(part for part in (f"r{number:02d}", job.work, job.env, job.library) if part)
            write(results / sitting / f"{name}.json", json.dumps(record, indent=1) + "\n")
            print(f"round {number} {label(job.work, job.env)} {job.library}: {shown(record)}", flush=True)


def record_of(job: Job) -> Record:
    """One measurement with its circumstances."""
    record = {"work": job.work, "seed": job.seed, "core": job.core, "load_before": os.getloadavg()[0]}
    record |= measure(job) | circumstances() | {"finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    if job.cleanrl is not None:
        record["cleanrl_commit"] = git(Path(job.cleanrl), "rev-parse", "HEAD").strip()
    return record


def write(target: Path, text: str) -> None:
    """The whole file or none of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.rename(target)


def label(work: str, env: str) -> str:
    """`ddpg Pendulum-v1`, or just `acting`."""
    return f"{work} {env}".strip()


def unit(record: Record) -> str:
    """Training counts env steps per second, calls count microseconds."""
    return "steps/s" if record["env"] else "µs"


def value(record: Record) -> float:
    """The measurement in its unit."""
    seconds_each: float = record["seconds"] / record["steps"]
    return 1 / seconds_each if record["env"] else 1e6 * seconds_each


def shown(record: Record) -> str:
    """`240.1 steps/s`."""
    return f"{value(record):.1f} {unit(record)}"


def complete_rounds(records: Iterable[Record]) -> dict[tuple[str, str], list[Round]]:
    """By work and environment: the rounds in which every library that was planned has been measured, oldest first."""
    rounds: dict[tuple[str, str, str, int], Round] = {}
    for record in records:
        key = (record["work"], record["env"], record["sitting"], record["round"])
        rounds.setdefault(key, {})[record["library"]] = record
    complete: dict[tuple[str, str], list[Round]] = {}
    for (work, env, _, _), found in sorted(rounds.items()):
        if set(found) == set(next(iter(found.values()))["libraries"]):
            complete.setdefault((work, env), []).append(found)
    return complete


def comparable(rounds: list[Round]) -> list[Round]:
    """Those rounds that share steps, machine, versions and rlkit's code with the newest."""

    def conditions(found: Round) -> list[Any]:
        record = next(iter(found.values()))
        code = found["rlkit"]["code"] if "rlkit" in found else None
        return [record["steps"], record["machine"], record["versions"], code]

    newest = max(rounds, key=lambda found: max(record["finished"] for record in found.values()))
    return [found for found in rounds if conditions(found) == conditions(newest)]


def spread(values: Sequence[float], digits: int) -> str:
    """`median [min–max]`."""
    return f"{statistics.median(values):,.{digits}f} [{min(values):,.{digits}f}–{max(values):,.{digits}f}]"


def table(records: Iterable[Record]) -> str:
    """Markdown: a row per work and library; the ratio is the median of the ratios of each round."""
    lines = ["| work | library | median [min–max] | rlkit / library, per round | rounds |", "|---|---|---|---|---|"]
    notes = ["steps/s: more is better, and so is a ratio above 1; µs: less is better, and so is a ratio below 1.", ""]
    for (work, env), rounds in complete_rounds(records).items():
        kept = comparable(rounds)
        for library in (name for name in MEASURES[work] if any(name in found for found in kept)):
            own = [found for found in kept if library in found]
            values = spread([value(found[library]) for found in own], 1)
            ratios = [value(found["rlkit"]) / value(found[library]) for found in own if "rlkit" in found]
            ratio = spread(ratios, 2) if ratios and library != "rlkit" else "–"
            cells = (label(work, env), library, f"{values} {unit(own[0][library])}", ratio, str(len(own)))
            lines.append(f"| {' | '.join(cells)} |")
        notes.append(f"- {label(work, env)}: {note(kept, len(rounds) - len(kept))}")
    return "\n".join([*lines, "", *notes]) + "\n"


def note(rounds: list[Round], left_out: int) -> str:
    """Under which conditions the rounds of a row were measured, and how many others there are."""
    records = [next(iter(found.values())) for found in rounds]
    parts = [
        f"{records[0]['steps']:,} steps or calls timed",
        "sittings " + ", ".join(dict.fromkeys(record["sitting"] for record in records)),
        records[0]["machine"],
        ", ".join(f"{name} {number}" for name, number in records[0]["versions"].items()),
    ]
    backends = {found["rlkit"]["matmul_backend"] for found in rounds if "rlkit" in found} - {None}
    if backends:
        parts.append(f"rlkit's matrix products by {' and '.join(sorted(backends))}")
    if left_out:
        parts.append(f"{left_out} complete rounds with other steps, machine, versions or code of rlkit left out")
    return "; ".join(parts)


def jobs_of(arguments: argparse.Namespace) -> list[list[Job]]:
    """Groups of jobs that alternate: one group per environment."""
    work = "ddpg" if arguments.command == "run" else arguments.command
    libraries = [name for name in MEASURES[work] if name in arguments.libraries]
    checkout = None if arguments.cleanrl is None else str(arguments.cleanrl.resolve())
    if "cleanrl" in libraries and checkout is None:
        print("CleanRL is left out: give --cleanrl DIR, a checkout of github.com/vwxyzjn/cleanrl", flush=True)
        libraries.remove("cleanrl")
    core = arguments.core
    if core is None:
        core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    steps = arguments.steps or DEFAULT_STEPS[work]
    return [
        [Job(work, name, env, steps, 0, core, checkout if name == "cleanrl" else None) for name in libraries]
        for env in arguments.envs
    ]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = result.add_subparsers(dest="command", required=True)
    for command, work, told in (
        ("run", "ddpg", "env steps per second of whole training runs"),
        ("acting", "acting", "acting on one observation, 256x256"),
        ("sampling", "sampling", "256 rows from a replay of 100,000 rows"),
    ):
        one = commands.add_parser(command, help=told)
        one.add_argument("--rounds", type=int, default=5)
        one.add_argument("--steps", type=int, help=f"timed steps or calls of a measurement ({DEFAULT_STEPS[work]})")
        one.add_argument("--libraries", nargs="+", choices=list(MEASURES[work]), default=list(MEASURES[work]))
        one.add_argument("--core", type=int, help="CPU core that every measurement is pinned to (the last one)")
        one.add_argument("--results", type=Path, default=RESULTS)
        one.set_defaults(envs=[""], cleanrl=None)
        if command == "run":
            one.add_argument("--envs", nargs="+", choices=ENVS, default=list(ENVS))
            one.add_argument("--cleanrl", type=Path, help="work tree or bare git directory of vwxyzjn/cleanrl")
    summary = commands.add_parser("table", help="print the table and write it to table.md")
    summary.add_argument("--results", type=Path, default=RESULTS)
    summary.add_argument("--sitting", nargs="+", help="only these sittings")
    commands.add_parser("measure", help="internal: one measurement in this process").add_argument("job")
    return result


def main() -> None:
    """Do what the command line says."""
    arguments = parser().parse_args()
    if arguments.command == "measure":
        measure_here(Job(**json.loads(arguments.job)))
    elif arguments.command == "table":
        records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(arguments.results.glob("*/r*.json"))]
        wanted = arguments.sitting
        text = table(record for record in records if wanted is None or record["sitting"] in wanted)
        write(arguments.results / "table.md", text)
        print(text, end="")
    else:
        sit(jobs_of(arguments), arguments.rounds, arguments.results)


if __name__ == "__main__":
    main()
