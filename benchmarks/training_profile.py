"""Where the time of an off-policy training run goes: microseconds per env step, part by part.

    python benchmarks/training_profile.py run
    python benchmarks/training_profile.py table

One thread, HalfCheetah-v5, the settings of `agents_speed.py`. A clock stands around the functions of `PARTS`; what a
part calls is counted in the called part, not twice. The clocks themselves cost about 1 µs for each call.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

from speed_measures.off_policy import HIDDEN, LEARNING_RATE, OWN, SETTINGS
from steps_a_second import circumstances, write

RESULTS = Path(__file__).parent / "results" / "training_profile"
ENV, WARM_UP, STEPS = "HalfCheetah-v5", 1_000, 3_000
BETWEEN = "everything between"
# Part of the table -> what is timed, as module and name; an earlier part's calls may lie within a later one's.
PARTS = {
    "forward passes": (("rlkit.nn.mlp", "_activations"),),
    "backward passes": (("rlkit.nn.mlp", "_backward"),),
    "Adam": (("rlkit.nn.optim", "Adam.step"),),
    "target networks": (("rlkit.nn.ensemble", "Ensemble.polyak_"), ("rlkit.nn.mlp", "MLP.polyak_")),
    "noise for target actions": (("rlkit.agents.off_policy", "OffPolicyAgent.normal_noise"),),
    "sampling the replay": (("rlkit.data.replay", "ReplayBuffer.sample"),),
    "rest of the update": (("rlkit.agents.off_policy", "OffPolicyAgent.update"),),
    "acting": (("rlkit.agents.sequence_control", "SequenceControl.act"),),
    "storing": (("rlkit.agents.off_policy", "OffPolicyAgent.observe"),),
    "the environment": (("rlkit.finite", "FiniteOnly.step"),),
    "counting, logging, checkpoints": (("rlkit.loop", "Session.advance"),),
}


class Clock:
    """Seconds and calls of each part, without what the parts that it calls take."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._running = [BETWEEN]
        self._since = time.perf_counter()

    def _hand_over(self) -> None:
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def around(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The function, timed as `part`."""

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            self._hand_over()
            self._running.append(part)
            try:
                return function(*arguments, **options)
            finally:
                self._hand_over()
                self.calls[self._running.pop()] += 1

        return timed


def running_clock() -> Clock:
    """A clock around all parts, which starts anew after a run's warm-up."""
    from rlkit.agents.off_policy import OffPolicyAgent

    clock = Clock()
    for part, names in PARTS.items():
        for module, name in names:
            *owners, attribute = name.split(".")
            owner = functools.reduce(getattr, owners, importlib.import_module(module))
            setattr(owner, attribute, clock.around(getattr(owner, attribute), part))
    observe = OffPolicyAgent.observe

    def begin_after_the_warm_up(self: Any, *arguments: Any) -> None:
        observe(self, *arguments)
        if self._env_steps == WARM_UP:
            clock.seconds.clear()
            clock.calls.clear()

    OffPolicyAgent.observe = begin_after_the_warm_up  # type: ignore[method-assign]
    return clock


def profile(agent: str, clock: Clock) -> dict[str, Any]:
    """Microseconds per env step of each part, of one run after its warm-up."""
    import rlkit
    from rlkit.nn.linear import matmul_backend

    matmul_backend()  # the probe is not part of the steps
    own = {"hidden": HIDDEN, "learning_starts": WARM_UP, **OWN[agent]}
    with tempfile.TemporaryDirectory() as folder:
        rlkit.train(
            agent, ENV, total_steps=WARM_UP + STEPS, run_dir=Path(folder) / "run", preset="none", seed=0, eval_every=0,
            agent_config={**SETTINGS, "learning_rate": LEARNING_RATE[agent], **own}, device="cpu",
            checkpoint_every=WARM_UP + STEPS,
        )  # fmt: skip
    return {
        "agent": agent, "env": ENV, "steps": STEPS, "matmul_backend": matmul_backend(),
        "microseconds": {part: clock.seconds[part] / STEPS * 1e6 for part in (*PARTS, BETWEEN)},
        "calls": {part: clock.calls[part] / STEPS for part in PARTS}, **circumstances(),
    }  # fmt: skip


def table() -> str:
    """A row for each part, a column for each agent."""
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    rows = [f"| µs per env step | {' | '.join(record['agent'] for record in records)} |"]
    rows.append("|---|" + "---|" * len(records))
    for part in (*PARTS, BETWEEN):
        cells = []
        for record in records:
            spent, calls = record["microseconds"][part], record["calls"].get(part, 0)
            share = spent / sum(record["microseconds"].values())
            cells.append(f"{spent:.0f} ({share:.0%}" + (f", {calls:.1f} calls)" if calls > 1.05 else ")"))
        rows.append(f"| {part} | {' | '.join(cells)} |")
    sums = [f"{sum(record['microseconds'].values()):.0f}" for record in records]
    rows.append(f"| **sum** | {' | '.join(sums)} |")
    notes = {f"{r['machine']}, {r['matmul_backend']}, code {r['code']}, {r['finished']}, {ENV}" for r in records}
    return "\n".join([*rows, "", *sorted(notes)])


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("--agents", nargs="+", choices=sorted(OWN), default=sorted(OWN))
    commands.add_parser("table")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if options.command == "run":
        clock = running_clock()
        for agent in options.agents:
            write(RESULTS / f"{agent}.json", profile(agent, clock))
    (RESULTS / "table.md").write_text(table() + "\n")
    print(table())


if __name__ == "__main__":
    main()
