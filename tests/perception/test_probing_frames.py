"""Labelled frames: the label of each is of what it shows, and parts share neither episodes nor frames."""

from __future__ import annotations

from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from labelled import PIXELS, dot, features, recorded

import rlkit
from rlkit.data.datasets import DatasetWriter, EpisodeDataset
from rlkit.envs.make import make
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import DatasetError, MemoryBudgetError, UsageError
from rlkit.evaluation import played_steps
from rlkit.perception.probing import frames as probing
from rlkit.perception.probing.linear_probe import LinearProbe
from rlkit.perception.probing.probe import probe
from rlkit.recording import recorded_episodes


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def walks(count: int, length: int, seed: int = 0) -> list[list[int]]:
    return rng(seed).integers(0, 64, (count, length)).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_every_episode_is_in_exactly_one_part_and_parts_have_their_share_of_steps(seed: int) -> None:
    lengths = rng(seed).integers(1, 200, int(rng(seed).integers(3, 60)))
    parts = probing.split_episodes(lengths, probing.SHARES, rng(seed))
    assert sorted(np.concatenate(parts)) == list(range(len(lengths)))
    assert all(len(part) for part in parts)
    assert all((np.diff(part) > 0).all() for part in parts)
    if len(lengths) > 20:
        for part, share in zip(parts, probing.SHARES, strict=True):
            assert abs(lengths[part].sum() - share * lengths.sum()) <= lengths.max()


def test_a_part_is_never_empty_even_where_one_episode_has_nearly_all_steps() -> None:
    for seed in range(10):
        parts = probing.split_episodes(np.array([1, 10_000, 1]), probing.SHARES, rng(seed))
        assert [len(part) for part in parts] == [1, 1, 1]


def test_too_few_episodes_and_wrong_shares_are_refused() -> None:
    with pytest.raises(UsageError, match="2 episodes cannot be split into 3 parts"):
        probing.split_episodes(np.array([5, 5]), probing.SHARES, rng())
    for shares in ((0.5, 0.1, 0.1), (1.2, -0.3, 0.1)):
        with pytest.raises(UsageError, match="positive and add up to 1"):
            probing.split_episodes(np.full(9, 5), shares, rng())


def test_a_label_belongs_to_the_observation_after_its_step(tmp_path: Path) -> None:
    places = walks(4, 7)
    found = probing.labelled_frames(recorded(tmp_path, places), [2, 0], rng())
    shown = places[0][1:] + places[2][1:]  # the first observation of each has no label
    assert np.array_equal(found.inputs, [dot(place) for place in shown])
    assert set(found.labels) == {"agent/row", "agent/column"}, "other infos are no labels"
    assert (found.labels["agent/row"] * 8 + found.labels["agent/column"]).tolist() == shown
    assert found.episodes.tolist() == [0] * 6 + [2] * 6


def test_of_too_many_frames_some_are_drawn_with_their_labels(tmp_path: Path) -> None:
    dataset = recorded(tmp_path, walks(5, 21))
    all_of_them = probing.labelled_frames(dataset, range(5), rng())
    some = probing.labelled_frames(dataset, range(5), rng(), max_frames=30)
    assert (len(all_of_them), len(some)) == (100, 30)
    shown = some.inputs.reshape(30, 64).argmax(axis=1)
    assert (some.labels["agent/row"] * 8 + some.labels["agent/column"]).tolist() == shown.tolist()
    assert len(set(some.episodes.tolist())) > 2
    assert (np.diff(some.episodes) >= 0).all()


def test_the_picture_of_a_dict_is_found_by_its_key(tmp_path: Path) -> None:
    space = spaces.Dict(picture=PIXELS, time=spaces.Discrete(100))
    dataset = recorded(tmp_path, walks(2, 5), space)
    assert probing.labelled_frames(dataset, [1], rng(), part=("picture",)).inputs.shape == (4, 8, 8)
    assert probing.labelled_frames(dataset, [1], rng(), part=("time",)).inputs.tolist() == [1, 2, 3, 4]
    with pytest.raises(UsageError, match=r"no part \(\); theirs are \('picture',\), \('time',\)"):
        probing.labelled_frames(dataset, [1], rng())


def test_parts_share_no_episode_and_no_frame(tmp_path: Path) -> None:
    """64 places, 30 episodes of 5 labelled frames: many a frame would be in two parts."""
    dataset = recorded(tmp_path, walks(30, 6))
    parts = probing.probing_parts(dataset, rng())
    for one, other in combinations(parts, 2):
        assert not set(one.episodes.tolist()) & set(other.episodes.tolist())
        assert not {frame.tobytes() for frame in one.inputs} & {frame.tobytes() for frame in other.inputs}
    assert len(parts.train) == 105
    assert 0 < len(parts.test) < 30
    shown = parts.test.inputs.reshape(-1, 64).argmax(axis=1)
    assert (parts.test.labels["agent/row"] * 8 + parts.test.labels["agent/column"]).tolist() == shown.tolist()


