"""Env steps per second of DDPG, TD3, SAC and PPO on an NVIDIA GPU, counted as LeanRL counts them, beside LeanRL.

    python benchmarks/gpu_speed.py                                             # about three minutes
    python benchmarks/gpu_speed.py --leanrl leanrl --leanrl-python venv/bin/python      # about nine
    python benchmarks/gpu_speed.py table

Needs the extra mujoco (or `--env Pendulum-v1`, which is no comparison). Networks are on the GPU, the one environment on
the CPU, as in LeanRL's README (github.com/pytorch-labs/LeanRL). Its scripts start their clock three iterations after
learning starts, for TD3 and SAC iterations are env steps, and with the third rollout for PPO; they divide the env steps
since then by the seconds since then, logging included. So does this script, with a clock around the environment: env
steps from the one that begins then to the last that has begun, for PPO whole rollouts with their updates. Settings are
those of LeanRL's scripts (see `SETTINGS`); it has no DDPG. Differences that remain: rlkit's SAC updates its actor once
an env step (LeanRL's twice every second one, and draws once more for the temperature) with one step size for both
networks; rlkit keeps its replay in the CPU's memory; LeanRL's PPO also clips normalised observations and rewards.

LeanRL's scripts run unchanged in an interpreter that has their packages (gymnasium below 1.0, tensordict, torchrl,
wandb, tqdm, tyro), wandb switched off, and are stopped when they have shown their speed for `--seconds`; theirs is
the last one shown. rlkit has neither CUDA graphs nor torch.compile: of rlkit only eager training is measured, on the
GPU and, because small networks often train faster there, on one thread of the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch

import rlkit

RESULTS = Path(__file__).parent / "results" / "gpu_speed"
ENV = "HalfCheetah-v5"  # LeanRL's scripts have v4, which differs in rewards alone
PUBLISHED = {
    "ppo": {"eager": 683, "compile + CUDA graphs": 1774},
    "sac": {"eager": 130, "compile + CUDA graphs": 725},
    "td3": {"eager": 247, "compile + CUDA graphs": 936},
}
"""LeanRL's README, on an H100."""
LEANRL_MODES = {"eager": [], "compile + CUDA graphs": ["--compile", "--cudagraphs"]}
LEANRL_PACKAGES = ("gymnasium", "mujoco", "tensordict", "torchrl", "tqdm", "tyro", "wandb")
LEANRL_PATIENCE = 180.0  # seconds until the first speed: compiling, and TD3's 25,000 random steps
BURN_IN = 3  # LeanRL's measure_burnin
LEARNING_STARTS = 5_000  # LeanRL: SAC 5,000, TD3 25,000, not in the measurement
ROLLOUT = 2_048
_OFF_POLICY = {
    "hidden": (256, 256), "batch_size": 256, "buffer_size": 1_000_000, "gamma": 0.99, "tau": 0.005,
    "learning_rate": 3e-4, "learning_starts": LEARNING_STARTS,
}  # fmt: skip
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "ddpg": {**_OFF_POLICY, "noise_sigma": 0.1},
    "td3": {**_OFF_POLICY, "noise_sigma": 0.1, "policy_delay": 2, "target_noise": 0.2, "target_noise_clip": 0.5},
    "sac": _OFF_POLICY,
    "ppo": {
        "hidden": (64, 64), "n_steps": ROLLOUT, "batch_size": 64, "epochs": 10, "gamma": 0.99, "gae_lambda": 0.95,
        "learning_rate": 3e-4, "learning_rate_schedule": "linear", "clip_range": 0.2, "value_clip_range": 0.2,
        "entropy_coefficient": 0.0, "value_coefficient": 0.5, "max_grad_norm": 0.5,
    },
}  # fmt: skip
WRAPPERS = {"ppo": ("normalize-observation", "normalize-reward")}
Record: TypeAlias = dict[str, Any]


