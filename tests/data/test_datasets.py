"""The dataset of episodes: what goes in comes out, nothing is overwritten, and damage is told by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlkit.codec import Encoder
from rlkit.data.datasets import MANIFEST, DatasetWriter, Episode, EpisodeDataset
from rlkit.data.minari_exchange import from_minari
from rlkit.data.space_json import space_from_json, space_to_json
from rlkit.errors import DatasetError, MissingExtraError, RlkitError, UnsupportedTaskError, UsageError

Space = gymnasium.Space[Any]
SPACES: dict[str, Space] = {
    "box": spaces.Box(-1, 1, (3,)),
    "unbounded": spaces.Box(np.array([-np.inf, 0], np.float32), np.array([1.5, np.inf], np.float32)),
    "float64": spaces.Box(-0.1, 0.3, (2, 2), np.float64),
    "picture": spaces.Box(0, 255, (4, 5, 3), np.uint8),
    "scalar": spaces.Box(-1, 1, ()),
    "discrete": spaces.Discrete(5, start=-2),
    "multi-discrete": spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [0, 2]]),
    "multi-binary": spaces.MultiBinary(4),
    "binary rows": spaces.MultiBinary([2, 3]),
    "dict": spaces.Dict([("b", spaces.Discrete(3)), ("a/x", spaces.Box(0, 1, (2,)))]),
    "nested": spaces.Tuple([spaces.Dict(p=spaces.Tuple([spaces.Discrete(2)])), spaces.MultiBinary(2)]),
}
BOX, DISCRETE = SPACES["box"], SPACES["discrete"]


def stacked(space: Space, values: list[Any]) -> Any:
    """A list of samples as a tree of arrays."""
    if isinstance(space, spaces.Dict):
        return {key: stacked(child, [value[key] for value in values]) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stacked(child, [value[i] for value in values]) for i, child in enumerate(space.spaces))
    return np.stack([np.asarray(value, space.dtype) for value in values])


def sampled(observation_space: Space, action_space: Space, steps: int, seed: int, **infos: Any) -> Episode:
    observation_space.seed(seed)
    action_space.seed(seed)
    observations = stacked(observation_space, [observation_space.sample() for _ in range(steps + 1)])
    actions = stacked(action_space, [action_space.sample() for _ in range(steps)])
    rewards = np.random.default_rng(seed).standard_normal(steps)
    return Episode(observations, actions, rewards, seed % 3 == 0, seed % 3 == 1, infos)


def written(folder: Path, episodes: list[Episode], space: Space = BOX, actions: Space = DISCRETE, **more: Any) -> Path:
    with DatasetWriter(folder, space, actions, env="Some-v0", made_by="a test", **more) as writer:
        for episode in episodes:
            writer.add(episode)
    return folder


def bits(episode: Episode) -> Any:
    fields = {name: getattr(episode, name) for name in Episode.__slots__}
    encoder = Encoder()
    return encoder.encode(fields), {name: (array.dtype, array.tobytes()) for name, array in encoder.arrays.items()}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_space_comes_back_equal_with_the_same_order(space: Space) -> None:
    text = json.dumps(space_to_json(space), allow_nan=False)
    again = space_from_json(json.loads(text))
    assert again == space
    assert json.dumps(space_to_json(again)) == text


@pytest.mark.parametrize("name", SPACES)
def test_episodes_come_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    space, actions = SPACES[name], SPACES["box" if name == "discrete" else name]
    episodes = [sampled(space, actions, steps, seed) for seed, steps in enumerate((3, 1, 7))]
    dataset = EpisodeDataset(written(tmp_path / "d", episodes, space, actions))
    assert [bits(episode) for episode in dataset] == [bits(episode) for episode in episodes]
    assert (dataset.observation_space, dataset.action_space) == (space, actions)
    assert dataset.lengths.tolist() == [3, 1, 7]
    assert dataset.returns.tolist() == [episode.total_reward for episode in episodes]
    assert dataset.terminated.tolist() == [True, False, False]
    assert dataset.truncated.tolist() == [False, True, False]


@pytest.mark.parametrize("in_memory", [False, True])
def test_shards_are_read_in_any_order(in_memory: bool, tmp_path: Path) -> None:
    episodes = [sampled(BOX, DISCRETE, 5, seed) for seed in range(9)]
    folder = written(tmp_path / "d", episodes, shard_bytes=500)
    assert len(list(folder.glob("*.npz"))) > 2
    dataset = EpisodeDataset(folder, in_memory=in_memory)
    for index in (8, 0, 4, 4, 7, 1):
        assert bits(dataset[index]) == bits(episodes[index])
    with pytest.raises(IndexError):
        dataset[9]
    dataset.verify()


def test_infos_are_kept_also_where_episodes_have_different_ones(tmp_path: Path) -> None:
    infos: list[dict[str, Any]] = [
        {"lives": np.array([3, 2]), "event": np.array(["", "goal"])},
        {"lives": np.array([1, 1]), "event": np.array(["a long word", "x"])},
        {"force": np.ones((2, 3), np.float32)},
        {},
    ]
    episodes = [sampled(BOX, DISCRETE, 2, seed, **infos[seed]) for seed in range(4)]
    for found, told in zip(EpisodeDataset(written(tmp_path / "d", episodes)), infos, strict=True):
        assert found.infos.keys() == told.keys()
        assert all((found.infos[key] == told[key]).all() for key in told)


def test_the_manifest_is_not_written_anew_for_each_episode_with_other_infos(tmp_path: Path) -> None:
    episodes = [sampled(BOX, DISCRETE, 2, seed, **({"lives": np.ones(2)} if seed % 2 else {})) for seed in range(6)]
    with DatasetWriter(tmp_path / "d", BOX, DISCRETE, env="", made_by="") as writer:
        for episode in episodes:
            writer.add(episode)
        assert not (tmp_path / "d" / MANIFEST).exists(), "many episodes would be a square of that"
    assert [len(episode.infos) for episode in EpisodeDataset(tmp_path / "d")] == [0, 1, 0, 1, 0, 1]


def test_the_same_episodes_give_the_same_files(tmp_path: Path) -> None:
    episodes = [sampled(BOX, DISCRETE, 4, seed) for seed in range(3)]
    first, second = written(tmp_path / "a", episodes), written(tmp_path / "b", episodes)
    assert {f.name: f.read_bytes() for f in first.iterdir()} == {f.name: f.read_bytes() for f in second.iterdir()}
    assert EpisodeDataset(first).digest == EpisodeDataset(second).digest


def test_append_adds_and_keeps_what_was_there(tmp_path: Path) -> None:
    episodes = [sampled(BOX, DISCRETE, 4, seed) for seed in range(4)]
    folder = written(tmp_path / "d", episodes[:2])
    before = {file.name: file.read_bytes() for file in folder.glob("*.npz")}
    digest = EpisodeDataset(folder).digest
    written(folder, episodes[2:], append=True)
    assert all((folder / name).read_bytes() == content for name, content in before.items())
    dataset = EpisodeDataset(folder)
    assert [bits(episode) for episode in dataset] == [bits(episode) for episode in episodes]
    assert dataset.sources == [("Some-v0", "a test")]
    assert dataset.digest != digest


def test_append_also_begins_a_dataset_and_an_empty_one_is_one(tmp_path: Path) -> None:
    assert len(EpisodeDataset(written(tmp_path / "d", [], append=True))) == 0


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = written(tmp_path / "d", [sampled(BOX, DISCRETE, 4, 0)])
    with pytest.raises(UsageError, match="--append"):
        written(folder, [])
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("!")
    with pytest.raises(UsageError, match="holds no dataset"):
        written(tmp_path / "other", [])
    with pytest.raises(UsageError, match="observation space of the dataset"):
        written(folder, [], SPACES["picture"], append=True)


def test_two_writers_do_not_lose_each_others_episodes(tmp_path: Path) -> None:
    folder = written(tmp_path / "d", [sampled(BOX, DISCRETE, 4, 0)])
    late = DatasetWriter(folder, BOX, DISCRETE, env="Some-v0", made_by="late", append=True)
    late.add(sampled(BOX, DISCRETE, 4, 1))
    written(folder, [sampled(BOX, DISCRETE, 4, 2)], append=True)
    with pytest.raises(DatasetError, match="changed by another process"):
        late.close()
    assert len(EpisodeDataset(folder)) == 2


def test_an_error_while_writing_keeps_full_shards_only(tmp_path: Path) -> None:
    episodes = [sampled(BOX, DISCRETE, 5, seed) for seed in range(5)]
    size = 2 * sum(array.nbytes for array in (episodes[0].observations, episodes[0].actions, episodes[0].rewards))

    def killed() -> None:
        with DatasetWriter(tmp_path / "d", BOX, DISCRETE, env="", made_by="", shard_bytes=size) as writer:
            for episode in episodes:
                writer.add(episode)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert len(EpisodeDataset(tmp_path / "d", in_memory=True)) == 4


GOOD = sampled(BOX, DISCRETE, 3, 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rewards": np.array([0.0, np.nan, 0.0])}, "finite rewards"),
        ({"rewards": np.array([])}, "T >= 1"),
        ({"rewards": np.zeros(4)}, "observations (whole) of an episode of 4 steps"),
        ({"actions": np.zeros(3)}, "actions (whole) of an episode of 3 steps are float64 [3], they must be int64"),
        ({"observations": np.zeros((4, 2))}, "must be float32 [4, 3]"),
        ({"actions": np.array([0, -5, 1])}, "actions (whole) of an episode have -5, which is not in Discrete("),
        ({"actions": np.array([0, 9, 1])}, "have 9, which is not in Discrete("),
        ({"infos": {"x": np.zeros(2)}}, "one row for each step"),
        ({"infos": {"x": 3}}, "one row for each step"),
        ({"infos": {"x": [[1], [1, 2], [3]]}}, "is object"),
        ({"infos": {"x": np.array([None, 1, 2])}}, "is object"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_an_episode_that_does_not_fit_is_refused(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    fields = {name: getattr(GOOD, name) for name in Episode.__slots__}
    with (
        DatasetWriter(tmp_path / "d", BOX, DISCRETE, env="", made_by="") as writer,
        pytest.raises(DatasetError) as error,
    ):
        writer.add(Episode(**fields | change))
    assert told in str(error.value)


def test_what_is_added_is_kept_as_it_was(tmp_path: Path) -> None:
    observations, rewards = np.array(GOOD.observations), np.array(GOOD.rewards)
    with DatasetWriter(tmp_path / "d", BOX, DISCRETE, env="", made_by="") as writer:
        writer.add(Episode(observations, GOOD.actions, rewards, True, False))
        observations[:], rewards[:] = 0, 0  # arrays that the next episode is collected in
        writer.add(Episode(GOOD.observations, GOOD.actions, GOOD.rewards.tolist(), True, False))  # type: ignore[arg-type]
    dataset = EpisodeDataset(tmp_path / "d")
    for episode, total in zip(dataset, dataset.returns, strict=True):
        assert np.array_equal(np.asarray(episode.observations), np.asarray(GOOD.observations))
        assert episode.total_reward == total == GOOD.total_reward


def test_a_folder_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot create the dataset's folder .*file: "):
        DatasetWriter(tmp_path / "file", BOX, DISCRETE, env="", made_by="")


def test_a_missing_part_of_an_observation_is_named(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "d", SPACES["dict"], DISCRETE, env="", made_by="")
    with pytest.raises(DatasetError, match="have no b"):
        writer.add(Episode({"a/x": np.zeros((4, 2), np.float32)}, GOOD.actions, GOOD.rewards, True, False))


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        change(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return edit


def _truncate(folder: Path) -> None:
    (shard,) = folder.glob("*.npz")
    shard.write_bytes(shard.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: next(folder.glob("*.npz")).unlink(), "cannot be read"),
        (_truncate, "is damaged"),
        (lambda folder: (folder / MANIFEST).unlink(), "there is no dataset"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "is damaged"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "is damaged"),
        (_edit(lambda manifest: manifest.update(schema=2)), "newer rlkit"),
        (_edit(lambda manifest: manifest.update(more=1)), "unknown or missing keys"),
        (_edit(lambda manifest: manifest["shards"][0].update(file="../../x.npz")), "a file outside"),
        (_edit(lambda manifest: manifest["shards"][0]["episodes"].pop()), "does not hold what"),
        (_edit(lambda manifest: manifest["shards"][0]["episodes"][0].update(length="3")), "damaged"),
        (_edit(lambda manifest: manifest["observation_space"].update(kind="os.system")), "description of a space"),
        (_edit(lambda manifest: manifest["observation_space"].update(dtype="O")), "description of a space"),
        (_edit(lambda manifest: manifest["observation_space"].update(shape=[4])), "does not hold what"),
        (_edit(lambda manifest: manifest["action_space"].update(start=9)), "which is not in Discrete("),
    ],
)
def test_damage_is_told_by_a_named_error(damage: Callable[[Path], None], told: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "d", [sampled(BOX, DISCRETE, 3, seed) for seed in range(2)])
    damage(folder)
    with pytest.raises((DatasetError, UsageError)) as error:
        EpisodeDataset(folder).verify()
    assert told in str(error.value)
    assert isinstance(error.value, RlkitError)


def test_a_space_without_a_fixed_shape_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedTaskError, match="Allowed: Box"):
        DatasetWriter(tmp_path / "d", spaces.Text(5), DISCRETE, env="", made_by="")
    assert not (tmp_path / "d").exists()


def test_minari_names_its_extra_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(MissingExtraError, match="offline"):
        from_minari("any/thing-v0", tmp_path / "d")
