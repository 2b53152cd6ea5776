"""Speed of whole training runs, of acting and of replay sampling: rlkit against its peers, alternating.

One JSON per finished measurement under `benchmarks/results/speed/<sitting>/`, so that rounds add up over sittings:

    python benchmarks/agents_speed.py run --rounds 5 --cleanrl path/to/cleanrl --sbx path/to/python
    python benchmarks/agents_speed.py acting
    python benchmarks/agents_speed.py sampling
    python benchmarks/agents_speed.py table

Every measurement is a process of its own: one thread, one core, the same one for all. Libraries alternate
(A B C A B C …), and ratios are formed within a round, so that a machine that slows down slows them all down.

Training is timed by the environment itself, for every library alike: from the beginning of env step 1,001 (DQN: 2,001)
to the beginning of env step 1,001 + STEPS, which is STEPS times act, step, store and update. Everything before
(imports, random warm-up steps, compiling) and after is left out. Each library logs to TensorBoard at its own cadence
(rlkit's is the densest here); nobody evaluates. CleanRL's DDPG runs with one actor and target update a step, like the
others (`--policy-frequency 1`); its scripts are patched in memory for gymnasium 1.x, see `speed_measures/cleanrl.py`.
sbx, tianshou, skrl and TorchRL have interpreters of their own: `--sbx`, `--tianshou`, `--skrl`, `--torchrl`.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import itertools
import json
import os
import platform
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

from speed_measures import calls, dqn, off_policy, ppo
from speed_measures.cleanrl import git
from speed_measures.job import Job
from speed_table import Record, label, shown, table

RESULTS = Path(__file__).parent / "results" / "speed"
ENVS = {
    "ddpg": ("Pendulum-v1", "HalfCheetah-v5"),
    "td3": ("HalfCheetah-v5",),
    "sac": ("HalfCheetah-v5",),
    "dqn": ("CartPole-v1",),
    "ppo": ("CartPole-v1",),
}

Measure: TypeAlias = Callable[[Job, Path], float]
# Packages of the peers that have an interpreter of their own; their versions stand in the records.
PEER_PACKAGES = {
    "sbx": ("sbx-rl", "jax", "jaxlib", "flax"),
    "tianshou": ("tianshou", "torch"),
    "skrl": ("skrl", "torch"),
    "torchrl": ("torchrl", "tensordict", "torch"),
}


def by_module_of(library: str) -> Measure:
    """Training by the library's own module, which imports on top what only the peer's interpreter has."""

    def measure(job: Job, folder: Path) -> float:
        train: Measure = importlib.import_module(f"speed_measures.{library}").train
        return train(job, folder)

    return measure


OFF_POLICY = {
    "rlkit": off_policy.by_rlkit,
    "sb3": off_policy.by_sb3,
    "sbx": off_policy.by_sbx,
    **{name: by_module_of(name) for name in ("tianshou", "skrl", "torchrl")},
}
# By kind of work and library; rlkit is the one that the others are compared with. Training is measured per environment.
MEASURES: Mapping[str, Mapping[str, Measure]] = {
    "ddpg": {**OFF_POLICY, "cleanrl": off_policy.ddpg_cleanrl},
    "td3": OFF_POLICY,
    "sac": OFF_POLICY,
    "dqn": {"rlkit": dqn.dqn_rlkit, "sb3": dqn.dqn_sb3, "cleanrl": dqn.dqn_cleanrl, "sbx": dqn.dqn_sbx},
    "ppo": {
        "rlkit": ppo.ppo_rlkit,
        "rlkit-compiled-envs": ppo.ppo_rlkit_compiled,
        "sb3": ppo.ppo_sb3,
        "cleanrl": ppo.ppo_cleanrl,
        "sbx": ppo.ppo_sbx,
    },
    "acting": {"rlkit": calls.acting_rlkit, "torch": calls.acting_torch, "torch-tensors": calls.acting_torch_tensors},
    "sampling": {"rlkit": calls.sampling_rlkit, "sb3": calls.sampling_sb3},
}
DEFAULT_STEPS = {
    "ddpg": 3_000,
    "td3": 3_000,
    "sac": 3_000,
    "dqn": 20_000,
    "ppo": 100_000,
    "acting": 20_000,
    "sampling": 20_000,
}
GIVEN_BY_USER = {
    "cleanrl": "CleanRL is left out: give --cleanrl DIR, a checkout of github.com/vwxyzjn/cleanrl",
    **{
        name: f"{name} is left out: give --{name} PYTHON, an interpreter that has it (benchmarks/README.md says how)"
        for name in PEER_PACKAGES
    },
}


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
        from rlkit.assembly import current_blas_kernels

        result |= {"blas_kernels": current_blas_kernels()}
    if job.library in PEER_PACKAGES:
        result["peer_versions"] = peer_versions(job.library)
    print(json.dumps(result), flush=True)


def peer_versions(library: str) -> dict[str, str]:
    """Versions that only the peer's interpreter knows; its torch need not be rlkit's, so it is told apart."""
    return {f"{library}'s torch" if name == "torch" else name: version(name) for name in PEER_PACKAGES[library]}


def code_fingerprint() -> str:
    """Digest of the sources of rlkit that this process has imported: rounds add up only where it is the same."""
    names = [name for name in sys.modules if name.partition(".")[0] == "rlkit"]
    files = sorted({file for name in names if (file := getattr(sys.modules[name], "__file__", None))})
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:12]


def measure(job: Job) -> Record:
    """What a fresh process with one thread measures."""
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    command = [job.python or sys.executable, str(Path(__file__).resolve()), "measure", json.dumps(asdict(job))]
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


def jobs_of(arguments: argparse.Namespace) -> list[list[Job]]:
    """Groups of jobs that alternate: one group per kind of work and environment."""
    if arguments.command != "run":
        return [job_group(arguments.command, "", arguments)]
    pairs = [(agent, env) for agent in arguments.agents for env in ENVS[agent] if env in arguments.envs]
    return [job_group(agent, env, arguments) for agent, env in pairs]


def job_group(work: str, env: str, arguments: argparse.Namespace) -> list[Job]:
    """One job for each library that is wanted and there."""
    core = arguments.core
    if core is None:
        core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    # an interpreter of a virtual environment is a link, which must not be resolved
    paths = {name: path and path.absolute() for name, path in vars(arguments).items() if name in GIVEN_BY_USER}
    template = Job(work, "", env, arguments.steps or DEFAULT_STEPS[work], 0, core)
    return [replace(template, **given) for given in libraries_of(work, arguments.libraries, paths)]


def libraries_of(work: str, wanted: Sequence[str], paths: Mapping[str, Path | None]) -> Iterator[dict[str, str]]:
    """Fields of a job for each wanted library; tells which are left out."""
    for name in (name for name in MEASURES[work] if name in wanted):
        if name not in GIVEN_BY_USER:
            yield {"library": name}
        elif paths[name] is None:
            print(GIVEN_BY_USER[name], flush=True)
        else:
            yield {"library": name, "python" if name in PEER_PACKAGES else "cleanrl": str(paths[name])}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = result.add_subparsers(dest="command", required=True)
    run = add_measuring(commands, "run", "env steps per second of whole training runs", tuple(ENVS))
    run.add_argument("--agents", nargs="+", choices=list(ENVS), default=list(ENVS))
    envs = list(itertools.chain.from_iterable(ENVS.values()))
    run.add_argument("--envs", nargs="+", choices=envs, default=envs, help="of the environments of --agents")
    run.add_argument("--cleanrl", type=Path, help="work tree or bare git directory of vwxyzjn/cleanrl")
    for name in PEER_PACKAGES:
        run.add_argument(f"--{name}", type=Path, metavar="PYTHON", help=f"interpreter that has {name}")
    add_measuring(commands, "acting", "acting on one observation, 256x256", ("acting",))
    add_measuring(commands, "sampling", "256 rows from a replay of 100,000 rows", ("sampling",))
    summary = commands.add_parser("table", help="print the table and write it to table.md")
    summary.add_argument("--results", type=Path, default=RESULTS)
    summary.add_argument("--sitting", nargs="+", help="only these sittings")
    commands.add_parser("measure", help="internal: one measurement in this process").add_argument("job")
    return result


def add_measuring(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, told: str, works: Sequence[str]
) -> argparse.ArgumentParser:
    """A command that measures, with the options that all of them have."""
    steps = ", ".join(str(DEFAULT_STEPS[work]) for work in works)
    libraries = list(dict.fromkeys(library for work in works for library in MEASURES[work]))
    one = commands.add_parser(name, help=told)
    one.add_argument("--rounds", type=int, default=5)
    one.add_argument("--steps", type=int, help=f"timed steps or calls of a measurement ({steps})")
    one.add_argument("--libraries", nargs="+", choices=libraries, default=libraries)
    one.add_argument("--core", type=int, help="CPU core that every measurement is pinned to (the last one)")
    one.add_argument("--results", type=Path, default=RESULTS)
    one.set_defaults(**dict.fromkeys(GIVEN_BY_USER))
    return one


def main() -> None:
    """Do what the command line says."""
    arguments = parser().parse_args()
    if arguments.command == "measure":
        measure_here(Job(**json.loads(arguments.job)))
    elif arguments.command == "table":
        records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(arguments.results.glob("*/r*.json"))]
        wanted = arguments.sitting
        text = table((record for record in records if wanted is None or record["sitting"] in wanted), MEASURES)
        write(arguments.results / "table.md", text)
        print(text, end="")
    else:
        sit(jobs_of(arguments), arguments.rounds, arguments.results)


if __name__ == "__main__":
    main()