class Clocked(gym.Wrapper[Any, Any, Any, Any]):
    """Notes when each env step begins."""

    begun: list[list[float]] = []  # noqa: RUF012 - of the process: rlkit builds further ones to probe their restoring

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        times: list[float] = []
        self._note = times.append
        Clocked.begun.append(times)

    def step(self, action: Any) -> Any:
        """Note the time, step."""
        self._note(time.perf_counter())
        return self.env.step(action)


def measure_rlkit(agent: str, env_id: str, device: str, seconds: float) -> Record:
    """Train for so many seconds in all, warm-up included."""
    Clocked.begun.clear()

    def clocked_env() -> gym.Env[Any, Any]:
        return Clocked(gym.make(env_id))

    with tempfile.TemporaryDirectory() as folder:
        rlkit.train(
            agent, clocked_env, total_steps=1_000_000, run_dir=Path(folder) / "run",
            preset="none", agent_config=SETTINGS[agent], wrap=WRAPPERS.get(agent, ()), device=device, eval_every=0,
            checkpoint_every=1_000_000, max_seconds=seconds,
        )  # fmt: skip
    begun = max(Clocked.begun, key=len)  # of the environment that was trained in
    cycle = ROLLOUT if agent == "ppo" else 1
    first = (BURN_IN - 1) * ROLLOUT if agent == "ppo" else LEARNING_STARTS + BURN_IN
    return {"library": "rlkit", "mode": f"eager, {device}", **speed(begun[first::cycle], cycle)}


def speed(begun: Sequence[float], cycle: int) -> Record:
    """Env steps per second between the first and the last of these times, which lie `cycle` env steps apart.

    Raises:
        SystemExit: there are fewer than two.
    """
    if len(begun) < 2:
        raise SystemExit("gpu_speed.py: not one whole cycle was measured; raise --seconds")
    steps, seconds = cycle * (len(begun) - 1), begun[-1] - begun[0]
    return {"steps": steps, "seconds": round(seconds, 3), "steps_per_second": round(steps / seconds, 1)}


def measure_leanrl(agent: str, mode: str, checkout: Path, python: str, seconds: float) -> Record:
    """The last speed that LeanRL's script shows, so many seconds after the first one."""
    script = checkout / "leanrl" / f"{agent}_continuous_action_torchcompile.py"
    command = [python, str(script.resolve()), "--seed", "1", *LEANRL_MODES[mode]]
    with tempfile.TemporaryDirectory() as folder:
        shown = Path(folder) / "shown.txt"
        with shown.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=folder, stdout=out, stderr=out, env=os.environ | {"WANDB_MODE": "disabled"}
            )
            try:
                wait_for_speed(process, shown, seconds)
            finally:
                process.kill()
                process.wait()
        text = shown.read_text(errors="replace")
    found = speeds(text)
    problem = {} if found else {"problem": (text.strip().splitlines() or ["it said nothing"])[-1][-200:]}
    return {"library": "LeanRL", "mode": f"{mode}, cuda", "steps_per_second": found[-1] if found else None, **problem}


def wait_for_speed(process: subprocess.Popen[bytes], shown: Path, seconds: float) -> None:
    """Until a speed has been shown for so many seconds, the process has ended, or nothing came for too long."""
    began, first = time.monotonic(), None
    while process.poll() is None:
        now = time.monotonic()
        if first is None and speeds(shown.read_text(errors="replace")):
            first = now
        if now > (began + LEANRL_PATIENCE if first is None else first + seconds):
            return
        time.sleep(0.5)


def speeds(text: str) -> list[float]:
    """Every speed in what LeanRL's progress bar has written.

    >>> speeds("speed:  1774.5 sps, reward avg: 1.0 | 725.2500 sps, ")
    [1774.5, 725.25]
    """
    return [float(number) for number in re.findall(r"(\d+\.\d+) sps", text)]


