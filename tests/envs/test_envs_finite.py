"""Every registered finite MDP: it steps as its model says, has pictures, and follows gymnasium's API."""

from __future__ import annotations

import sys
from functools import cache

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlkit.envs.chains import RandomWalk
from rlkit.envs.finite import FiniteMDPEnv
from rlkit.envs.grid_world import CourseGrid, GridWorld, Layout
from rlkit.envs.known_returns import KNOWN_RETURNS
from rlkit.envs.make import make, make_single
from rlkit.envs.mazes import BlockingMaze, ChangingMaze
from rlkit.envs.racetrack import COURSES, Racetrack
from rlkit.envs.registration import ENVS, register
from rlkit.envs.restore import explain_restore
from rlkit.errors import UsageError
from rlkit.tabular.indexing import TableIndex, count_states

SIZES = {
    "rlkit/CourseGrid-v0": (25, 5),
    "rlkit/GridWorld-v0": (35, 4),
    "rlkit/Gridworld5x5-v0": (25, 4),
    "rlkit/Gridworld4x4-v0": (16, 4),
    "rlkit/Cliff-v0": (48, 4),
    "rlkit/WindyGrid-v0": (70, 4),
    "rlkit/WindyGridKing-v0": (70, 8),
    "rlkit/WindyGridStochastic-v0": (70, 8),
    "rlkit/RandomWalk5-v0": (7, 1),
    "rlkit/RandomWalk19-v0": (21, 1),
    "rlkit/RandomWalk1000-v0": (1002, 1),
    "rlkit/Gambler-v0": (101, 50),
    "rlkit/CarRental-v0": (441, 11),
    "rlkit/MaximizationBias-v0": (3, 10),
    "rlkit/InfiniteVariance-v0": (2, 2),
    "rlkit/DynaMaze-v0": (54, 4),
    "rlkit/BlockingMaze-v0": (54, 4),
    "rlkit/ShortcutMaze-v0": (54, 4),
    "rlkit/Racetrack-v0": (292 * 25 + 1, 9),
    "rlkit/ShortCorridor-v0": (4, 2),
    "rlkit/AccessControl-v0": (44, 2),
    "rlkit/Baird-v0": (7, 2),
}
"""States and actions, counted by hand."""

FINITE = sorted(SIZES)
DRAWN = sorted({*SIZES, "rlkit/Bandit-v0"})
STEPS = 20_000
NEVER = {"change_at": 10**9}


@cache
def built(env_id: str) -> FiniteMDPEnv:
    """The environment itself, without wrappers; a maze that changes keeps its first layout."""
    maze = env_id in ("rlkit/BlockingMaze-v0", "rlkit/ShortcutMaze-v0")
    env = make_single(env_id, env_kwargs=NEVER if maze else {}).unwrapped
    assert isinstance(env, FiniteMDPEnv)
    return env


def assert_steps_follow_the_model(env: FiniteMDPEnv, steps: int = STEPS) -> None:
    """What a step shows, and random functions of it, have the model's expectation, within five deviations."""
    model, rng = env.transition_model(), np.random.default_rng(1)
    random = rng.standard_normal((model.num_states, 5))[model.next_state] * (1.0 + model.terminated[:, None])
    pairs, sums = model.pair_of_outcome(), np.cumsum(model.probability)
    rank = sums - (sums - model.probability)[model.first[:-1]][pairs]  # within the outcomes of its state and action
    plain = np.stack([model.next_state / model.num_states, model.reward, rank], axis=1)
    shown = np.concatenate([plain, random], axis=1)
    mean, square = (
        np.stack([np.bincount(pairs, model.probability * column) for column in (shown**power).T], axis=1)
        for power in (1, 2)
    )
    surprise, variance = np.zeros(8), np.zeros(8)
    first_action = env.action_space.start
    env.reset(seed=0)
    for _ in range(steps):
        state, action = env.state, int(rng.integers(model.num_actions))
        _, reward, terminated, truncated, _ = env.step(action + first_action)
        pair = state * model.num_actions + action
        possible = slice(model.first[pair], model.first[pair + 1])
        same = model.next_state[possible] == env.state
        same &= (model.reward[possible] == reward) & (model.terminated[possible] == terminated)
        assert same.any(), "the model has no such outcome"
        assert not truncated
        # Outcomes that look alike differ in rank only; its average over them has the same mean and less variance.
        surprise += np.average(shown[possible][same], axis=0, weights=model.probability[possible][same]) - mean[pair]
        variance += square[pair] - mean[pair] ** 2
        if terminated:
            env.reset()
    assert (np.abs(surprise) <= 5 * np.sqrt(np.maximum(variance, 0.0)) + 1e-5).all()