def test_frames_are_left_out_only_where_every_byte_is_the_same() -> None:
    mine = features(np.stack([dot(1), dot(2), dot(3), dot(2)]), place=np.array([1, 2, 3, 2]))
    others = (features(np.stack([dot(2)]), place=np.array([2])), features(dot(3)[None] + 1, place=np.array([9])))
    assert probing.without_frames_of(mine, others).labels["place"].tolist() == [1, 3]


def test_nothing_left_to_test_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="also in training"):
        probing.probing_parts(recorded(tmp_path, [[0, 1, 2, 3, 4, 5] * 4] * 12), rng())


def test_variables_that_tell_too_little_are_left_out(tmp_path: Path) -> None:
    """Entropy of 1 in 4: 0.562 nats; of 2 in 4: 0.693."""
    steps, episodes = 40, 20
    quarter = dict.fromkeys(range(episodes), np.tile([0, 0, 0, 7], steps // 4))
    half = dict.fromkeys(range(episodes), np.tile([0, 7], steps // 2))
    still, moving = (dict.fromkeys(range(episodes), values) for values in (np.ones(steps), np.linspace(0, 1, steps)))
    dataset = recorded(
        tmp_path, rng().integers(0, 64, (episodes, steps + 1)).tolist(),
        **{"display/quarter": quarter, "display/half": half, "motion/still": still, "motion/moving": moving},
    )  # fmt: skip
    every = [probing.labelled_frames(dataset, range(episodes), rng())]
    names = {"agent/row", "agent/column", "display/half", "motion/moving"}
    assert set(probing.telling_labels(every, 0.6)) == names
    assert set(probing.telling_labels(every, 0.5)) == names | {"display/quarter"}
    with pytest.raises(UsageError, match="none of the 6 variables changes enough"):
        probing.probing_parts(
            recorded(
                tmp_path / "same", [[5] * 3] * 6,
                **{name: dict.fromkeys(range(6), np.zeros(2)) for name in ("a", "b", "c", "d")},
            ),
            rng(),
        )  # fmt: skip


def test_datasets_without_labels_are_refused_with_the_wrapper_to_use(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "plain", PIXELS, spaces.Discrete(2), env="Dots", made_by="a test") as writer:
        for episode in recorded(tmp_path / "labelled", walks(3, 4)):
            writer.add(type(episode)(episode.observations, episode.actions, episode.rewards, False, True))
    with pytest.raises(UsageError, match=r"episode 0 of .* has no labels.*--wrap simulator-state"):
        probing.labelled_frames(EpisodeDataset(tmp_path / "plain"), [0], rng())


def test_episodes_that_tell_different_variables_are_refused(tmp_path: Path) -> None:
    recorded(tmp_path, walks(2, 4))
    more = recorded(tmp_path / "more", walks(1, 4), **{"agent/room": {0: np.zeros(3)}})
    with DatasetWriter(
        tmp_path, PIXELS, spaces.Discrete(2), env="Dots", made_by="a test", append=True
    ) as writer:  # fmt: skip
        writer.add(more[0])
    with pytest.raises(DatasetError, match="different variables: agent/column, agent/room, agent/row"):
        probing.labelled_frames(EpisodeDataset(tmp_path), range(3), rng())


def test_frames_that_do_not_fit_into_memory_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = recorded(tmp_path, walks(3, 11))
    monkeypatch.setattr("rlkit.data.memory.available_bytes", lambda: 1000)
    with pytest.raises(MemoryBudgetError, match="max_frames"):
        probing.labelled_frames(dataset, range(3), rng())
    assert len(probing.labelled_frames(dataset, range(3), rng(), max_frames=15)) == 15


def test_labels_must_be_one_number_for_each_frame() -> None:
    for wrong in (np.zeros(3), np.zeros((4, 2)), np.array(["a"] * 4)):
        with pytest.raises(DatasetError, match="one number for each"):
            features(np.zeros((4, 2)), place=wrong)


def test_recorded_cartpole_is_probed_for_its_physics_and_its_own_observations_tell_all(tmp_path: Path) -> None:
    envs = make("CartPole-v1", wrappers=[resolve_wrapper("simulator-state")])
    steps = played_steps(rlkit.make("random", "CartPole-v1", seed=0), envs, seed=0)
    space = envs.single_observation_space
    with DatasetWriter(tmp_path, space, envs.single_action_space, env="CartPole-v1", made_by="random") as writer:
        for episode in islice(recorded_episodes(steps, space), 30):
            writer.add(episode)
    parts = probing.probing_parts(EpisodeDataset(tmp_path), rng())
    table = probe(*parts, LinearProbe())
    assert set(table.variables) == {
        "agent/cart_position", "agent/pole_angle", "motion/cart_velocity", "motion/pole_angular_velocity"
    }  # fmt: skip
    assert all(scores["r_squared"] > 0.99999 for scores in table.variables.values())
    blind = [part.encoded(part.inputs[:, [0, 2]]) for part in parts]  # positions alone
    assert probe(*blind, LinearProbe()).categories()["motion"]["r_squared"] < 0.8
