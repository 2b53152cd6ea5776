"""The compiled engine and the loop are one and the same, bit by bit, for every linear agent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlkit
from rlkit import registry
from rlkit.codec import copy_tree
from rlkit.linear.options import FeatureConfig
from rlkit.tabular.engine import CompiledLoop

LINEAR = [
    name for name in registry.AGENTS if issubclass(registry.config_class(registry.agent_class(name)), FeatureConfig)
]
QUICK = ("linear-sarsa", "linear-td")
"""Each agent compiles for a quarter of a minute: two at once, the others among the slow tests."""
FEW = {"features": "fourier", "order": 3}
SMALL: dict[str, dict[str, Any]] = {"lstd": FEW, "lspi": {**FEW, "improve_every": 500, "max_iterations": 5}}


def trained(name: str, env: str, engine: str, folder: Path, steps: int = 1_500, **agent_config: Any) -> Any:
    return rlkit.train(
        name, env, total_steps=steps, run_dir=folder / engine, seed=3, eval_every=0, preset="none",
        wrap=("time-limit:max_episode_steps=300",),
        agent_config={"engine": engine, **SMALL.get(name, {}), **agent_config},
    )  # fmt: skip


def arrays(tree: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in tree.items() if isinstance(value, np.ndarray)}


def assert_same(first: Any, second: Any) -> None:
    assert arrays(first.policy_state()) == arrays(second.policy_state())
    memory = [arrays(each.training_state()["memory"]) for each in (first, second)]
    assert memory[0] == memory[1]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in LINEAR]
)
def test_both_engines_give_the_same_bits_on_the_mountain_car(name: str, tmp_path: Path) -> None:
    """On tables tests/tabular/test_tabular_engine.py compares them."""
    compiled, stepped = (trained(name, "rlkit/MountainCar-v0", engine, tmp_path) for engine in ("compiled", "step"))
    assert isinstance(compiled.agent, CompiledLoop)
    assert not isinstance(stepped.agent, CompiledLoop)
    assert_same(compiled.agent, stepped.agent)
    assert np.abs(stepped.agent.weights).max() > 0.0
    assert compiled.final_return == stepped.final_return


@pytest.mark.parametrize(
    "name",
    ["linear-sarsa-lambda", *(pytest.param(name, marks=pytest.mark.slow) for name in ("linear-n-step-sarsa", "lspi"))],
)
def test_a_compiled_run_in_two_parts_is_the_same_run(name: str) -> None:
    config = {"epsilon": 0.5, **SMALL.get(name, {})}
    whole, first, second = (rlkit.make(name, "rlkit/MountainCar-v0", seed=seed, **config) for seed in (0, 0, 9))
    whole.advance(3_000, 3_000)
    first.advance(1_234, 3_000)
    second.load_policy_state(copy_tree(first.policy_state()))
    second.load_training_state(copy_tree(first.training_state()))
    second.advance(3_000 - 1_234, 3_000)
    assert_same(second, whole)