def test_every_registered_environment_is_tested() -> None:
    # test_mountain_car.py, test_envs_change_detection.py, test_envs_memory.py
    elsewhere = {"rlkit/MountainCar-v0", "rlkit/ChangeDetection-v0", *KNOWN_RETURNS}
    assert set(ENVS) == {*SIZES, "rlkit/Bandit-v0"} | elsewhere


@pytest.mark.parametrize("env_id", FINITE)
def test_stepping_follows_the_model(env_id: str) -> None:
    assert_steps_follow_the_model(built(env_id))


def test_a_changed_maze_follows_its_second_model() -> None:
    assert_steps_follow_the_model(BlockingMaze(change_at=0), 2000)


@pytest.mark.parametrize("env_id", FINITE)
def test_first_states_follow_the_model(env_id: str) -> None:
    env = built(env_id)
    start = env.transition_model().start
    env.reset(seed=0)
    counts = np.zeros(len(start))
    for _ in range(2000):
        env.reset()
        counts[env.state] += 1
    assert (counts[start == 0] == 0).all()
    deviation = np.sqrt(2000 * start * (1 - start))
    assert (np.abs(counts - 2000 * start) <= 5 * deviation + 3).all()


@pytest.mark.parametrize("env_id", FINITE)
def test_states_and_actions_are_as_many_as_by_hand(env_id: str) -> None:
    env = built(env_id)
    model = env.transition_model()
    assert (model.num_states, model.num_actions) == SIZES[env_id]
    assert env.action_space.n == SIZES[env_id][1]
    assert count_states(env.observation_space) == (2 if env_id == "rlkit/ShortCorridor-v0" else SIZES[env_id][0])
    sums = np.bincount(model.pair_of_outcome(), model.probability)
    np.testing.assert_allclose(sums, 1.0, atol=1e-9)
    assert model.probability.min() > 0