def leanrl_problem(checkout: Path | None, python: str) -> str | None:
    """Why LeanRL cannot be measured; None if it can."""
    if checkout is None:
        return "give --leanrl DIR, a checkout of github.com/pytorch-labs/LeanRL"
    if not (checkout / "leanrl").is_dir():
        return f"{checkout} has no folder leanrl"
    code = f"import importlib.util as u; print(*[n for n in {LEANRL_PACKAGES} if u.find_spec(n) is None])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{python} does not run: {done.stderr.strip()[-200:]}"
    missing = done.stdout.split()
    return f"{python} lacks {', '.join(missing)} (see LeanRL's requirements)" if missing else None


def measurements(options: argparse.Namespace) -> Iterator[Record]:
    """One after the other; LeanRL directly after rlkit's of the same agent."""
    problem = leanrl_problem(options.leanrl, options.leanrl_python)
    print("rlkit has no CUDA graphs and no torch.compile: eager is all there is to measure", flush=True)
    if problem:
        print(f"LeanRL is left out: {problem}", flush=True)
    for agent in options.agents:
        for device in options.devices:
            yield {"agent": agent, "env": options.env, **measure_rlkit(agent, options.env, device, options.seconds)}
        for mode in LEANRL_MODES if agent in PUBLISHED and not problem else ():
            found = measure_leanrl(agent, mode, options.leanrl, options.leanrl_python, options.seconds)
            yield {"agent": agent, "env": "HalfCheetah-v4", **found}


def circumstances() -> Record:
    """Machine, GPU, versions and command."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda,
            "numpy": np.__version__, "gymnasium": gym.__version__, "rlkit": rlkit.__version__,
        },
        "code": commit.stdout.strip(),
        "command": shlex.join(["python", *sys.argv]),
        "finished": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def write(record: Record, results: Path) -> None:
    """One file for each agent, library and mode; the newest stays."""
    results.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", f"{record['agent']} {record['library']} {record['mode']}".lower())
    (results / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def table(results: Path) -> str:
    """All results as Markdown, with LeanRL's published figures."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    lines = [
        "| agent | library | mode | steps/s | × LeanRL's published best (H100) | GPU |",
        "|---|---|---|---|---|---|",
    ]
    for agent in SETTINGS:
        best = max(PUBLISHED.get(agent, {"": 0}).values())
        for record in (record for record in records if record["agent"] == agent):
            found, gpu = record["steps_per_second"], record["gpu"] or "none"
            value = "-" if found is None else f"{found:,.0f}"
            ratio = f"{found / best:.2f}" if best and found else "-"
            lines.append(f"| {agent} | {record['library']} | {record['mode']} | {value} | {ratio} | {gpu} |")
        for mode, value in PUBLISHED.get(agent, {}).items():
            lines.append(f"| {agent} | LeanRL, published | {mode}, cuda | {value:,} | {value / best:.2f} | H100 |")
    return "\n".join(lines)


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["run", "table"], default="run")
    parser.add_argument("--agents", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--devices", nargs="+", choices=["cuda", "cpu"], default=["cuda", "cpu"])
    parser.add_argument("--env", default=ENV)
    parser.add_argument("--seconds", type=float, default=20.0, help="of one measurement")
    parser.add_argument("--leanrl", type=Path, help="checkout of github.com/pytorch-labs/LeanRL")
    parser.add_argument("--leanrl-python", default=sys.executable, help="interpreter that has LeanRL's packages")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def main() -> int:
    """Measure, and print the table."""
    options = parsed()
    if options.command == "run":
        if not torch.cuda.is_available():
            print("gpu_speed.py measures on an NVIDIA GPU, and torch sees no CUDA device here", file=sys.stderr)
            return 1
        for record in measurements(options):
            write(record | circumstances(), options.results)
            told = record["steps_per_second"] or record["problem"]
            print(f"{record['agent']} {record['library']} {record['mode']}: {told} steps/s", flush=True)
    options.results.mkdir(parents=True, exist_ok=True)
    text = table(options.results)
    (options.results / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
