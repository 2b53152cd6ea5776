"""Minari's datasets in and out; needs the extra `offline`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_datasets import SPACES, bits, sampled, written

from rlkit.data import minari_exchange as exchange
from rlkit.data.datasets import EpisodeDataset
from rlkit.errors import UsageError

minari: Any = pytest.importorskip("minari")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


@pytest.mark.parametrize("name", ["box", "picture", "discrete", "multi-binary", "nested"])
def test_episodes_come_back_from_minari(name: str, tmp_path: Path) -> None:
    space, actions = SPACES[name], SPACES["discrete" if name == "box" else "box"]
    episodes = [sampled(space, actions, steps, seed) for seed, steps in enumerate((3, 1, 4))]
    dataset = EpisodeDataset(written(tmp_path / "d", episodes, space, actions))
    made = exchange.to_minari(dataset, "rlkit/test-v0", author="somebody")
    assert (made.total_episodes, made.total_steps) == (3, 8)
    again = exchange.from_minari("rlkit/test-v0", tmp_path / "again")
    assert [bits(episode) for episode in again] == [bits(episode) for episode in episodes]
    assert again.sources == [("rlkit/test-v0", "minari rlkit/test-v0")]
    with pytest.raises(UsageError, match="already"):
        exchange.to_minari(dataset, "rlkit/test-v0")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_others_gave_minari_can_be_read(tmp_path: Path) -> None:
    """Infos there have a row more, the reset's."""
    buffer = minari.data_collector.EpisodeBuffer(
        id=0, observations=[*np.zeros((4, 4), np.float32)], actions=[0, 1, 1], rewards=[1.0, 2.0, 3.0],
        terminations=[False] * 3, truncations=[False, False, True],
        infos={"x": [7, 8, 9, 10], "inner": {"y": [0, 1, 2, 3]}},
    )  # fmt: skip
    minari.create_dataset_from_buffers("cartpole/theirs-v0", [buffer], env="CartPole-v1")
    dataset = exchange.from_minari("cartpole/theirs-v0", tmp_path / "d")
    (episode,) = dataset
    assert (episode.rewards.tolist(), np.asarray(episode.actions).tolist()) == ([1, 2, 3], [0, 1, 1])
    assert (episode.terminated, episode.truncated) == (False, True)
    assert {key: values.tolist() for key, values in episode.infos.items()} == {"x": [8, 9, 10]}
    assert dataset.sources == [("CartPole-v1", "minari cartpole/theirs-v0")]


def test_a_dataset_that_minari_has_not_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="minari download"):
        exchange.from_minari("nobody/nothing-v0", tmp_path / "d")
