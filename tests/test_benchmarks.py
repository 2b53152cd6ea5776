"""The benchmark scripts: patches of CleanRL, arithmetic of the table, one tiny measurement."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import source_tree
from torch import nn

from rlkit.agents.dqn_config import DQNConfig
from rlkit.agents.rainbow import RainbowConfig

SCRIPT = source_tree.ROOT / "benchmarks" / "agents_speed.py"
LIBRARIES = {"ddpg": ("rlkit", "sb3", "cleanrl"), "acting": ("rlkit", "torch")}


@pytest.fixture(scope="module")
def speed() -> Iterator[SimpleNamespace]:
    """The modules of `benchmarks/agents_speed.py`, found as when it is run as a script."""
    names = {"script": "agents_speed", "table": "speed_table"}
    names |= {short: f"speed_measures.{short}" for short in ("job", "cleanrl")}
    sys.path.insert(0, str(SCRIPT.parent))
    yield SimpleNamespace(**{short: importlib.import_module(name) for short, name in names.items()})
    sys.path.remove(str(SCRIPT.parent))


@pytest.fixture(scope="module")
def learning() -> Iterator[ModuleType]:
    sys.path.insert(0, str(SCRIPT.parent))
    yield importlib.import_module("agents_learning")
    sys.path.remove(str(SCRIPT.parent))


def fake(library: str, number: int, seconds: float, **changes: Any) -> dict[str, Any]:
    record = {
        "work": "ddpg", "env": "Pendulum-v1", "library": library, "sitting": "a", "round": number, "steps": 100,
        "libraries": ["rlkit", "sb3"], "seconds": seconds, "machine": "m", "versions": {"torch": "2"},
        "finished": "2026-01-01",
    }  # fmt: skip
    if library == "rlkit":
        record |= {"code": "0", "matmul_backend": "mkl"}
    return record | changes


def rows(text: str) -> dict[str, list[str]]:
    """Cells by library."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    return {row[1]: row for row in cells[2:]}


def test_ratio_is_the_median_of_the_ratios_of_each_round(speed: SimpleNamespace) -> None:
    # rlkit 100, 50, 20 and sb3 20, 25, 20 steps/s: ratios 5, 2, 1; the ratio of the medians would be 2.5
    seconds = [(1, 5), (2, 4), (5, 5)]
    records = [
        fake(library, number, value)
        for number, pair in enumerate(seconds, 1)
        for library, value in zip(("rlkit", "sb3"), pair, strict=True)
    ]
    found = rows(speed.table.table(records, LIBRARIES))
    assert found["rlkit"][2:] == ["50.0 [20.0–100.0] steps/s", "–", "3"]
    assert found["sb3"][2:] == ["20.0 [20.0–25.0] steps/s", "2.00 [1.00–5.00]", "3"]


def test_incomplete_rounds_do_not_count_and_rounds_are_not_put_together_from_two_sittings(
    speed: SimpleNamespace,
) -> None:
    records = [fake("rlkit", 1, 1), fake("sb3", 1, 2), fake("rlkit", 2, 1), fake("sb3", 2, 2, sitting="b")]
    assert rows(speed.table.table(records, LIBRARIES))["sb3"][4] == "1"


def test_rounds_of_several_sittings_add_up(speed: SimpleNamespace) -> None:
    records = [fake(library, 1, 1, sitting=sitting) for sitting in "ab" for library in ("rlkit", "sb3")]
    assert rows(speed.table.table(records, LIBRARIES))["sb3"][4] == "2"


@pytest.mark.parametrize("change", [{"steps": 50}, {"machine": "other"}, {"versions": {"torch": "3"}}, {"code": "1"}])
def test_rounds_under_other_conditions_than_the_newest_are_left_out(
    speed: SimpleNamespace, change: dict[str, Any]
) -> None:
    old = [fake(library, 1, 9, **change) for library in ("rlkit", "sb3")]
    new = [fake(library, 1, 1, sitting="b", finished="2026-02-01") for library in ("rlkit", "sb3")]
    text = speed.table.table(old + new, LIBRARIES)
    assert rows(text)["rlkit"][2] == "100.0 [100.0–100.0] steps/s"
    assert "1 complete rounds with other" in text


