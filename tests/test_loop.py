"""The loop around agents: what stops it, what hangs on it, and what it tells."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit.agents.random import RandomAgent
from rlkit.checkpoint import load_checkpoint
from rlkit.errors import NonFiniteError, UsageError
from rlkit.loop import MeanMetrics, Session, fit
from rlkit.types import Metrics, State, Task

QUIET: dict[str, Any] = {"preset": "none", "eval_every": 0}


class Scripted(gym.Env[Any, Any]):
    """Five steps an episode, reward 2 each; `break_at` (env step, what) makes one value NaN."""

    observation_space = spaces.Box(-1e9, 1e9, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    break_at: tuple[int, str] | None = None
    interrupt_at: int | None = None
    number = 0
    steps_of_all = 0

    def __init__(self) -> None:
        self.mine = Scripted.number
        Scripted.number += 1
        self.total = self.time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.total += 1
        self.time += 1
        obs, reward = np.full(2, self.time, np.float32), 2.0
        if self.mine == 1 and Scripted.break_at is not None and self.total == Scripted.break_at[0]:
            if Scripted.break_at[1] == "observation":
                obs[1] = np.nan
            else:
                reward = math.inf
        if self.total == Scripted.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        return obs, reward, False, self.time == 5, {}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("break_at", None), ("interrupt_at", None), ("number", 0)):
        monkeypatch.setattr(Scripted, name, value)
    # the probe of the restore tier builds environments of its own
    monkeypatch.setattr("rlkit.envs.vector.probe_restore", lambda *_, **__: "exact")


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_a_value_that_is_not_finite_stops_with_environment_step_and_checkpoint(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scripted, "break_at", (13, what))
    with pytest.raises(NonFiniteError) as caught:
        rlkit.train(
            "random", Scripted, total_steps=300, num_envs=3, run_dir=tmp_path / "run", checkpoint_every=15, **QUIET
        )
    told = str(caught.value)
    assert told.startswith(f"environment 1: the {what} ")
    assert "at env step 39 (step 3 of its episode)" in told
    assert "checkpoints/step-000000030" in told
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


def test_an_action_that_is_not_finite_never_reaches_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(self: Any, obs: Any, carry: Any, **_: Any) -> Any:
        return np.full((len(obs), 1), np.nan, np.float32), carry, {}

    monkeypatch.setattr(RandomAgent, "act", act)
    with pytest.raises(NonFiniteError, match=r"environment 0: the action \[nan\]"):
        rlkit.train("random", Scripted, total_steps=30, run_dir=tmp_path / "run", **QUIET)


def test_a_loss_that_is_not_finite_stops_before_a_checkpoint_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RandomAgent, "update", lambda self: {"train/loss": math.nan})
    with pytest.raises(NonFiniteError, match="train/loss became nan at env step 1"):
        rlkit.train("random", Scripted, total_steps=30, run_dir=tmp_path / "run", checkpoint_every=1, **QUIET)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")] == ["step-000000000"]


def test_hooks_keep_their_cadence_when_steps_come_in_threes(tmp_path: Path) -> None:
    rlkit.train(
        "random", Scripted, total_steps=60, num_envs=3, run_dir=tmp_path / "run", log_every=10, eval_every=25,
        eval_episodes=2, checkpoint_every=20, preset="none",
    )  # fmt: skip
    steps = [point["step"] for point in metrics(tmp_path / "run")]
    assert steps == [12, 21, 27, 30, 42, 51, 60]
    evaluated = [point["step"] for point in metrics(tmp_path / "run") if "eval/mean_reward" in point]
    assert evaluated == [27, 51]
    assert all(point["eval/mean_reward"] == 10.0 for point in metrics(tmp_path / "run") if "eval/mean_reward" in point)


@pytest.mark.parametrize("wrap", [(), ("normalize-reward",), ("normalize-observation", "normalize-reward")])
def test_returns_are_counted_in_the_environments_own_reward(wrap: tuple[str, ...], tmp_path: Path) -> None:
    result = rlkit.train("random", Scripted, total_steps=40, run_dir=tmp_path / "run", log_every=10, wrap=wrap, **QUIET)
    assert result.final_return == 10.0
    last = metrics(tmp_path / "run")[-1]
    assert (last["rollout/ep_rew_mean"], last["rollout/ep_len_mean"]) == (10.0, 5.0)


def test_it_stops_at_a_return_or_after_some_seconds(tmp_path: Path) -> None:
    reached = rlkit.train(
        "random", Scripted, total_steps=10_000, run_dir=tmp_path / "a", stop_at_return=10.0, eval_every=50,
        eval_episodes=1, preset="none",
    )  # fmt: skip
    assert (reached.steps, reached.status) == (50, "mean return of 10 reached")
    by_episodes = rlkit.train(
        "random", Scripted, total_steps=10_000, run_dir=tmp_path / "b", stop_at_return=10.0, **QUIET
    )
    assert by_episodes.steps == 500  # a hundred episodes
    late = rlkit.train("random", Scripted, total_steps=10**9, run_dir=tmp_path / "c", max_seconds=0.3, **QUIET)
    assert late.status == "time limit of 0.3 s"
    assert late.seconds < 5
    assert rlkit.resume(tmp_path / "c", env=Scripted).steps > late.steps


def test_resuming_a_finished_run_changes_nothing_and_fewer_steps_are_refused(tmp_path: Path) -> None:
    done = rlkit.train("random", Scripted, total_steps=50, num_envs=3, run_dir=tmp_path / "run", **QUIET)
    assert done.steps == 51  # the steps of three environments come together
    assert rlkit.resume(tmp_path / "run", env=Scripted).steps == 51
    with pytest.raises(UsageError, match="51 env steps already, more than 40"):
        rlkit.resume(tmp_path / "run", env=Scripted, total_steps=40)


def test_a_run_that_goes_on_has_no_result_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = rlkit.train("random", Scripted, total_steps=50, run_dir=tmp_path / "run", **QUIET).run_dir
    seen: list[bool] = []
    monkeypatch.setattr(RandomAgent, "update", lambda self: seen.append((run / "result.json").exists()) or {})
    rlkit.resume(run, total_steps=60, env=Scripted)
    assert seen == [False] * 10
    assert json.loads((run / "result.json").read_text())["steps"] == 60


def test_an_interrupt_inside_a_step_finishes_it_and_writes_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    whole = rlkit.train("random", Scripted, total_steps=60, run_dir=tmp_path / "whole", **QUIET)
    monkeypatch.setattr(Scripted, "interrupt_at", 23)
    result = rlkit.train("random", Scripted, total_steps=60, run_dir=tmp_path / "run", **QUIET)
    assert (result.status, result.exit_code, result.steps) == ("SIGINT", 130, 23)
    assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.setattr(Scripted, "interrupt_at", None)
    resumed = rlkit.resume(tmp_path / "run", env=Scripted)
    assert (resumed.status, resumed.steps) == ("done", 60)
    one, other = (load_checkpoint(r.run_dir / "checkpoints" / "step-000000060").training for r in (whole, resumed))
    assert one is not None
    assert other is not None
    assert one["session"]["rng"] == other["session"]["rng"]
    assert one["session"]["episodes"] == other["session"]["episodes"]


def test_logs_that_cannot_be_written_never_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run" / "metrics.jsonl").mkdir(parents=True)  # a folder cannot be appended to
    result = rlkit.train("random", Scripted, total_steps=50, run_dir=tmp_path / "run", log_every=10, **QUIET)
    assert result.status == "done"
    assert "training goes on" in caplog.text


def test_means_are_over_what_was_added_since_the_last_point() -> None:
    means = MeanMetrics()
    means.add({"a": 1.0})
    means.add({"a": 2.0, "b": 5.0})
    again = MeanMetrics()
    again.load_state(means.state())
    assert again.take() == {"a": 1.5, "b": 5.0}
    assert again.take() == {}


def test_the_last_metrics_are_logged_and_an_extended_run_logs_as_one_that_went_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {**QUIET, "log_every": 30, "agent_config": {"n_steps": 5}}
    rlkit.train("a2c", "CartPole-v1", total_steps=50, run_dir=tmp_path / "run", **options)
    assert [point["step"] for point in metrics(tmp_path / "run")] == [30, 50]
    assert "train/policy_loss" in metrics(tmp_path / "run")[-1]
    rlkit.resume(tmp_path / "run", total_steps=100)
    rlkit.train("a2c", "CartPole-v1", total_steps=100, run_dir=tmp_path / "whole", **options)
    runs = ([_timeless(point) for point in metrics(tmp_path / name)] for name in ("run", "whole"))
    assert next(runs) == next(runs)


def _timeless(point: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in point.items() if not name.startswith("time/")}


class Counting:
    """Learns nothing and counts its batches."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def learn(self, batch: float) -> Metrics:
        self.seen.append(batch)
        return {"train/loss": float(batch)}

    def policy_state(self) -> State:
        return {}

    def load_policy_state(self, state: State) -> None:
        pass

    def training_state(self) -> State:
        return {}

    def load_training_state(self, state: State) -> None:
        pass


def test_fit_learns_once_a_step_and_says_at_which_update_a_loss_is_not_finite() -> None:
    task, learner = Task(Scripted.observation_space, Scripted.action_space), Counting()
    session = Session(task, 3, [], np.random.default_rng(0), unit="update", advice="do this")
    fit(learner, iter(range(10)), session)
    assert (learner.seen, session.step, session.metrics.take()) == ([0, 1, 2], 3, {"train/loss": 1.0})
    session = Session(task, 3, [], np.random.default_rng(0), unit="update", advice="do this")
    with pytest.raises(NonFiniteError, match=r"train/loss became nan at update 2(.|\n)*do this"):
        fit(learner, iter([1.0, float("nan")]), session)
