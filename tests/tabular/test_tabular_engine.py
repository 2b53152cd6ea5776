"""The compiled engine and the loop are one and the same, bit by bit, for every tabular agent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlkit
from rlkit import api, registry
from rlkit.checkpoint import load_checkpoint
from rlkit.errors import EnvironmentFault, UsageError
from rlkit.linear.options import FeatureConfig
from rlkit.tabular.engine import CompiledLoop, TabularAgent
from rlkit.tabular.options import TabularConfig

TABULAR = [
    name for name in registry.AGENTS if issubclass(registry.config_class(registry.agent_class(name)), TabularConfig)
]
LINEAR = [name for name in TABULAR if issubclass(registry.config_class(registry.agent_class(name)), FeatureConfig)]
"""They compile for long: among the slow tests here, two of them quickly in tests/linear."""
LONG = ("mc-prediction", "n-step-td", "tabular-reinforce", "td-lambda")
"""So do these."""
LIMITED = {"mc-basic": {"episode_length": 100}, "dyna-q": {"planning_steps": 3}, "dyna-q-plus": {"planning_steps": 3}}


def trained(name: str, env: str, engine: str, folder: Path, steps: int = 1_500, **agent_config: Any) -> Any:
    return rlkit.train(
        name, env, total_steps=steps, run_dir=folder / engine, seed=3, eval_every=0, preset="none",
        agent_config={"engine": engine, **LIMITED.get(name, {}), **agent_config},
    )  # fmt: skip


def arrays(tree: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in tree.items() if isinstance(value, np.ndarray)}


@pytest.mark.parametrize("env", ["FrozenLake-v1", "Taxi-v4"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in (*LINEAR, *LONG) else name for name in TABULAR]
)
def test_both_engines_give_the_same_bits(name: str, env: str, tmp_path: Path) -> None:
    if name == "mc-basic" and env == "Taxi-v4":
        pytest.skip("2,400 episodes of 100 steps")
    compiled, stepped = (trained(name, env, engine, tmp_path) for engine in ("compiled", "step"))
    assert isinstance(compiled.agent, CompiledLoop)
    assert not isinstance(stepped.agent, CompiledLoop)
    assert arrays(compiled.agent.policy_state()) == arrays(stepped.agent.policy_state())
    memory = [arrays(each.agent.training_state()["memory"]) for each in (compiled, stepped)]
    assert memory[0] == memory[1]
    assert compiled.final_return == stepped.final_return


@pytest.mark.parametrize("name", ["monte-carlo", "sarsa-lambda", "q-learning", "mc-exploring-starts"])
def test_both_engines_deal_the_same_blackjack(name: str, tmp_path: Path) -> None:
    compiled, stepped = (trained(name, "Blackjack-v1", engine, tmp_path) for engine in ("compiled", "step"))
    assert arrays(compiled.agent.policy_state()) == arrays(stepped.agent.policy_state())
    assert compiled.final_return == stepped.final_return


@pytest.mark.parametrize(
    ("env", "env_args"), [("rlkit/CourseGrid-v0", ("observation=coordinates",)), ("rlkit/AccessControl-v0", ())]
)
def test_both_engines_see_the_same_digits(env: str, env_args: tuple[str, ...], tmp_path: Path) -> None:
    compiled, stepped, plain = (
        rlkit.train(
            "q-learning", env, total_steps=1_500, run_dir=tmp_path / engine, seed=3, eval_every=0, preset="none",
            env_args=args, agent_config={"engine": "step" if engine == "step" else "compiled"},
        ).agent
        for engine, args in (("compiled", env_args), ("step", env_args), ("plain", ()))
    )  # fmt: skip
    assert arrays(compiled.policy_state()) == arrays(stepped.policy_state()) == arrays(plain.policy_state())
    assert isinstance(compiled, CompiledLoop)


def test_episodes_of_the_compiled_engine_have_the_returns_that_the_loop_counts(tmp_path: Path) -> None:
    sessions = []
    for engine in ("compiled", "step"):
        result = trained("q-learning", "Taxi-v4", engine, tmp_path)
        checkpoint = load_checkpoint(sorted((result.run_dir / "checkpoints").glob("step-*"))[-1])
        assert checkpoint.training is not None
        sessions.append(checkpoint.training["session"])
    assert sessions[0]["episodes"] == sessions[1]["episodes"]
    assert sessions[0]["episode_count"] == sessions[1]["episode_count"]


def test_auto_compiles_where_the_transitions_are_known_and_steps_elsewhere() -> None:
    assert isinstance(rlkit.make("q-learning", "FrozenLake-v1"), CompiledLoop)
    assert not isinstance(rlkit.make("q-learning", "FrozenLake-v1", num_envs=2), CompiledLoop)
    assert not isinstance(rlkit.make("q-learning", "FrozenLake-v1", engine="step"), CompiledLoop)


def test_wrappers_that_change_the_environment_are_not_compiled_away(tmp_path: Path) -> None:
    wrap = ("sticky-action:repeat_action_probability=0.5",)
    result = rlkit.train("q-learning", "FrozenLake-v1", total_steps=200, run_dir=tmp_path / "run", wrap=wrap)
    assert not isinstance(result.agent, CompiledLoop)
    with pytest.raises(UsageError, match="engine step"):
        rlkit.train(
            "q-learning", "FrozenLake-v1", total_steps=200, run_dir=tmp_path / "other", wrap=wrap,
            agent_config={"engine": "compiled"},
        )  # fmt: skip


def test_compiled_with_several_environments_is_refused() -> None:
    with pytest.raises(UsageError, match="steps one environment, not 3"):
        rlkit.make("sarsa", "FrozenLake-v1", num_envs=3, engine="compiled")


@pytest.mark.parametrize("engine", ["compiled", "step"])
def test_an_episode_that_never_ends_is_an_error_and_not_a_hang(engine: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"max-episode-steps[\s\S]*time-limit"):
        trained("monte-carlo", "CliffWalking-v1", engine, tmp_path, max_episode_steps=50, epsilon=0.0)


@pytest.mark.parametrize(
    "name",
    [
        "q-learning",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("n-step-sarsa", "td-lambda", "monte-carlo")),
    ],
)
def test_a_run_in_two_parts_is_the_same_run(name: str, tmp_path: Path) -> None:
    whole = trained(name, "FrozenLake-v1", "compiled", tmp_path, steps=5_000)
    part = rlkit.train(
        name, "FrozenLake-v1", total_steps=5_000, run_dir=tmp_path / "part", seed=3, eval_every=0, preset="none",
        agent_config={"engine": "compiled"}, max_seconds=1e-9,
    )  # fmt: skip
    assert 0 < part.steps < 5_000
    config = part.run_dir / "config.yaml"
    config.write_text(config.read_text().replace("max_seconds: 1.0e-09", "max_seconds: null"))
    resumed = api.resume(part.run_dir)
    assert resumed.steps == 5_000
    assert isinstance(resumed.agent, TabularAgent)
    assert arrays(resumed.agent.policy_state()) == arrays(whole.agent.policy_state())


OWN_LEARNER = """
from typing import NamedTuple
import numpy as np
from rlkit.tabular.compiled import compiled
from rlkit.tabular.engine import TabularAgent
from rlkit.tabular.learner import OK, family, no_start
from rlkit.tabular.options import ControlConfig, new_tables
from rlkit.tabular.tables import Tables, choose_action