def test_calls_are_told_in_microseconds(speed: SimpleNamespace) -> None:
    changes = {"work": "acting", "env": "", "libraries": ["rlkit", "torch"]}
    text = speed.table.table([fake("rlkit", 1, 0.001, **changes), fake("torch", 1, 0.004, **changes)], LIBRARIES)
    assert rows(text)["torch"][2:4] == ["40.0 [40.0–40.0] µs", "0.25 [0.25–0.25]"]


def test_clock_counts_steps_over_episodes(speed: SimpleNamespace) -> None:
    env = speed.job.StepClock(gym.make("Pendulum-v1", max_episode_steps=2), 3, 5)
    speed.job.StepClock.marks.clear()
    for _ in range(3):
        env.reset(seed=0)
        for _ in range(2):
            env.step(env.action_space.sample())
    assert sorted(speed.job.StepClock.marks) == [3, 5]


def test_marks_come_from_one_environment(speed: SimpleNamespace) -> None:
    for steps in (4, 2):  # the first one goes to the end, the second stops before it
        env = speed.job.StepClock(gym.make("Pendulum-v1"), 2, 4)
        env.reset(seed=0)
        for _ in range(steps):
            env.step(env.action_space.sample())
    assert list(speed.job.StepClock.marks) == [2]


@pytest.mark.parametrize("name", ["DDPG", "DQN"])
def test_a_patch_that_does_not_fit_stops(speed: SimpleNamespace, name: str) -> None:
    with pytest.raises(SystemExit, match="has changed"):
        speed.cleanrl.patched(getattr(speed.cleanrl, name), "print('another script')")


def test_cleanrl_is_read_from_a_work_tree_and_from_a_bare_directory(speed: SimpleNamespace, tmp_path: Path) -> None:
    tree, bare = tmp_path / "tree", tmp_path / "bare"
    (tree / "cleanrl").mkdir(parents=True)
    (tree / speed.cleanrl.DDPG.name).write_text("x = 1\n")
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for command in (
        ["init", "-q"],
        ["add", "."],
        [*author, "commit", "-qm", "x"],
        ["clone", "-q", "--bare", ".", bare],
    ):
        subprocess.run(["git", *command], cwd=tree, check=True, capture_output=True)
    for checkout in (tree, bare):
        assert speed.cleanrl.cleanrl_source(checkout, speed.cleanrl.DDPG.name) == "x = 1\n"
        assert len(speed.cleanrl.git(checkout, "rev-parse", "HEAD").strip()) == 40


@pytest.mark.parametrize("name", ["DDPG", "DQN"])
def test_patches_fit_cleanrls_scripts(speed: SimpleNamespace, name: str) -> None:
    if "CLEANRL_DIR" not in os.environ:
        pytest.skip("CLEANRL_DIR names no checkout of vwxyzjn/cleanrl")
    script = getattr(speed.cleanrl, name)
    text = speed.cleanrl.patched(script, speed.cleanrl.cleanrl_source(Path(os.environ["CLEANRL_DIR"]), script.name))
    ast.parse(text)
    assert text.count("SAME_STEP") == 1
    assert 'infos["final_observation"]' not in text


def test_rounds_with_another_version_in_a_peers_own_interpreter_are_left_out(speed: SimpleNamespace) -> None:
    names, libraries = ["rlkit", "sbx"], {"dqn": ["rlkit", "sbx"]}
    changes = {"work": "dqn", "env": "CartPole-v1", "libraries": names}
    old = [fake(name, 1, 9, **changes, **({"peer_versions": {"jax": "1"}} if name == "sbx" else {})) for name in names]
    changes |= {"sitting": "b", "finished": "2026-02-01"}
    new = [fake(name, 1, 1, **changes, **({"peer_versions": {"jax": "2"}} if name == "sbx" else {})) for name in names]
    text = speed.table.table(old + new, libraries)
    assert rows(text)["sbx"][2:] == ["100.0 [100.0–100.0] steps/s", "1.00 [1.00–1.00]", "1"]
    assert "jax 2" in text
    assert "jax 1" not in text


def test_dqn_is_timed_from_a_later_step_than_ddpg(speed: SimpleNamespace) -> None:
    ddpg, dqn = (speed.job.Job(work, "rlkit", "CartPole-v1", 10, 0, 0) for work in ("ddpg", "dqn"))
    assert (ddpg.total_steps, dqn.total_steps) == (1_011, 2_011)


