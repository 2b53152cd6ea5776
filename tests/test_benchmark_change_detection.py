"""The change detection benchmark: its rules, its evaluation in pairs, and its table from results by hand."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import source_tree

from rlkit import registry
from rlkit.ops.change_detection import alarm_times, cusum


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    folder = str(source_tree.ROOT / "benchmarks")
    sys.path.insert(0, folder)
    module = importlib.import_module("change_detection")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    yield module
    sys.path.remove(folder)


def test_the_environment_has_the_laws_and_costs_that_the_rules_know(benchmark: ModuleType) -> None:
    from rlkit.envs.make import make_single

    env = make_single(benchmark.ENV).unwrapped
    told = (env.hazard, env.laws, env.costs.false_alarm, env.costs.delay)  # type: ignore[attr-defined]
    known = (benchmark.HAZARD, (0.0, benchmark.SHIFT), benchmark.FALSE_ALARM_COST, benchmark.DELAY_COST)
    assert told == known


def test_the_cusum_rule_stops_where_the_statistic_does(benchmark: ModuleType) -> None:
    samples = np.random.default_rng(0).normal(0.5, 1.0, (4, 40))
    rule, memory, alarms = benchmark.cusum_rule(3.0), np.zeros(4), []
    for t in range(40):
        actions, memory = rule(samples[:, t : t + 1], memory)
        alarms.append(actions)
    found = alarm_times(np.stack(alarms, axis=1), 1)
    assert found.tolist() == alarm_times(cusum(samples - 0.5), 3.0).tolist()
    assert len(set(found.tolist())) > 1


def test_episodes_are_the_same_for_every_rule(benchmark: ModuleType) -> None:
    def stop_at_once(obs: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(len(obs), np.int64), memory

    def wait_once(obs: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (memory > 0).astype(np.int64), memory + 1

    first, second = (benchmark.evaluated(rule, "sample", (), 5, 300) for rule in (stop_at_once, wait_once))
    changed = first["false_alarm"] == 0  # at the first sample
    assert 0 < changed.sum() < 40
    np.testing.assert_array_equal(first["cost"], np.where(changed, 0.0, 1.0))
    np.testing.assert_array_equal(second["cost"][changed], benchmark.DELAY_COST)
    again = benchmark.evaluated(wait_once, "posterior", ("discretize:bins=4",), 5, 300)
    np.testing.assert_array_equal(again["cost"], second["cost"])
    found = benchmark.scores(second, first)
    assert found["excess"] == pytest.approx((second["cost"] - first["cost"]).mean() / found["optimal_cost"])


def test_the_table_holds_the_worst_seed_to_the_gate(benchmark: ModuleType) -> None:
    for method, excesses in (("ppo", (0.01, 0.06)), ("monte-carlo", (0.02, 0.04))):
        for seed, excess in enumerate(excesses):
            record = {
                "method": method, "excess": excess, "cost": 0.34, "false_alarms": 0.2, "mean_delay": 3.0,
                "optimal_cost": 0.3292, "total_steps": 1000,
            }  # fmt: skip
            benchmark.target_of(method, seed).write_text(json.dumps(record))
    lines = benchmark.table().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[4:]]
    assert lines[0].endswith("0.3292.")
    assert rows == [
        ["monte-carlo", "2", "1,000", "0.3400", "+3.00% [+2.00%, +4.00%]", "0.200", "3.00", "yes"],
        ["ppo", "2", "1,000", "0.3400", "+3.50% [+1.00%, +6.00%]", "0.200", "3.00", "no"],
    ]


def test_every_setting_is_of_its_agent(benchmark: ModuleType) -> None:
    for training in benchmark.AGENTS.values():
        registry.agent_class(training.agent).Config(**training.settings)


def test_the_committed_results_pass_the_gate() -> None:
    folder = source_tree.ROOT / "benchmarks" / "results" / "change_detection"
    records = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    trained = [record for record in records if "total_steps" in record]
    assert {(record["method"], record["seed"]) for record in trained} >= {
        (method, seed) for method in ("monte-carlo", "linear-sarsa-lambda", "ppo") for seed in range(3)
    }
    assert all(record["excess"] + 2 * record["excess_error"] <= 0.05 for record in trained)
    assert all(record["episodes"] >= 20_000 for record in records)
