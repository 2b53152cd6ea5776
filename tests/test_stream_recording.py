"""Recorded streams: the same for the same seed, labels beside their frames, and one's own environment."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlkit
from rlkit.data.datasets import EpisodeDataset
from rlkit.data.events import event_labels
from rlkit.envs.streams import STREAMS
from rlkit.errors import EnvironmentFault, UnknownNameError, UsageError
from rlkit.seeding import generator, row_seed
from rlkit.stream_recording import StreamSource, record_stream, stream_classes

OWN = """
from typing import Any
import gymnasium as gym
import numpy as np
from gymnasium import spaces

class Counting(gym.Env):
    '''Observation is the number of the step; the event is told where it is odd.'''
    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def told(self):
        return {"events/odd": self.steps % 2, "secret": 1.0}

    def step(self, action):
        self.steps += 1
        return np.full(1, self.steps, np.float32), float(action), False, self.steps == 7, self.told()

class Declared(Counting):
    event_classes = ("background", "odd", "even")

class Both(Declared):
    def told(self):
        return {"events/odd": 1, "events/even": 1}

class Free(Both):
    event_classes = ("odd", "even")

class Changing(Counting):
    def told(self):
        return {"events/odd": 1} if self.steps < 3 else {"events/even": 1}

class Grades(Counting):
    def told(self):
        return {"events/odd": self.steps}

class Silent(Counting):
    def told(self):
        return {"lives": 3}
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "own_stream.py"
    file.write_text(OWN)
    return str(file)


def assert_same(first: EpisodeDataset, second: EpisodeDataset) -> None:
    assert first.lengths.tolist() == second.lengths.tolist()
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(np.asarray(one.observations), np.asarray(other.observations))
        assert np.array_equal(np.asarray(one.actions), np.asarray(other.actions))
        assert all(np.array_equal(one.infos[key], other.infos[key]) for key in one.infos)


def test_a_recording_is_the_same_for_the_same_seed_and_differs_for_another(tmp_path: Path) -> None:
    for name in ("a", "b"):
        record_stream("faults-pendulum", tmp_path / name, episodes=2, seed=3)
    assert_same(EpisodeDataset(tmp_path / "a"), EpisodeDataset(tmp_path / "b"))
    other = record_stream("faults-pendulum", tmp_path / "c", episodes=2, seed=4)
    firsts = {episode.observations[0].tobytes() for data in (EpisodeDataset(tmp_path / "a"), other) for episode in data}  # type: ignore[index, union-attr]
    assert len(firsts) == 4, "no two episodes begin alike"


def test_labels_and_actions_stand_beside_the_frames_that_they_led_to(tmp_path: Path) -> None:
    episode = record_stream("faults-pendulum", tmp_path, episodes=1, seed=0)[0]
    stream = STREAMS["faults-pendulum"]
    labels = event_labels(episode.infos, stream.classes)
    seed = row_seed(0, 0)
    env = stream.make()
    obs, _ = env.reset(seed=seed)
    act = stream.behaviour(env, generator(seed, "behaviour"))
    for step in range(len(episode)):
        obs, _, _, _, info = env.step(action := act(obs))
        assert np.array_equal(np.asarray(episode.observations)[step + 1], obs)
        assert np.array_equal(np.asarray(episode.actions)[step], action)
        assert [bool(value) for value in labels[step, 1:]] == [bool(info[f"events/{k}"]) for k in stream.classes[1:]]
    assert (labels.sum(axis=1) == 1).all()
    assert (episode.terminated, episode.truncated) == (False, True)


def test_frames_are_counted_without_the_first_observation_and_the_last_episode_is_cut(tmp_path: Path) -> None:
    dataset = record_stream("faults-pendulum", tmp_path, frames=450)
    assert dataset.lengths.tolist() == [200, 200, 50]
    assert dataset.truncated.tolist() == [True, True, False]
    assert not dataset.terminated.any()
    assert dataset.sources == [("faults-pendulum", "the stream's own behaviour")]


def test_progress_and_prevalence_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        dataset = record_stream("faults-pendulum", tmp_path, episodes=2)
    lines = [record.getMessage() for record in caplog.records if record.name == "rlkit.stream_recording"]
    assert lines[:2] == [
        "faults-pendulum: 1 of 2 episodes, 200 frames",
        "faults-pendulum: 2 of 2 episodes, 400 frames",
    ]
    labels = np.concatenate([event_labels(each.infos, STREAMS["faults-pendulum"].classes) for each in dataset])
    assert lines[2].startswith(f"faults-pendulum: 2 episodes, 400 frames: background {labels[:, 0].mean():.3f}, gain ")


