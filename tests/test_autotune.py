"""`rlkit train --autotune`: which way of computing a run is chosen, what is told of it, and that runs keep it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlkit
from rlkit import autotune as tuning
from rlkit.agents.dqn import DQNConfig
from rlkit.agents.ppo import PPOConfig
from rlkit.autotune import Setting, Timing, autotune, fastest, time_training
from rlkit.cli.main import main
from rlkit.config import RunConfig, RunOptions
from rlkit.errors import EnvironmentFault
from rlkit.resolve import resolve, stored_config
from rlkit.runs import open_run

TINY = {"n_steps": 64, "batch_size": 16, "epochs": 2, "hidden": (8,)}


def config(**options: Any) -> RunConfig:
    return RunConfig("ppo", PPOConfig(**TINY), RunOptions(**{"env": "CartPole-v1", "num_envs": 2, **options}))


def measured_as(speeds: Mapping[Setting, float]) -> tuning.Measure:
    def measure(given: RunConfig, seconds: float) -> Timing:
        options = given.options
        setting = Setting(options.vector, options.device, options.threads)
        return Timing(setting, speeds.get(setting, 1.0))

    return measure


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_cores", lambda: 4)


def test_the_fastest_of_each_kind_is_chosen_with_the_best_before() -> None:
    speeds = {Setting("serial", "cpu", 1): 10.0, Setting("compiled", "cpu", 1): 30.0, Setting("compiled", "cpu", 4): 50}
    tuned = autotune(config(), measure=measured_as(speeds))
    assert tuned.chosen == Setting("compiled", "cpu", 4)
    tried = [timing.setting for timing in tuned.timings]
    assert tried == [
        Setting("serial", "cpu", 1), Setting("compiled", "cpu", 1), Setting("compiled", "cpu", 2),
        Setting("compiled", "cpu", 4), Setting("process", "cpu", 4),
    ]  # fmt: skip
    options = tuned.applied(config(seed=3)).options
    assert (options.vector, options.threads, options.num_envs, options.seed) == ("compiled", 4, 2, 3)


def test_a_tie_goes_to_serial_and_to_fewer_threads() -> None:
    speeds = {Setting("compiled", "cpu", 1): 1.04, Setting("serial", "cpu", 2): 1.04, Setting("serial", "cpu", 4): 1.04}
    assert autotune(config(), measure=measured_as(speeds)).chosen == Setting("serial", "cpu", 1)


def test_the_gpu_is_chosen_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_devices", lambda: ["cpu", "cuda"])
    on_gpu = Setting("serial", "cuda", 1)
    assert autotune(config(), measure=measured_as({on_gpu: 9.0})).chosen == on_gpu
    assert autotune(config(), measure=measured_as({})).chosen.device == "cpu"


def test_what_a_flag_says_stays() -> None:
    given = config(vector="process", threads=3)
    tuned = autotune(given, fixed=["vector", "threads"], measure=measured_as({}))
    assert [timing.setting for timing in tuned.timings] == [Setting("process", "cpu", 3)]


def test_a_process_of_its_own_is_not_tried_for_one_environment() -> None:
    tuned = autotune(config(env="LunarLander-v3", num_envs=1), fixed=["threads"], measure=measured_as({}))
    assert [timing.setting.vector for timing in tuned.timings] == ["serial"]


def test_a_setting_that_fails_is_told_and_not_chosen() -> None:
    def measure(given: RunConfig, seconds: float) -> Timing:
        if given.options.vector == "compiled":
            raise EnvironmentFault("no start states")
        return measured_as({})(given, seconds)

    tuned = autotune(config(), measure=measure)
    assert tuned.chosen == Setting("serial", "cpu", 1)
    assert "compiled  cpu           1           -  failed: no start states" in tuned.table()


def test_nothing_is_tried_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MEASURED_SECONDS", 0.0)
    clock = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    tuned = autotune(config(), measure=measured_as({}))
    assert tuned.chosen == Setting("serial", "cpu", 1)
    assert all(timing.note.startswith("not tried") for timing in tuned.timings[1:])


def test_nothing_is_begun_that_would_end_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each measurement takes 5 seconds here, whatever it was given: two after the first would be too many."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def measure(given: RunConfig, seconds: float) -> Timing:
        now[0] += 5.0
        return measured_as({})(given, seconds)

    tuned = autotune(config(), measure=measure)
    assert [timing.note for timing in tuned.timings] == ["", "", *["not tried, the time is over"] * 3]


def test_a_first_setting_that_fails_stops_with_its_own_error() -> None:
    def fail(given: RunConfig, seconds: float) -> Timing:
        raise EnvironmentFault("broken")

    with pytest.raises(EnvironmentFault, match="broken"):
        autotune(config(), measure=fail)


def test_the_first_of_equals_is_the_fastest() -> None:
    one, two = (Timing(Setting("serial", "cpu", count), 5.0) for count in (1, 2))
    assert fastest([one, two]) is one


def test_thread_counts_double_up_to_the_cores() -> None:
    assert [tuning._thread_counts(cores) for cores in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_first_updates_come_sooner_at_the_same_cost_of_a_step() -> None:
    ppo = tuning._shortened(PPOConfig(n_steps=2048, batch_size=64), num_envs=8)
    assert ppo == PPOConfig(n_steps=32, batch_size=64)
    assert tuning._shortened(PPOConfig(n_steps=4, batch_size=64), num_envs=8) == PPOConfig(n_steps=4, batch_size=64)
    dqn = tuning._shortened(DQNConfig(learning_starts=50_000, batch_size=32), num_envs=1)
    assert dqn == DQNConfig(learning_starts=32, batch_size=32)


def test_whole_cycles_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """PPO updates every 32 steps of two environments here, so whatever is timed is a multiple of 64."""
    marks: list[list[tuple[float, int]]] = []
    plain = tuning._Stopwatch.steps_per_second
    monkeypatch.setattr(
        tuning._Stopwatch, "steps_per_second", lambda self: (marks.append(self._updates), plain(self))[1]
    )
    timing = time_training(config(), 0.05)
    (start, first), (stop, last) = marks[0]
    assert (last - first) % 64 == 0
    assert timing.steps_per_second == pytest.approx((last - first) / (stop - start))


def test_an_agent_that_never_updates_is_timed_by_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_NO_UPDATE_SECONDS", 0.05)
    resolved = resolve("random", "CartPole-v1", preset="none")
    timing = time_training(resolved, 0.05)
    assert timing.steps_per_second > 0
    assert timing.note == "no update in this time"


def test_a_tuned_run_tells_trains_and_is_resumed_with_its_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning, "_cores", lambda: 1)
    monkeypatch.setattr(tuning, "_LONGEST_EACH", 0.1)
    run = tmp_path / "run"
    tiny = ["--agent.n-steps", "32", "--agent.batch-size", "16", "--agent.hidden", "8", "--preset", "none"]
    begin = ["train", "ppo", "--env", "CartPole-v1", "--num-envs", "4", "--total-steps", "256", "--run-dir", str(run)]
    assert main([*begin, *tiny, "--autotune", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "vector    device  threads     steps/s" in text
    assert text.count("<- chosen") == 1

    record = open_run(run).meta()["autotune"]
    options = stored_config(open_run(run)).options
    assert record["chosen"] == {"vector": options.vector, "device": "cpu", "threads": 1}
    assert [each["vector"] for each in record["measured"]] == ["serial", "compiled", "process"]
    assert record["measured"][0]["steps_per_second"] > 0

    monkeypatch.setattr("rlkit.cli.train.autotune", lambda *_, **__: pytest.fail("measured again"))
    assert main(["train", "--resume", str(run), "--total-steps", "512"]) == 0
    assert stored_config(open_run(run)).options.vector == options.vector
    assert json.loads((run / "meta.json").read_text())["autotune"] == record


def test_tuning_changes_nothing_that_is_learned(tmp_path: Path) -> None:
    """Measuring draws from no stream of the run."""
    plain, after = tmp_path / "plain", tmp_path / "after"
    rlkit.train("ppo", "CartPole-v1", total_steps=128, run_dir=plain, preset="none", agent_config=TINY, num_envs=2)
    time_training(config(), 0.02)
    rlkit.train("ppo", "CartPole-v1", total_steps=128, run_dir=after, preset="none", agent_config=TINY, num_envs=2)
    obs = np.zeros((1, 4), np.float32)
    weights = [rlkit.load(path).agent.actor.network.policy.numpy_forward(obs) for path in (plain, after)]
    np.testing.assert_array_equal(*weights)


def test_a_resumed_run_is_not_tuned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(tmp_path), "--autotune"]) == 2
    assert "leave --autotune out" in capsys.readouterr().err
