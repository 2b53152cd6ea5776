"""The command line as a user meets it: what it prints, and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_contract import bits

import rlkit
from rlkit.checkpoint import load_checkpoint
from rlkit.cli.main import COMMANDS, main

SMALL = ["--agent.hidden", "16", "16", "--agent.learning-starts", "50", "--agent.batch-size", "16"]
RANDOM = ["train", "random", "--env", "CartPole-v1", "--total-steps", "200"]

DICT_ENV = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces

class MyEnv(gym.Env):
    def __init__(self):
        self.observation_space = spaces.Dict(
            place=spaces.Box(-5, 5, (2,)), gear=spaces.Discrete(3), more=spaces.Tuple([spaces.Box(0, 1, (1,))])
        )
        self.action_space = spaces.Box(np.float32([-1, 0]), np.float32([3, 10]))
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.place = 0, self.np_random.uniform(-1, 1, 2)
        return self.look(), {}
    def look(self):
        more = (np.float32([self.time / 30]),)
        return {"place": self.place.astype(np.float32), "gear": self.time % 3, "more": more}
    def step(self, action):
        assert self.action_space.contains(action), action
        self.time += 1
        self.place = np.clip(self.place + 0.1 * (action - [1, 5]), -5, 5)
        return self.look(), -float(np.square(self.place).sum()), False, self.time >= 30, {}
"""
OLD_ENV = """
import gymnasium as gym
import numpy as np

class OldEnv(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)
    def reset(self):
        return np.zeros(2, np.float32)
    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, {}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_env.py").write_text(DICT_ENV)
    (tmp_path / "old_env.py").write_text(OLD_ENV)
    return tmp_path


def call(*arguments: str) -> int:
    """The exit code, also where tyro exits by itself."""
    try:
        return main(arguments)
    except SystemExit as left:
        return int(left.code or 0)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert call() == 2
    assert call("--version") == 0
    assert rlkit.__version__ in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    assert "usage: rlkit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian"], "did you mean 'train'"),
        (["train"], "rlkit train AGENT"),
        (["train", "--env", "CartPole-v1"], "the agent comes first"),
        (["train", "radnom", "--env", "CartPole-v1"], "did you mean 'random'"),
        (["train", "random", "--env", "CartPol-v1"], "did you mean 'CartPole-v1'"),
        (["train", "random"], "which environment?"),
        ([*RANDOM, "--num-env", "3"], "--num-envs"),
        ([*RANDOM, "--num-envs", "four"], "four"),
        ([*RANDOM, "--wrap", "normalise-observation"], "did you mean 'normalize-observation'"),
        (["train", "ddpg", "--env", "Pendulum-v1", "--agent.learning-rte", "1"], "--agent.learning-rate"),
        (["train", "ddpg", "--env", "Pendulum-v1", "--agent.gamma", "2"], "less than or equal to 1"),
        (["train", "ddpg", "--env", "CartPole-v1"], "agents that can: random, "),
        (["train", "ddpg", "--env", "Pendulum-v1", "--agent.buffer-size", "9" * 13], "smaller buffer_size"),
        (["train", "--resume", "nowhere"], "there is no run nowhere"),
        (["evaluate", "nowhere"], "there is no run nowhere"),
        (["train", "random", "--env", "my_env.py:MyEn"], "did you mean 'MyEnv'"),
        (["train", "random", "--env", "nothing.py:MyEnv"], "there is no file"),
        (["list", "agent"], "agents"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_usage_exits_2_and_says_what_to_write(
    arguments: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert told in captured.out + captured.err
    assert not (folder / "runs").exists(), "nothing was begun"


def test_a_run_says_where_it_is_and_what_to_do_next(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*RANDOM) == 0
    output = capsys.readouterr().out
    (run,) = (folder / "runs").glob("*/*/*")
    assert output.startswith("done: 200 steps")
    assert f"rlkit evaluate {run.relative_to(folder)}" in output
    assert {"config.yaml", "meta.json", "metrics.jsonl", "result.json", "checkpoints"} <= {
        p.name for p in run.iterdir()
    }
    meta = json.loads((run / "meta.json").read_text())
    assert meta["env_restore_tier"] == "exact"
    assert {"argv", "versions", "device", "threads", "git"} <= meta.keys()
    assert call(*RANDOM, "--run-dir", str(run)) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_a_return_that_is_older_than_the_run_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*RANDOM, "--eval-every", "150", "--eval-episodes", "1") == 0
    assert "when last evaluated, at step 150" in capsys.readouterr().out
    assert call(*RANDOM, "--eval-every", "100", "--eval-episodes", "1") == 0
    assert "last evaluated" not in capsys.readouterr().out


def test_several_seeds_each_have_a_folder(folder: Path) -> None:
    assert call(*RANDOM, "--seeds", "2", "--seed", "5", "--run-dir", "many") == 0
    assert sorted(path.name for path in (folder / "many").iterdir()) == ["s5", "s6"]
    assert (folder / "many/s5/metrics.jsonl").read_text() != (folder / "many/s6/metrics.jsonl").read_text()


def test_evaluate_prints_text_or_one_json_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(*RANDOM, "--run-dir", "run")
    capsys.readouterr()
    assert call("evaluate", "run", "--episodes", "3", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result) == ["mean", "std", "iqm", "ci95", "mean_length", "episodes", "seed", "step"]
    assert (result["episodes"], result["step"]) == (3, 200)
    assert call("evaluate", "run", "--episodes", "3", "--seed", "4", "--stochastic") == 0
    assert "interquartile mean" in capsys.readouterr().out
    assert call("evaluate", "run", "--episodes", "0") == 2


def test_inspect_verifies_and_exits_1_for_damage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(*RANDOM, "--run-dir", "run")
    assert call("inspect", "run") == 0
    assert "checkpoints/step-000000200  verified" in capsys.readouterr().out
    assert call("inspect", "run/checkpoints/step-000000200", "--json") == 0
    assert json.loads(capsys.readouterr().out)["checkpoints"][0]["step"] == 200
    (folder / "run/checkpoints/step-000000200/training/state.json").write_text("{}")
    assert call("inspect", "run") == 1
    assert "damaged" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["agents", "envs", "wrappers", "presets"])
def test_list_names_what_can_be_named(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", what) == 0
    known = {"agents": "sb3/ddpg", "envs": "Pendulum-v1", "wrappers": "frame-stack", "presets": "ddpg_paper"}
    assert known[what] in capsys.readouterr().out


def test_check_env_says_who_can_serve_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check-env", "my_env.py:MyEnv") == 0
    output = capsys.readouterr().out
    assert re.search(r"ddpg +yes", output)
    assert re.search(r"sb3/ddpg +no: stable-baselines3 takes no nested Dict", output)
    assert "truncation only" in output
    assert "restore tier exact" in output


def test_an_old_style_environment_is_explained_not_traced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check-env", "old_env.py:OldEnv") == 1
    output = capsys.readouterr().out
    assert "def reset(self, *, seed=None, options=None)" in output
    assert "terminated" in output
    assert call("train", "random", "--env", "old_env.py:OldEnv") == 1
    captured = capsys.readouterr()
    assert "def reset(self, *, seed=None, options=None)" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("vector", ["serial", "process"])
def test_an_environment_that_raises_is_told_with_its_own_line(
    vector: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad_env.py").write_text(DICT_ENV.replace("self.time += 1", "self.time += 1; [][self.time // 9]"))
    command = ["train", "ddpg", "--env", "bad_env.py:MyEnv", "--total-steps", "100", *SMALL, "--vector", vector]
    assert call(*command) == 1
    told = capsys.readouterr().err
    assert "environment 0 failed in step 1: IndexError" in told
    assert "action:" in told
    assert "bad_env.py" in told
    assert "[][self.time // 9]" in told


@pytest.mark.parametrize("more", [[], ["--num-envs", "3"], ["--num-envs", "2", "--vector", "process"]], ids=str)
def test_an_environment_file_with_dicts_and_asymmetric_bounds_trains(more: list[str], folder: Path) -> None:
    options = ["--total-steps", "300", "--run-dir", "run", *SMALL, *more]
    assert call("train", "ddpg", "--env", "my_env.py:MyEnv", *options) == 0
    last = json.loads((folder / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert last["rollout/ep_len_mean"] == 30
    assert "train/critic_loss" in last
    assert call("evaluate", "run", "--episodes", "2") == 0


def test_python_and_the_command_line_give_the_same_bits(folder: Path) -> None:
    options = ["--total-steps", "300", "--seed", "3", "--log-every", "50", "--num-envs", "2"]
    assert call("train", "ddpg", "--env", "Pendulum-v1", "--run-dir", "cli", *options, *SMALL) == 0
    config = {"hidden": (16, 16), "learning_starts": 50, "batch_size": 16}
    rlkit.train(
        "ddpg", "Pendulum-v1", total_steps=300, seed=3, log_every=50, num_envs=2, run_dir="api", agent_config=config
    )

    def content(run: str) -> Any:
        training = load_checkpoint(folder / run / "checkpoints/step-000000300").training
        assert training is not None
        session = {key: value for key, value in training["session"].items() if key not in ("seconds", "hooks")}
        lines = [json.loads(line) for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
        metrics = [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]
        return bits(training | {"session": session}), metrics

    assert content("cli") == content("api")
    assert (folder / "cli/config.yaml").read_text() == (folder / "api/config.yaml").read_text()


def test_the_command_line_drops_what_of_a_preset_does_not_hold_as_python_does(folder: Path) -> None:
    """Tiles' step size from the preset would make Fourier features diverge."""
    given = ["--env", "MountainCar-v0", "--total-steps", "60", "--eval-every", "0"]
    command = ["train", "linear-sarsa-lambda", *given, "--run-dir", "cli", "--agent.features", "fourier"]
    assert call(*command, "--agent.order", "2") == 0
    rlkit.train(
        "linear-sarsa-lambda", "MountainCar-v0", total_steps=60, eval_every=0, run_dir="api",
        agent_config={"features": "fourier", "order": 2},
    )  # fmt: skip
    written = (folder / "cli/config.yaml").read_text()
    assert written == (folder / "api/config.yaml").read_text()
    assert "learning_rate: null" in written
    assert "traces: dutch" in written, "what does hold stays the preset's"


def test_an_agent_object_goes_on_learning(folder: Path) -> None:
    agent = rlkit.make("ddpg", "Pendulum-v1", seed=1, hidden=(8,), learning_starts=10, batch_size=8)
    result = rlkit.train(agent, "Pendulum-v1", total_steps=60, run_dir="run", seed=1, eval_every=0)
    assert result.agent is agent
    assert rlkit.evaluate(agent, "Pendulum-v1", episodes=1).mean < 0
    again = rlkit.load("run")
    assert (again.agent.actor.flat == agent.actor.flat).all()


@pytest.mark.parametrize(
    "wrap",
    [
        ["--wrap", "time-limit:max_episode_steps=5", "frame-stack:n=2"],
        ["--wrap", "time-limit:max_episode_steps=5", "--wrap", "frame-stack:n=2"],
        ["--wrap=time-limit:max_episode_steps=5", "--seed", "0", "--wrap", "frame-stack:n=2"],
    ],
)
def test_wrappers_may_come_behind_one_flag_or_several(wrap: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call(*RANDOM, *wrap, "--eval-every", "0", "--run-dir", str(run)) == 0
    assert rlkit.load(run).options.wrap == ("time-limit:max_episode_steps=5", "frame-stack:n=2")
