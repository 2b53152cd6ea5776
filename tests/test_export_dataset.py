"""`rlkit export-dataset`: the episodes of a run's policy, with the environment's own observations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import rlkit
from rlkit.cli.main import main
from rlkit.data.datasets import EpisodeDataset
from rlkit.errors import UsageError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    small = {"hidden": (8,), "n_steps": 32, "batch_size": 16, "epochs": 1}
    rlkit.train(
        "ppo", "CartPole-v1", total_steps=128, run_dir=folder, preset="none", agent_config=small, eval_every=64,
        eval_episodes=1, wrap=("normalize-observation",),
    )  # fmt: skip
    return folder


def test_the_episodes_are_those_of_an_evaluation(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "d"
    assert main(["export-dataset", str(run), "--episodes", "4", "--seed", "3", "--out", str(out)]) == 0
    dataset = EpisodeDataset(out)
    result = rlkit.evaluate(run, episodes=4, seed=3)
    assert dataset.returns.tolist() == list(result.returns)
    assert f"{out}: 4 episodes of mean return {result.mean:.2f}" in capsys.readouterr().out
    assert dataset.terminated.all()
    ((env, made_by),) = dataset.sources
    assert env == "CartPole-v1"
    assert made_by == f"latest policy of {run} at step 128"


def test_observations_are_those_before_normalisation(run: Path, tmp_path: Path) -> None:
    dataset = rlkit.export_dataset(run, tmp_path / "d", episodes=2, explore=True)
    assert "exploring" in dataset.sources[0][1]
    assert dataset.observation_space == rlkit.load(run).raw_envs.single_observation_space
    for episode in dataset:
        observations = np.asarray(episode.observations)
        assert observations.shape == (len(episode) + 1, 4)
        assert (np.abs(observations[0]) <= 0.05).all(), "where CartPole begins"
        # position moves by velocity times 0.02 seconds
        np.testing.assert_allclose(np.diff(observations[:, 0]), 0.02 * observations[:-1, 1], atol=1e-6)


def test_by_default_it_lies_in_the_run_and_append_adds(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export-dataset", str(run), "--episodes", "2", "--checkpoint", "best"]) == 0
    assert main(["export-dataset", str(run), "--episodes", "2"]) == 2
    assert "--append" in capsys.readouterr().err
    more = ["--episodes", "3", "--append", "--seed", "9", "--stochastic"]
    assert main(["export-dataset", str(run), *more]) == 0
    assert "with those before 5 episodes" in capsys.readouterr().out
    dataset = EpisodeDataset(run / "dataset")
    assert len(dataset) == 5
    assert [made_by.split()[0] for _, made_by in dataset.sources] == ["best", "latest"]


def test_wrong_usage_writes_nothing(run: Path, tmp_path: Path) -> None:
    assert main(["export-dataset", str(run), "--episodes", "0", "--out", str(tmp_path / "d")]) == 2
    assert main(["export-dataset", str(tmp_path / "no"), "--out", str(tmp_path / "d")]) == 2
    with pytest.raises(UsageError, match="allowed: latest, best"):
        rlkit.export_dataset(run, tmp_path / "d", checkpoint="worst")
    assert not (tmp_path / "d").exists()


def test_inspect_tells_what_a_dataset_holds(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "d"
    dataset = rlkit.export_dataset(run, out, episodes=3)
    assert main(["inspect", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"3 episodes, {dataset.lengths.sum():,} steps" in told
    assert "CartPole-v1, latest policy" in told
    assert main(["inspect", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["state"] == "verified"
    assert facts["returns"]["mean"] == pytest.approx(dataset.returns.mean())
    shard = next(out.glob("*.npz"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert main(["inspect", str(out)]) == 1
    assert "damaged" in capsys.readouterr().out
