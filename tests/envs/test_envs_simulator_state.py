"""Labels of simulator state: what the simulator holds and its pictures show, on their way into datasets of episodes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit.data.datasets import DatasetWriter, EpisodeDataset
from rlkit.envs.atari_ram import ATARI_RAM, ram_bytes
from rlkit.envs.make import make, make_single
from rlkit.envs.simulator_state import STATE, SimulatorState, state_reader
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import UnsupportedTaskError
from rlkit.evaluation import played_steps
from rlkit.recording import recorded_episodes

WRAPPER = resolve_wrapper("simulator-state")


def told(info: dict[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(STATE): value for key, value in info.items() if key.startswith(STATE)}


def walked(env: SimulatorState, steps: int, seed: int = 0) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Observation and labels of reset and of random steps, through episodes' ends."""
    env.action_space.seed(seed)
    obs, info = env.reset(seed=seed)
    yield obs, told(info)
    for _ in range(steps):
        obs, _, terminated, truncated, info = env.step(env.action_space.sample())
        yield obs, told(info)
        if terminated or truncated:
            obs, info = env.reset()
            yield obs, told(info)


def test_the_labels_of_cartpole_are_its_state() -> None:
    env = SimulatorState(gym.make("CartPole-v1"))
    names = ["agent/cart_position", "motion/cart_velocity", "agent/pole_angle", "motion/pole_angular_velocity"]
    inner: Any = env.unwrapped
    for _, labels in walked(env, 60):
        assert list(labels) == names
        assert list(labels.values()) == inner.state.tolist()


@pytest.mark.parametrize("name", ["MountainCar-v0", "MountainCarContinuous-v0", "rlkit/MountainCar-v0"])
def test_the_labels_of_the_mountain_car_are_its_position_and_velocity(name: str) -> None:
    env = SimulatorState(make_single(name))
    for obs, labels in walked(env, 20):
        assert list(labels) == ["agent/position", "motion/velocity"]
        assert np.allclose(list(labels.values()), obs, rtol=0, atol=1e-6)
        assert {value.dtype for value in labels.values()} == {np.dtype(np.float64)}


def test_angles_that_can_go_round_are_told_as_cosine_and_sine() -> None:
    env = SimulatorState(gym.make("Pendulum-v1"))
    for obs, labels in walked(env, 20):
        values = labels["agent/pole_cosine"], labels["agent/pole_sine"], labels["motion/angular_velocity"]
        assert np.allclose(values, obs, rtol=0, atol=1e-6)
    env = SimulatorState(gym.make("Acrobot-v1"))
    for obs, labels in walked(env, 20):  # cos θ1, sin θ1, cos θ2, sin θ2, and both velocities
        assert np.allclose(list(labels.values()), obs, rtol=0, atol=1e-6)
    inner: Any = env.unwrapped
    inner.state = np.array([math.pi / 2, math.pi, 1.0, -2.0])
    assert np.allclose(list(state_reader(env)().values()), [0, 1, -1, 0, 1, -2], rtol=0, atol=1e-12)


def test_the_labels_of_mujoco_are_positions_and_velocities() -> None:
    pytest.importorskip("mujoco")
    env = SimulatorState(gym.make("InvertedPendulum-v5"))
    for obs, labels in walked(env, 10):
        assert list(labels) == ["agent/qpos_0", "agent/qpos_1", "motion/qvel_0", "motion/qvel_1"]
        assert list(labels.values()) == obs.tolist()


def test_the_labels_of_our_grids_are_row_and_column() -> None:
    env = SimulatorState(make_single("rlkit/GridWorld-v0", env_kwargs={"observation": "coordinates"}))
    seen = set()
    for obs, labels in walked(env, 200):
        assert [labels["agent/row"], labels["agent/column"]] == obs.tolist()
        seen.add(tuple(obs))
    assert len(seen) > 5


def test_the_labels_of_minigrid_are_those_of_the_agent_and_the_objects() -> None:
    pytest.importorskip("minigrid")
    env = SimulatorState(make_single("MiniGrid-DoorKey-5x5-v0"))
    inner: Any = env.unwrapped
    kinds = {"door", "key", "goal", "ball", "box", "lava"}
    for _, labels in walked(env, 300):
        assert (labels["agent/x"], labels["agent/y"]) == tuple(inner.agent_pos)
        assert labels["miscellaneous/agent_direction"] == inner.agent_dir
        for kind in kinds:
            cells = [
                (x, y) for y in range(5) for x in range(5) if (found := inner.grid.get(x, y)) and found.type == kind
            ]
            assert labels[f"miscellaneous/{kind}_count"] == len(cells)
            first = cells[0] if cells else (0, 0)
            assert (labels[f"other_object/{kind}_x"], labels[f"other_object/{kind}_y"]) == first