@pytest.mark.parametrize("env_id", FINITE)
def test_an_episode_can_begin_anywhere(env_id: str) -> None:
    env = built(env_id)
    last = env.transition_model().num_states - 1
    for state in (0, last // 2, last):
        seen, _ = env.reset(seed=0, options={"state": state})
        assert env.state == state
        assert env.observation_space.contains(seen)
    with pytest.raises(UsageError, match=f"there is no state {last + 1}"):
        env.reset(options={"state": last + 1})


@pytest.mark.parametrize("env_id", FINITE)
def test_states_where_nothing_happens_are_over(env_id: str) -> None:
    """What planners leave out: ends, and cells that nobody enters; no step goes on from an end."""
    env = built(env_id)
    model = env.transition_model()
    over = model.terminal_states()
    assert model.start[over].sum() == 0
    assert over[model.next_state[model.terminated]].all()
    entered = np.bincount(model.next_state[~over[model.pair_of_outcome() // model.num_actions]], minlength=len(over))
    if isinstance(env, GridWorld):
        assert (entered[env.grid().walls] == 0).all()


@pytest.mark.parametrize("env_id", DRAWN)
def test_pictures_show_the_agent(env_id: str) -> None:
    pixels = make_single(env_id, env_kwargs={"render_mode": "rgb_array"})
    text = make_single(env_id, env_kwargs={"render_mode": "ansi"})
    for env in (pixels, text):
        env.reset(seed=0)
        env.step(env.action_space.start)
    shown, written = pixels.render(), text.render()
    assert shown.dtype == np.uint8
    assert shown.ndim == 3
    assert shown.shape[2] == 3
    assert (shown == (44, 95, 158)).all(axis=2).any()
    assert written.count("@") == 1


@pytest.mark.parametrize("env_id", DRAWN)
def test_gymnasium_finds_nothing_wrong(env_id: str) -> None:
    register()
    check_env(gym.make(env_id, disable_env_checker=True).unwrapped)


@pytest.mark.parametrize(
    "env_id",
    ["rlkit/CourseGrid-v0", "rlkit/ShortcutMaze-v0", "rlkit/Gambler-v0", "rlkit/Bandit-v0", "rlkit/AccessControl-v0"],
)
def test_an_interrupted_episode_continues_exactly(env_id: str) -> None:
    arguments = {"change_at": 10} if env_id == "rlkit/ShortcutMaze-v0" else {}
    probe = explain_restore(lambda: make_single(env_id, env_kwargs=arguments))
    assert (probe.tier, probe.reason) == ("exact", "")


def test_ids_are_found_by_name_and_registered_once() -> None:
    envs = make("rlkit/CourseGrid-v0", 3, env_kwargs={"reward_forbidden": -10.0})
    obs, _ = envs.reset(seed=0)
    assert obs.shape == (3,)
    envs.close()
    spec = gym.spec("rlkit/Bandit-v0")
    register()
    assert gym.spec("rlkit/Bandit-v0") is spec
    assert spec.max_episode_steps == 1000
    assert gym.spec("rlkit/Cliff-v0").max_episode_steps is None


def test_registering_loads_no_environment() -> None:
    import subprocess

    code = "import sys, rlkit.envs.registration; print('rlkit.envs.finite' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_every_line_of_the_table_has_a_summary_of_one_line() -> None:
    for entry in ENVS.values():
        assert 0 < len(entry.summary) <= 60
        assert "\n" not in entry.summary


def test_stepping_is_the_same_for_the_same_seed() -> None:
    def episode() -> list[int]:
        env = built("rlkit/RandomWalk19-v0")
        env.reset(seed=5)
        return [env.step(0)[0] for _ in range(20)]

    assert episode() == episode()


def test_a_maze_changes_after_its_steps_over_all_episodes() -> None:
    env = BlockingMaze(change_at=3)
    env.reset(seed=0)
    env.step(0)
    env.step(0)
    env.reset()
    assert env.transition_model() is env.before
    env.step(0)
    assert env.transition_model() is env.after
    assert env.dynamics() is None
    assert env.stationary is False


def test_an_agent_walks_away_from_a_wall_that_came_up() -> None:
    env = BlockingMaze(change_at=1)
    env.reset(seed=0, options={"state": 4 * 9 + 8})
    env.step(0)
    assert env.state == 3 * 9 + 8  # the opening that closes now
    seen, _, terminated, _, _ = env.step(0)
    assert (seen, terminated) == (2 * 9 + 8, False)
    assert env.step(2)[0] == 2 * 9 + 8  # and it stays closed


def test_a_layout_may_have_rows_separated_by_slashes() -> None:
    env = GridWorld("S.#/..T")
    assert env.reset(seed=0)[0] == 0
    assert [env.step(action)[:3] for action in (1, 1, 2, 1)] == [
        (1, 0.0, False),
        (1, 0.0, False),
        (4, 0.0, False),
        (5, 1.0, True),
    ]


def test_moves_of_a_king_lead_where_their_names_say() -> None:
    env = GridWorld(".../.../...", "king-stay", reward_boundary=-2.0)
    reached = []
    for action in range(9):
        env.reset(options={"state": 4})
        reached.append(env.step(action)[0])
    assert reached == [1, 5, 7, 3, 2, 8, 6, 0, 4]


def test_blocked_forbidden_cells_keep_the_agent_out_and_cost() -> None:
    env = CourseGrid(forbidden="block", reward_forbidden=-7.0)
    env.reset(options={"state": 1})
    assert env.step(2)[:2] == (1, -7.0)
    assert env.grid().walls.sum() == 6


def test_the_path_finding_of_chapter_7_starts_in_the_corner_and_ends_in_the_target() -> None:
    env = CourseGrid(start="corner", target="terminal", reward_target=0.0)
    assert env.reset(seed=3)[0] == 0
    env.reset(options={"state": 22})
    assert env.step(0)[:3] == (17, 0.0, True)


@pytest.mark.parametrize("env", [GridWorld(observation="coordinates"), CourseGrid(observation="coordinates")])
def test_coordinates_are_row_and_column_of_the_same_state(env: GridWorld) -> None:
    rows, columns = env.grid().rows, env.grid().columns
    assert env.observation_space == gym.spaces.MultiDiscrete([rows, columns])
    index = TableIndex(env.observation_space)
    for state in range(rows * columns):
        seen, _ = env.reset(options={"state": state})
        assert seen.tolist() == [state // columns, state % columns]
        assert index.rows(seen[None]).tolist() == [state]
    assert_steps_follow_the_model(env, 1000)
    check_env(env, skip_render_check=True)
    assert env.sees_state()


def test_coordinates_are_no_array_that_later_steps_change() -> None:
    env = CourseGrid(observation="coordinates")
    first, _ = env.reset(seed=0, options={"state": 0})
    again, *_ = env.step(0)
    assert (first == again).all()
    assert not np.shares_memory(first, again)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GridWorld("..\n..."), "rows of one length"),
        (lambda: GridWorld("..X"), "characters X"),
        (lambda: GridWorld("###"), "no cell to start in"),
        (lambda: GridWorld(actions="six"), "actions is 'six', allowed: four, five, king, king-stay"),
        (lambda: GridWorld(target="loop"), "target is 'loop'"),
        (lambda: GridWorld(observation="pixels"), "observation is 'pixels', allowed: state, coordinates"),
        (lambda: GridWorld(render_mode="human"), "render_mode is 'human'"),
        (lambda: RandomWalk(states=4), "must be odd"),
        (lambda: ChangingMaze("S.T", "S.\n.T", 3), "give both the same"),
        (lambda: Racetrack(course="left-turn"), "unknown course 'left-turn'"),
        (lambda: Racetrack(course="..\n.."), "no start"),
        (lambda: Racetrack(noise=2.0), "between 0 and 1"),
    ],
)
def test_mistakes_are_explained(build, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()


def test_the_courses_have_the_size_of_figure_5_5() -> None:
    layouts = {name: Layout.parse(text, ".#ST") for name, text in COURSES.items()}
    assert {name: (layout.rows, layout.columns) for name, layout in layouts.items()} == {
        "right-turn": (32, 17),
        "wide-right-turn": (30, 32),
    }


def test_a_car_crosses_the_finish_on_its_way_and_not_through_the_wall() -> None:
    env = Racetrack(course="....T\n..###\nS.###", noise=0.0)
    cells = {
        cell: number for number, cell in enumerate([(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (2, 0), (2, 1)])
    }

    def after(cell: tuple[int, int], up: int, right: int, action: int) -> tuple[int, bool]:
        env.reset(options={"state": cells[cell] * 25 + up * 5 + right})
        seen, reward, terminated, _, _ = env.step(action)
        assert reward == -1.0
        return seen, terminated

    assert after((0, 2), 0, 4, 4) == (200, True)  # over the finish, beyond the grid
    assert after((1, 1), 0, 2, 4) == (cells[2, 0] * 25, False)  # off the road: back to the start, at rest
    assert after((2, 0), 0, 0, 4) == (cells[2, 0] * 25, False)  # may rest on the starting line
    assert after((1, 0), 1, 0, 1) == (cells[0, 0] * 25 + 5, False)  # may not stop elsewhere
    assert after((2, 1), 1, 0, 8) == (cells[2, 0] * 25, False)  # (2 up, 1 right) leaves the road on its way
