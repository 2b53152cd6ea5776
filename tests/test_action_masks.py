"""The loop, evaluation and `predict` hand masks to the agent, and a resumed run has the one it stopped with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlkit
from rlkit.agents.random import RandomAgent
from rlkit.checkpoint import load_checkpoint
from rlkit.errors import EnvironmentFault, UsageError
from rlkit.types import Transition

SAMPLES = Path(__file__).parent / "envs" / "env_samples.py"
MASKED = f"{SAMPLES}:Masked"
QUIET: dict[str, Any] = {"preset": "none", "eval_every": 0}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Transition]:
    """Every transition that the agent observes."""
    steps: list[Transition] = []
    monkeypatch.setattr(RandomAgent, "observe", lambda self, step, carry: steps.append(step))
    return steps


def session_of(run: Path) -> Mapping[str, Any]:
    checkpoint = load_checkpoint(sorted((run / "checkpoints").glob("step-*"))[-1])
    assert checkpoint.training is not None
    session: Mapping[str, Any] = checkpoint.training["session"]
    return {key: value for key, value in session.items() if key not in ("seconds", "hooks", "metrics")}


@pytest.mark.parametrize(("gives", "vector"), [("info", "serial"), ("info", "process"), ("observation", "serial")])
def test_transitions_carry_the_mask_before_and_the_mask_after(
    gives: str, vector: str, seen: list[Transition], tmp_path: Path
) -> None:
    rlkit.train(
        "random", MASKED, total_steps=80, num_envs=2, vector=vector, env_args=(f"gives={gives}",),
        run_dir=tmp_path / "run", **QUIET,
    )  # fmt: skip
    assert len(seen) == 40
    rows = np.arange(2)
    for step, following in zip(seen, [*seen[1:], None], strict=True):
        assert step.action_mask is not None
        assert step.next_action_mask is not None
        assert step.action_mask[rows, step.action - 1].all()
        assert step.next_action_mask[step.terminated].all()
        if following is not None:
            assert (following.action_mask[~step.ended] == step.next_action_mask[~step.ended]).all()
    assert any(step.terminated.any() for step in seen)
    assert any(step.truncated.any() for step in seen)
    if gives == "observation":
        assert all((step.obs["action_mask"] == step.action_mask).all() for step in seen)


def test_transitions_without_masks_carry_none(seen: list[Transition], tmp_path: Path) -> None:
    rlkit.train("random", "CartPole-v1", total_steps=60, run_dir=tmp_path / "run", **QUIET)
    assert all(step.action_mask is None and step.next_action_mask is None for step in seen)


@pytest.mark.parametrize(
    ("env", "options"),
    [
        ("Taxi-v4", {}),
        (MASKED, {"num_envs": 3}),
        (MASKED, {"env_args": ("gives=observation",), "wrap": ("normalize-observation",)}),
        (f"{SAMPLES}:MaskedParts", {}),
    ],
    ids=["taxi", "info", "observation", "two-components"],
)
def test_a_run_in_two_parts_has_the_bits_of_the_whole(env: str, options: dict[str, Any], tmp_path: Path) -> None:
    whole = rlkit.train("random", env, total_steps=90, run_dir=tmp_path / "whole", **QUIET, **options)
    rlkit.train("random", env, total_steps=30, run_dir=tmp_path / "part", **QUIET, **options)
    assert session_of(tmp_path / "part")["action_mask"] is not None
    resumed = rlkit.resume(tmp_path / "part", total_steps=90)
    np.testing.assert_equal(session_of(resumed.run_dir), session_of(whole.run_dir))


def test_a_run_that_begins_new_episodes_begins_with_their_masks(seen: list[Transition], tmp_path: Path) -> None:
    env = f"{SAMPLES}:MaskedHidden"  # raises where a forbidden action is taken
    for total in (31, 62, 93):
        run = tmp_path / "run"
        if run.exists():
            rlkit.resume(run, total_steps=total)
        else:
            rlkit.train("random", env, total_steps=total, run_dir=run, **QUIET)
    assert len(seen) == 93
    assert not all(step.action_mask.all() for step in seen if step.action_mask is not None)


def test_a_checkpoint_from_before_masks_were_saved_still_loads(tmp_path: Path) -> None:
    from rlkit.loop import Session
    from rlkit.types import Task

    agent_task = Task(None, None)  # type: ignore[arg-type]
    session = Session(agent_task, 10, [], np.random.default_rng(0))
    old = {key: value for key, value in session.state().items() if key != "action_mask"}
    again = Session(agent_task, 10, [], np.random.default_rng(1))
    again.load_state(old)
    assert again.action_mask is None


def test_evaluation_heeds_masks_also_after_cut_episodes(tmp_path: Path) -> None:
    run = rlkit.train("random", MASKED, total_steps=20, run_dir=tmp_path / "run", **QUIET).run_dir
    result = rlkit.evaluate(run, episodes=20)  # Masked raises where a forbidden action is taken
    assert result.lengths == (7,) * 20
    policy = rlkit.load(run)
    policy._limit = 3
    assert policy.evaluate(episodes=20).cut == 20


def test_predict_takes_the_mask_as_an_argument_or_from_the_observation(tmp_path: Path) -> None:
    run = rlkit.train("random", MASKED, total_steps=20, run_dir=tmp_path / "info", **QUIET).run_dir
    policy, obs = rlkit.load(run), np.zeros((3, 2), np.float32)
    mask = np.eye(4, dtype=np.int8)[:3]
    assert policy.predict(obs, action_mask=mask).tolist() == [1, 2, 3]
    assert policy.predict(obs[0], action_mask=mask[2]) == 3
    assert set(policy.predict(np.zeros((100, 2), np.float32)).tolist()) == {1, 2, 3, 4}
    with pytest.raises(UsageError, match="observation 1: its action mask forbids every action"):
        policy.predict(obs, action_mask=np.array([[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]))
    with pytest.raises(UsageError, match="2 action masks for 3 observations"):
        policy.predict(obs, action_mask=mask[:2])
    observed = rlkit.train(
        "random", MASKED, total_steps=20, run_dir=tmp_path / "observed", env_args=("gives=observation",), **QUIET
    )
    single = {"place": obs[0], "action_mask": np.array([0, 0, 1, 0], np.int8)}
    assert rlkit.load(observed.run_dir).predict(single) == 3


def test_a_mask_that_forbids_everything_stops_the_run_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="environment 0 failed in step 2: its action mask forbids every action"):
        rlkit.train(
            "random", MASKED, total_steps=60, num_envs=2, env_args=("gives=nothing",), run_dir=tmp_path / "run", **QUIET
        )