def test_peers_that_the_user_must_give_are_left_out_aloud(
    speed: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = speed.script.parser().parse_args(["run", "--agents", "dqn", "--sbx", "peer/bin/python", "--core", "0"])
    (group,) = speed.script.jobs_of(arguments)
    assert [job.library for job in group] == ["rlkit", "sb3", "sbx"]
    assert [job.python for job in group] == [None, None, str(Path("peer/bin/python").absolute())]
    assert "CleanRL is left out" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["tianshou", "skrl", "torchrl"])
def test_peers_of_off_policy_agents_run_their_own_module_in_their_own_interpreter(
    speed: SimpleNamespace, name: str
) -> None:
    chosen = ["--agents", "ddpg", "td3", "sac", "--envs", "HalfCheetah-v5", "--libraries", name]
    groups = speed.script.jobs_of(speed.script.parser().parse_args(["run", *chosen, f"--{name}", "peer/python"]))
    assert [[job.library for job in group] for group in groups] == [[name]] * 3
    assert {job.python for group in groups for job in group} == {str(Path("peer/python").absolute())}
    module = ast.parse((SCRIPT.parent / "speed_measures" / f"{name}.py").read_text(encoding="utf-8"))
    assert "train" in [node.name for node in module.body if isinstance(node, ast.FunctionDef)]


def test_environments_are_measured_with_the_agent_they_belong_to(speed: SimpleNamespace) -> None:
    arguments = speed.script.parser().parse_args(["run", "--envs", "Pendulum-v1", "CartPole-v1", "--libraries", "sb3"])
    groups = speed.script.jobs_of(arguments)
    assert [[(job.work, job.env) for job in group] for group in groups] == [
        [("ddpg", "Pendulum-v1")],
        [("dqn", "CartPole-v1")],
        [("ppo", "CartPole-v1")],
    ]


@pytest.mark.parametrize("name", ["dqn_cartpole", "dqn_mountaincar", "dqn_acrobot", "dqn_lunarlander"])
def test_dqn_tasks_give_sb3_what_they_give_rlkit(learning: ModuleType, name: str) -> None:
    task = learning.TASKS[name]
    model = importlib.import_module("learning_peers").SB3_MODELS["dqn"](task, gym.make("CartPole-v1"), 3)
    settings = DQNConfig(**task.settings)
    assert model.train_freq.frequency == settings.train_every
    assert model.target_update_interval == settings.target_update_every
    for ours, theirs in (("epsilon", "initial_eps"), ("final_epsilon", "final_eps"), ("epsilon_fraction", "fraction")):
        assert getattr(model, f"exploration_{theirs}") == getattr(settings, ours)
    for same in (
        *("learning_rate", "gamma", "batch_size", "buffer_size", "learning_starts", "gradient_steps", "max_grad_norm"),
        "tau",
    ):
        assert getattr(model, same) == getattr(settings, same), same
    layers = [layer.out_features for layer in model.q_net.q_net if isinstance(layer, nn.Linear)]
    assert layers == [*settings.hidden, 2]
    assert (settings.loss, settings.double, settings.n_step) == ("huber", False, 1)  # SB3's


def test_presets_are_compared_on_the_same_environment_and_steps(learning: ModuleType) -> None:
    for name in ("cartpole", "mountaincar", "acrobot", "lunarlander"):
        plain, dqn = learning.TASKS[f"dqn_{name}"], learning.TASKS[f"dqn_{name}_preset"]
        rainbow = learning.TASKS[f"rainbow_{name}"]
        for task in (dqn, rainbow):
            assert (task.env, task.total_steps) == (plain.env, plain.total_steps)
        assert dqn.beside == (f"dqn_{name}", "sb3")
        assert rainbow.beside == (f"dqn_{name}_preset", "rlkit")
        DQNConfig(**dqn.settings)
        RainbowConfig(**rainbow.settings)


def test_an_agent_beside_another_is_compared_with_its_scores(
    learning: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "RESULTS", tmp_path)
    for task, score in (("dqn_cartpole_preset", 400.0), ("rainbow_cartpole", 500.0)):
        (tmp_path / task).mkdir()
        for seed in range(4):
            record = {"library": "rlkit", "seed": seed, "mean_return": score}
            (tmp_path / task / f"rlkit-s{seed}.json").write_text(json.dumps(record))
    lines = learning.table().splitlines()[2:]
    assert [line.split(" | ")[-2] for line in lines] == [
        "no common seeds to sb3 on dqn_cartpole",
        "+100.0 [+100.0, +100.0] to rlkit on dqn_cartpole_preset",
    ]