def test_a_key_that_is_carried_is_no_longer_on_the_grid_and_opens_the_door() -> None:
    pytest.importorskip("minigrid")
    env = SimulatorState(make_single("MiniGrid-DoorKey-5x5-v0"))
    labels = told(env.reset(seed=0)[1])  # the agent in (1, 3) looks left, the key lies in (1, 2), the door is (2, 1)
    assert (labels["other_object/key_x"], labels["other_object/key_y"]) == (1, 2)
    assert (labels["miscellaneous/carried"], labels["miscellaneous/carried_colour"]) == (1, 6)
    assert labels["miscellaneous/door_state"] == 2, "locked"
    right, forward, pick_up, toggle = 1, 2, 3, 5
    for action in (right, pick_up):
        labels = told(env.step(action)[4])
    assert (labels["miscellaneous/carried"], labels["miscellaneous/carried_colour"]) == (5, 4), "a yellow key"
    assert (labels["miscellaneous/key_count"], labels["other_object/key_y"]) == (0, 0)
    for action in (forward, forward, right, toggle):
        labels = told(env.step(action)[4])
    assert labels["miscellaneous/door_state"] == 0, "open"


def atari(game: str, **options: Any) -> SimulatorState:
    pytest.importorskip("ale_py")
    given = {"frameskip": 1, "repeat_action_probability": 0.0, **options}
    return SimulatorState(make_single(f"ALE/{game}-v5", env_kwargs=given))


def painted(frame: Any, colour: tuple[int, int, int]) -> Any:
    """Rows and columns [n, 2] of the pixels of one colour."""
    return np.argwhere((frame == np.array(colour)).all(axis=-1))


def test_the_chicken_of_freeway_climbs_with_up_and_falls_with_down_as_its_picture_does() -> None:
    env = atari("Freeway")
    heights, rows = [int(told(env.reset(seed=0)[1])["agent/player_y"])], []
    up, down = 1, 2
    for action in [up] * 60 + [down] * 30:
        obs, *_, info = env.step(action)
        heights.append(int(told(info)["agent/player_y"]))
        rows.append(painted(obs[:, 44:52], (252, 252, 84))[:, 0].max())  # its lowest row
    assert np.diff(heights).tolist() == [1] * 60 + [-1] * 30
    assert [200 - row for row in rows] == heights[1:]


def test_the_labels_of_pong_are_where_its_pictures_show_paddles_and_ball() -> None:
    env = atari("Pong")
    below, found = 34, {"ball": 0, "enemy": 0, "player": 0}  # the field begins in row 34, without the score
    for obs, labels in islice(walked(env, 500), 70, None):
        field = obs[below:194]
        ball, enemy, player = (painted(field, c) for c in ((236,) * 3, (213, 130, 74), (92, 186, 92)))
        if len(enemy) == 64:  # 16 rows of 4 pixels: the whole paddle
            assert enemy[:, 0].min() + 49 == labels["other_object/enemy_y"]
            found["enemy"] += 1
        if len(player) == 64:  # the console draws every second row from the frame before
            assert abs(player[:, 0].min() + 48 - labels["agent/player_y"]) <= 2
            found["player"] += 1
        if len(ball) == 8:  # all of its 4 rows of 2 pixels
            assert ball[:, 1].min() + 49 == labels["small_object/ball_x"]
            assert abs(ball[:, 0].min() + 48 - labels["small_object/ball_y"]) <= 1
            found["ball"] += 1
    assert min(found.values()) > 50


def test_the_score_of_pong_follows_rewards() -> None:
    env = atari("Pong", frameskip=4)
    env.reset(seed=0)
    lost = 0
    for _ in range(200):
        _, reward, *_, info = env.step(0)
        lost += reward < 0
        assert told(info)["display/enemy_score"] == lost
    assert lost > 1


@pytest.mark.parametrize("game", ATARI_RAM)
def test_every_game_of_the_map_is_a_cartridge_with_the_frames_of_the_map(game: str) -> None:
    env = atari("".join(part.capitalize() for part in game.split("_")))
    labels = state_reader(env)()
    assert list(labels) == list(ram_bytes(game))
    ram = env.unwrapped.ale.getRAM()  # type: ignore[attr-defined]
    assert list(labels.values()) == [ram[byte] for byte in ram_bytes(game).values()]
    assert {value.dtype for value in labels.values()} == {np.dtype(np.uint8)}


def test_bytes_are_those_of_the_annotated_ram_interface() -> None:
    assert len(ATARI_RAM) == 24, "the paper's 22 games, battle_zone and skiing"
    assert sum(len(ram_bytes(game)) for game in ATARI_RAM) == 362
    assert ram_bytes("breakout")["small_object/ball_x"] == 99
    assert ram_bytes("seaquest")["small_object/diver_or_enemy_missile_x_3"] == 74
    assert ram_bytes("qbert")["miscellaneous/tile_color_20"] == 42
    for game in ATARI_RAM:
        assert all(0 <= byte < 128 for byte in ram_bytes(game).values())