class Mine(NamedTuple):
    tables: Tables

@compiled
def _choose(learner, state, is_first, rng):
    return choose_action(learner.tables, state, rng)

@compiled
def _store(learner, row, state, action, reward, next_state, terminated, ended):
    learner.tables.values[0, state, action] += reward

@compiled
def _learn(learner, row, rng):
    return OK

family(Mine, choose=_choose, store=_store, learn=_learn, next_start=no_start)

class SumRewards(TabularAgent):
    Config = ControlConfig
    def _build(self, config, task):
        return Mine(new_tables(config, task, (1, self.index.num_states, self.num_actions), self.num_actions))
"""


def test_a_learner_of_ones_own_runs_and_leaves_the_kept_machine_code_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_LEARNER)
    env = dict(os.environ) | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "rlkit", "train"]
    rest = ["--env", "FrozenLake-v1", "--total-steps", "500", "--eval-every", "0", "--run-dir"]
    for agent, run in ((f"{tmp_path}/mine.py:SumRewards", "own"), ("q-learning", "ours")):
        done = subprocess.run(
            [*command, agent, *rest, str(tmp_path / run)], env=env, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    kept = list((tmp_path / "cache" / "rlkit").rglob("*.nbi"))
    assert kept, "q-learning's code is kept"
    assert not any(b"mine" in path.read_bytes() for path in kept)