def test_episodes_of_freeway_are_never_played_twice(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    mostly_up = [seed for seed in range(30) if generator(row_seed(seed, 0), "behaviour").random() < 0.25][:2]
    seen = []
    for seed in mostly_up:
        episode = record_stream("freeway-hit", tmp_path / str(seed), frames=80, seed=seed)[0]
        assert np.mean(np.asarray(episode.actions) == 1) > 0.6
        seen.append(np.asarray(episode.observations))
    assert seen[0].shape == (81, 84, 84)
    assert not np.array_equal(*seen)


def test_one_s_own_environment_is_recorded_with_random_actions_and_without_other_infos(
    own: str, tmp_path: Path
) -> None:
    source = StreamSource(f"{own}:Counting")
    dataset = record_stream(source, tmp_path / "data", frames=10)
    assert dataset.lengths.tolist() == [7, 3]
    assert dataset.sources == [(source.stream, "random actions")]
    for episode in dataset:
        assert list(episode.infos) == ["events/odd"]
        numbers = np.asarray(episode.observations)[1:, 0].astype(int)
        assert episode.infos["events/odd"].tolist() == (numbers % 2 == 1).tolist()
    assert set(np.asarray(dataset[0].actions).tolist()) == {0, 1}
    assert_same(dataset, record_stream(source, tmp_path / "again", frames=10))
    assert stream_classes(source) is None
    assert stream_classes(f"{own}:Declared") == ("background", "odd", "even")


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        (
            "Declared",
            EnvironmentFault,
            r"step 1 .* told \['events/odd'\], it should tell \['events/even', 'events/odd'\]",
        ),
        ("Changing", EnvironmentFault, r"step 3 .* told \['events/even'\], it should tell \['events/odd'\]"),
        ("Grades", EnvironmentFault, r"step 2 .* events/odd is int 2, expected True or False"),
        ("Both", EnvironmentFault, r"step 1 .* \['events/odd', 'events/even'\] at once.*exclude each other"),
        ("Silent", UsageError, r"tells no events.*\['lives'\].*events/<class>"),
    ],
)
def test_events_that_are_told_wrongly_stop_the_recording(
    name: str, error: type[Exception], told: str, own: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=told):
        record_stream(f"{own}:{name}", tmp_path / "data", episodes=1)


def test_events_may_come_together_where_there_is_no_background(own: str, tmp_path: Path) -> None:
    episode = record_stream(f"{own}:Free", tmp_path / "data", episodes=1)[0]
    assert event_labels(episode.infos, ("odd", "even")).tolist() == [[1, 1]] * 7


def test_a_policy_acts_in_a_stream_and_in_one_s_own_environment(own: str, tmp_path: Path) -> None:
    wrap = STREAMS["faults-pendulum"].wrap
    options: dict[str, Any] = {"total_steps": 20, "preset": "none", "eval_every": 0}
    run = str(tmp_path / "run")
    rlkit.train("random", "Pendulum-v1", run_dir=Path(run), wrap=wrap, **options)
    dataset = record_stream(StreamSource("faults-pendulum", policy=run), tmp_path / "data", episodes=1)
    assert dataset.lengths.tolist() == [200]
    assert dataset.sources == [("faults-pendulum", f"policy of {run}, exploring")]
    assert list(dataset[0].infos) == [f"events/{name}" for name in STREAMS["faults-pendulum"].classes[1:]]
    with pytest.raises(UsageError, match="takes observations in"):
        record_stream(StreamSource(f"{own}:Counting", policy=run), tmp_path / "other", episodes=1)


def test_an_environment_by_name_with_a_wrapper_that_tells_is_a_stream(tmp_path: Path) -> None:
    source = StreamSource("CartPole-v1", wrap=("injected-faults:faults=freeze,pause=[1,2]",))
    dataset = record_stream(source, tmp_path, frames=40)
    assert dataset.lengths.sum() == 40
    assert list(dataset[0].infos) == ["events/freeze"]
    assert stream_classes(source) == ("background", "freeze")


def test_wrong_names_and_numbers_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'faults-pendulum'"):
        record_stream("fault-pendulum", tmp_path / "a", episodes=1)
    for wrong in ({}, {"episodes": 1, "frames": 1}, {"episodes": 0}, {"frames": -1}):
        with pytest.raises(UsageError, match="episodes or frames"):
            record_stream("faults-pendulum", tmp_path / "b", **wrong)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "file").touch()
    with pytest.raises(UsageError, match="is not empty"):
        record_stream("faults-pendulum", tmp_path / "c", episodes=1)


@pytest.mark.slow
def test_subgoals_of_the_boss_level_are_as_frequent_as_measured(tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    dataset = record_stream("babyai-subgoals", tmp_path, episodes=60)
    labels = np.concatenate([event_labels(each.infos, STREAMS["babyai-subgoals"].classes) for each in dataset])
    expected = [0.011, 0.445, 0.066, 0.042, 0.039, 0.337, 0.070]
    assert np.allclose(labels.mean(axis=0), expected, atol=0.06)
    assert (labels.sum(axis=1) == 1).all()