@pytest.mark.slow
def test_tiny_measurement_ends_in_a_table(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "run", "--envs", "Pendulum-v1", "--rounds", "1", "--steps", "20"]
    checkout = os.environ.get("CLEANRL_DIR")
    options = ["--results", str(tmp_path), *([] if checkout is None else ["--cleanrl", checkout])]
    told = subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout
    assert ("CleanRL is left out" in told) == (checkout is None)

    files = sorted(tmp_path.glob("*/r01-ddpg-Pendulum-v1-*.json"))
    records = [json.loads(file.read_text()) for file in files]
    expected = {"rlkit", "sb3"} | (set() if checkout is None else {"cleanrl"})
    assert {record["library"] for record in records} == expected
    assert all(record["seconds"] > 0 and record["steps"] == 20 for record in records)
    assert not list(tmp_path.glob("*/*.partial"))

    command = [sys.executable, str(SCRIPT), "table", "--results", str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == (tmp_path / "table.md").read_text()
    assert set(rows(printed)) == expected


ACTOR_CRITICS = ("ppo_cartpole", "ppo_pendulum", "a2c_cartpole", "td3_pendulum", "sac_pendulum")


@pytest.mark.parametrize("name", [*ACTOR_CRITICS, "sac_mountaincarcontinuous", "td3_mountaincarcontinuous"])
def test_actor_critic_tasks_give_sb3_what_they_give_rlkit(learning: ModuleType, name: str) -> None:
    peers = importlib.import_module("learning_peers")
    task = learning.TASKS[name]
    ours = peers.options_of(task)
    env = peers.training_env(task, 3)
    theirs = peers.SB3_MODELS[task.agent](task, env, 3)
    assert theirs.n_envs == task.num_envs
    assert theirs.lr_schedule(1.0) == ours.learning_rate
    common = {"gamma", "tau", "batch_size", "buffer_size", "learning_starts", "n_steps", "gae_lambda", "max_grad_norm"}
    for option in common & set(type(ours).model_fields):
        assert getattr(theirs, option) == getattr(ours, option), option
    layers = [layer.out_features for layer in theirs.policy.modules() if isinstance(layer, nn.Linear)]
    assert layers[: len(ours.hidden)] == list(ours.hidden)
    if task.agent in ("td3", "sac"):
        assert (theirs.action_noise is None) == (ours.noise == "none")
        assert (theirs.train_freq.frequency, theirs.gradient_steps) == (1, 1)


def test_normalised_tasks_are_evaluated_with_the_statistics_of_training(learning: ModuleType) -> None:
    peers = importlib.import_module("learning_peers")
    task = learning.TASKS["ppo_acrobot"]
    env = peers.training_env(task, 3)
    assert (env.norm_obs, env.norm_reward, env.gamma) == (True, True, 0.99)
    model = peers.SB3_MODELS["ppo"](task, env, 3)
    env.reset()
    evaluation = peers.evaluation_env(task, model, 10_003)
    assert evaluation.obs_rms is env.obs_rms
    assert not evaluation.norm_reward
    assert not evaluation.training


def test_the_profile_counts_what_a_part_calls_in_the_called_part_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    profile = importlib.import_module("training_profile")
    seconds = iter(range(100))
    monkeypatch.setattr(profile, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    clock = profile.Clock()
    inner = clock.around(lambda: None, "Adam")
    clock.around(lambda: [inner(), inner()], "rest of the update")()
    assert clock.seconds == {"everything between": 1, "rest of the update": 3, "Adam": 2}
    assert clock.calls == {"rest of the update": 1, "Adam": 2}


def test_every_library_is_evaluated_on_the_same_episodes(learning: ModuleType) -> None:
    from stable_baselines3.common.evaluation import evaluate_policy

    peers = importlib.import_module("learning_peers")
    task = learning.LearningTask("ddpg", "Pendulum-v1", 0, 4)
    still = SimpleNamespace(
        predict=lambda obs, **_: (np.zeros((len(obs), 1), np.float32), None),
        get_vec_normalize_env=lambda: None,
    )
    env = peers.evaluation_env(task, still, 10_003)
    theirs, _ = evaluate_policy(still, env, 4, return_episode_rewards=True, warn=False)
    policy = SimpleNamespace(predict=lambda obs: np.zeros(1, np.float32), reset=lambda: None)
    assert learning.episode_returns(policy, task, 10_003) == pytest.approx(theirs, abs=1e-3)