def test_categories_follow_from_names_as_in_the_paper_s_code() -> None:
    """Where there is more than one, display comes first; where there is none, miscellaneous."""
    small, agent = ("ball", "missile"), ("agent", "player")
    shown = ("score", "clock", "lives", "meter", "display")
    for game in ATARI_RAM:
        for key in ram_bytes(game):
            category, name = key.split("/")
            if any(axis in name for axis in ("_x", "_y", "_column")):
                is_small, is_agent = (any(word in name for word in words) for words in (small, agent))
                expected = "small_object" if is_small else "agent" if is_agent else "other_object"
            else:
                expected = "display" if any(word in name for word in shown) else "miscellaneous"
            assert category == expected, f"{game} {key}"


def test_an_environment_can_name_its_own_state() -> None:
    class Mine(gym.Env[Any, Any]):
        observation_space: Any = spaces.Discrete(2)
        action_space: Any = spaces.Discrete(2)

        def reset(self, **given: Any) -> Any:
            return 0, {}

        def simulator_state(self) -> dict[str, int | float]:
            return {"agent/room": 3, "motion/speed": 0.5}

    labels = state_reader(Mine())()
    assert labels == {"agent/room": 3, "motion/speed": 0.5}
    assert [value.dtype.kind for value in labels.values()] == ["i", "f"]


def test_unknown_games_and_environments_are_refused_with_what_is_known() -> None:
    pytest.importorskip("ale_py")
    with pytest.raises(UnsupportedTaskError, match=r"'alien'.*Known games: asteroids, .*yars_revenge"):
        atari("Alien")
    with pytest.raises(UnsupportedTaskError, match=r"FrozenLakeEnv is not known.*asteroids.*MiniGrid.*simulator_state"):
        make("FrozenLake-v1", wrappers=[WRAPPER])


def test_other_screens_than_those_of_the_map_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    env = atari("Pong").env

    class Taller:
        def getScreenDims(self) -> tuple[int, int]:
            return 250, 160

        def getRAM(self) -> Any:
            return np.zeros(128, np.uint8)

    monkeypatch.setattr(env.unwrapped, "ale", Taller())
    with pytest.raises(UnsupportedTaskError, match=r"210x160 pixels.*250x160"):
        SimulatorState(env)


def test_labels_are_those_of_the_last_frame_that_a_skipping_wrapper_played() -> None:
    """In front of the repeated actions or behind them: the same state."""
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    skip = resolve_wrapper("atari-preprocessing:noop_max=0")
    kwargs = {"frameskip": 1, "repeat_action_probability": 0.0}
    inside = make_single("ALE/Freeway-v5", [WRAPPER, skip], env_kwargs=kwargs)
    outside = make_single("ALE/Freeway-v5", [skip, WRAPPER], env_kwargs=kwargs)
    assert told(inside.reset(seed=0)[1]) == told(outside.reset(seed=0)[1])
    for step in range(1, 10):
        labels = [told(env.step(1)[4]) for env in (inside, outside)]
        assert labels[0] == labels[1]
        assert labels[0]["agent/player_y"] == 6 + 4 * step


def test_a_labelled_environment_can_be_built_again_from_its_spec() -> None:
    env = make_single("CartPole-v1", [WRAPPER])
    assert env.spec is not None
    assert "state/agent/pole_angle" in gym.make(env.spec).reset(seed=0)[1]


def test_a_labelled_environment_is_restored_exactly() -> None:
    assert make("CartPole-v1", wrappers=[WRAPPER]).restore_tier == "exact"


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0", "rlkit/GridWorld-v0"])
def test_labels_travel_with_recorded_episodes(name: str, tmp_path: Path) -> None:
    envs = make(name, wrappers=[WRAPPER])
    space = envs.single_observation_space
    played = played_steps(rlkit.make("random", name, seed=0), envs, seed=0)
    steps = []

    def noted() -> Iterator[Any]:
        for step in played:
            steps.append(step)
            yield step

    with DatasetWriter(tmp_path, space, envs.single_action_space, env=name, made_by="random") as writer:
        for episode in islice(recorded_episodes(noted(), space), 3):
            writer.add(episode)
    dataset = EpisodeDataset(tmp_path)
    rows = [told(dict(zip(episode.infos, row, strict=True)))
            for episode in dataset for row in zip(*episode.infos.values(), strict=True)]  # fmt: skip
    assert rows == [told(step.step.infos[0]) for step in steps]
    assert len(rows) == dataset.lengths.sum() > 10
    if name == "CartPole-v1":  # the label of step t belongs to observation t + 1
        episode = dataset[0]
        assert np.array_equal(episode.infos["state/agent/pole_angle"].astype(np.float32), episode.observations[1:, 2])


def test_an_exported_run_carries_the_labels_of_its_wrapper(tmp_path: Path) -> None:
    run = rlkit.train(
        "random", "MountainCar-v0", total_steps=50, run_dir=tmp_path / "run", wrap=("simulator-state",), preset="none",
        eval_every=0,
    ).run_dir  # fmt: skip
    dataset = rlkit.export_dataset(run, tmp_path / "data", episodes=1)
    assert set(EpisodeDataset(dataset.folder)[0].infos) >= {"state/agent/position", "state/motion/velocity"}
