"""The finite MDPs have the values that the books print, by linear algebra and value iteration on their models."""

from __future__ import annotations

import numpy as np
import pytest

from rlkit.envs.chains import Baird, InfiniteVariance, LongRandomWalk, MaximizationBias, RandomWalk, ShortCorridor
from rlkit.envs.classic_tables import AccessControl, CarRental, Gambler
from rlkit.envs.grid_world import CourseGrid
from rlkit.envs.mazes import BlockingMaze, DynaMaze, ShortcutMaze
from rlkit.envs.racetrack import Racetrack
from rlkit.envs.sutton_barto_grids import Cliff, Gridworld4x4, Gridworld5x5, WindyGrid
from rlkit.mdp import FiniteMDP, Floats64


def policy_values(model: FiniteMDP, policy: Floats64, gamma: float) -> Floats64:
    """v of a policy [S, A]; states that are over have value 0."""
    going_on = np.einsum("sa,sat->st", policy, model.transition_matrix(going_on=True))
    reward = (policy * model.expected_reward()).sum(axis=1)
    return np.linalg.solve(np.eye(model.num_states) - gamma * going_on, reward)


def uniform_values(model: FiniteMDP, gamma: float) -> Floats64:
    return policy_values(model, np.full((model.num_states, model.num_actions), 1 / model.num_actions), gamma)


def optimal_values(model: FiniteMDP, gamma: float, sweeps: int = 2000, tolerance: float = 1e-12) -> Floats64:
    pairs, weight = model.pair_of_outcome(), np.where(model.terminated, 0.0, gamma) * model.probability
    reward, values = model.expected_reward(), np.zeros(model.num_states)
    for _ in range(sweeps):
        improved = (reward + np.bincount(pairs, weight * values[model.next_state]).reshape(reward.shape)).max(axis=1)
        if np.abs(improved - values).max() < tolerance:
            return improved
        values = improved
    return values


def test_figure_3_2_uniform_policy() -> None:
    values = uniform_values(Gridworld5x5().transition_model(), 0.9).reshape(5, 5)
    expected = [
        [3.31, 8.79, 4.43, 5.32, 1.49],
        [1.52, 2.99, 2.25, 1.91, 0.55],
        [0.05, 0.74, 0.67, 0.36, -0.40],
        [-0.97, -0.44, -0.35, -0.59, -1.18],
        [-1.86, -1.35, -1.23, -1.42, -1.98],
    ]
    np.testing.assert_allclose(values, expected, atol=0.006)


def test_figure_3_5_optimal_values() -> None:
    values = optimal_values(Gridworld5x5().transition_model(), 0.9).reshape(5, 5)
    np.testing.assert_allclose(values[0], [21.98, 24.42, 21.98, 19.42, 17.48], atol=0.006)
    np.testing.assert_allclose(values[4], [14.42, 16.02, 14.42, 12.98, 11.68], atol=0.006)


def test_figure_4_1_random_policy() -> None:
    values = uniform_values(Gridworld4x4().transition_model(), 1.0).reshape(4, 4)
    expected = [[0, -14, -20, -22], [-14, -18, -20, -20], [-20, -20, -18, -14], [-22, -20, -14, 0]]
    np.testing.assert_allclose(values, expected, atol=1e-9)


COURSE_UNIFORM = [
    [-3.85, -3.81, -3.64, -3.12, -3.24],
    [-3.79, -3.85, -3.80, -3.11, -2.92],
    [-3.57, -3.90, -3.38, -3.19, -2.94],
    [-3.90, -3.62, -3.40, -2.90, -3.24],
    [-4.46, -4.16, -3.39, -3.36, -3.45],
]
COURSE_OPTIMAL = {
    -1.0: [
        [5.83, 5.58, 6.20, 6.48, 5.83],
        [6.48, 7.20, 8.00, 7.20, 6.48],
        [7.20, 8.00, 10.0, 8.00, 7.20],
        [8.00, 10.0, 10.0, 10.0, 8.00],
        [7.20, 9.00, 10.0, 9.00, 8.10],
    ],
    -10.0: [
        [3.49, 3.87, 4.30, 4.78, 5.31],
        [3.14, 3.49, 4.78, 5.31, 5.90],
        [2.82, 2.54, 10.0, 5.90, 6.56],
        [2.54, 10.0, 10.0, 10.0, 7.29],
        [2.29, 9.00, 10.0, 9.00, 8.10],
    ],
}


def test_course_grid_uniform_policy() -> None:
    values = uniform_values(CourseGrid().transition_model(), 0.9).reshape(5, 5)
    np.testing.assert_allclose(values, COURSE_UNIFORM, atol=0.006)


@pytest.mark.parametrize("reward_forbidden", [-1.0, -10.0])
def test_course_grid_optimal_values(reward_forbidden: float) -> None:
    model = CourseGrid(reward_forbidden=reward_forbidden).transition_model()
    values = optimal_values(model, 0.9).reshape(5, 5)
    np.testing.assert_allclose(values, COURSE_OPTIMAL[reward_forbidden], atol=0.006)


def test_gambler_with_p_0_4() -> None:
    values = optimal_values(Gambler().transition_model(), 1.0)
    np.testing.assert_allclose(values[[25, 50, 75]], [0.16, 0.40, 0.64], atol=1e-9)


def test_gambler_lowers_stakes_beyond_the_capital() -> None:
    env = Gambler(p_h=0.0)
    env.reset(options={"state": 7})
    assert env.step(50)[:3] == (0, 0.0, True)
    env = Gambler(p_h=1.0)
    env.reset(options={"state": 99})
    assert env.step(50)[:3] == (100, 1.0, True)


def test_random_walk_of_5_states() -> None:
    values = uniform_values(RandomWalk().transition_model(), 1.0)
    np.testing.assert_allclose(values[1:-1], np.arange(1, 6) / 6, atol=1e-12)


def test_random_walk_of_19_states() -> None:
    values = uniform_values(RandomWalk(states=19, left_reward=-1.0).transition_model(), 1.0)
    np.testing.assert_allclose(values[1:-1], np.arange(-18, 19, 2) / 20, atol=1e-12)


def test_random_walk_of_1000_states() -> None:
    values = uniform_values(LongRandomWalk().transition_model(), 1.0)
    np.testing.assert_allclose(values[[1, 250, 500, 1000]], [-0.92196, -0.47270, -0.00094, 0.92196], atol=6e-6)


@pytest.mark.parametrize(
    ("right", "expected"), [(2 - np.sqrt(2), -11.6569), (0.95, -44.21), (0.05, -82.11)], ids=["best", "right", "left"]
)
def test_short_corridor_of_equal_probabilities(right: float, expected: float) -> None:
    policy = np.tile([1 - right, right], (4, 1))
    assert policy_values(ShortCorridor().transition_model(), policy, 1.0)[0] == pytest.approx(expected, abs=0.006)


def test_infinite_variance_left_is_worth_1() -> None:
    policy = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert policy_values(InfiniteVariance().transition_model(), policy, 1.0)[0] == pytest.approx(1.0)


def test_maximization_bias_has_mean_minus_a_tenth_and_variance_1() -> None:
    model = MaximizationBias().transition_model()
    rewards = model.reward[model.first[10] : model.first[11]]
    assert len(rewards) == 101
    assert rewards.mean() == pytest.approx(-0.1, abs=1e-12)
    assert rewards.var() == pytest.approx(1.0)
    np.testing.assert_allclose(model.expected_reward()[0], 0.0)
    assert model.next_state[model.first[:10]].tolist() == [1, 2] * 5


@pytest.mark.parametrize(
    ("model", "start", "steps"),
    [
        (Cliff().transition_model(), 36, 13),
        (WindyGrid().transition_model(), 30, 15),
        (WindyGrid(moves="king").transition_model(), 30, 7),
        (WindyGrid(moves="king-stay").transition_model(), 30, 7),
    ],
    ids=["cliff", "windy", "king", "king-stay"],
)
def test_shortest_paths_cost_their_steps(model: FiniteMDP, start: int, steps: int) -> None:
    assert optimal_values(model, 1.0)[start] == -steps


@pytest.mark.parametrize(
    ("model", "start", "steps"),
    [
        (DynaMaze().transition_model(), 18, 14),
        (BlockingMaze().before, 48, 10),
        (BlockingMaze().after, 48, 16),
        (ShortcutMaze().before, 48, 16),
        (ShortcutMaze().after, 48, 10),
    ],
    ids=["dyna", "blocking-before", "blocking-after", "shortcut-before", "shortcut-after"],
)
def test_shortest_paths_of_the_mazes(model: FiniteMDP, start: int, steps: int) -> None:
    assert model.start[start] == 1.0
    assert optimal_values(model, 0.95)[start] == pytest.approx(0.95 ** (steps - 1))


def test_a_gust_varies_the_wind_by_one_row() -> None:
    model = WindyGrid(moves="four", stochastic=True).transition_model()
    right = slice(model.first[36 * 4 + 1], model.first[36 * 4 + 2])  # from the fourth row, wind 2
    assert model.next_state[right].tolist() == [27, 17, 7]
    np.testing.assert_allclose(model.probability[right], 1 / 3)
    calm = slice(model.first[30 * 4 + 1], model.first[30 * 4 + 2])
    assert model.next_state[calm].tolist() == [31]


def test_car_rental_rewards_and_values() -> None:
    """Values from a second implementation, loops over requests and returns, where moved cars beyond 20 are lost."""
    model = CarRental().transition_model()
    reward = model.expected_reward()
    empty, full = 0, 20 * 21 + 20
    np.testing.assert_allclose(reward[empty], 0.0, atol=1e-12)
    assert reward[full, 5] == pytest.approx(70.0, abs=1e-6)  # requests beyond 20 cars are rare
    assert reward[5 * 21 + 5, 5] - reward[6 * 21 + 4, 6] == pytest.approx(2.0)  # one moved car costs 2
    values = optimal_values(model, 0.9, 400, 1e-9)
    assert values[[empty, full]] == pytest.approx([421.414063, 636.989607], abs=1e-5)


def test_access_control_outcomes_by_hand() -> None:
    model = AccessControl().transition_model()
    full, last_server = 4 * 0 + 3, 4 * 1 + 3  # a customer of priority 8; no server free, one server free
    np.testing.assert_allclose(model.expected_reward()[[full, last_server]], [[0, 0], [0, 8]])
    matrix = model.transition_matrix().reshape(11, 4, 2, 11, 4)
    np.testing.assert_allclose(matrix[0, 3, 1].sum(axis=1)[:2], [0.94**10, 10 * 0.06 * 0.94**9])
    np.testing.assert_allclose(matrix[1, 3, 0].sum(axis=1)[:2], [0, 0.94**9], atol=1e-15)
    np.testing.assert_allclose(matrix[1, 3, 1], matrix[0, 3, 1])  # the server just taken can become free at once
    np.testing.assert_allclose(matrix.sum(axis=3), 0.25)  # whoever comes next
    assert not model.terminated.any()


def test_access_control_has_the_average_reward_of_a_simulation() -> None:
    """Optimal gain by relative value iteration; 2.7494 in 400,000 steps of a plain loop of its optimal policy."""
    model = AccessControl().transition_model()
    matrix, reward, relative = model.transition_matrix(), model.expected_reward(), np.zeros(44)
    for _ in range(300):
        values = reward + matrix @ relative
        gain, relative = values.max(axis=1)[0], values.max(axis=1) - values.max(axis=1)[0]
    assert gain == pytest.approx(2.74764, abs=1e-5)
    accepts = values.argmax(axis=1).reshape(11, 4).T
    assert accepts.sum(axis=1).tolist() == [0, 7, 10, 10]  # servers are kept for those who pay more

    rng, free, earned = np.random.default_rng(0), 10, 0
    for customer in rng.integers(4, size=20_000):
        if accepts[customer, free] and free:
            free, earned = free - 1, earned + (1, 2, 4, 8)[customer]
        free += rng.binomial(10 - free, 0.06)
    assert earned / 20_000 == pytest.approx(gain, abs=0.1)


def test_baird_leads_up_evenly_and_down_surely_without_reward() -> None:
    model = Baird().transition_model()
    matrix = model.transition_matrix()
    np.testing.assert_allclose(matrix[:, 0], np.tile([*[1 / 6] * 6, 0], (7, 1)))
    np.testing.assert_allclose(matrix[:, 1], np.tile([0, 0, 0, 0, 0, 0, 1], (7, 1)))
    assert not model.reward.any()
    assert not model.terminated.any()
    # the behaviour of the book visits all states evenly
    np.testing.assert_allclose(np.full(7, 1 / 7) @ (6 / 7 * matrix[:, 0] + 1 / 7 * matrix[:, 1]), 1 / 7)


def test_the_racetrack_takes_longer_with_noise() -> None:
    models = [Racetrack(noise=noise).transition_model() for noise in (0.0, 0.1)]
    steps = [-(model.start @ optimal_values(model, 1.0, 60)) for model in models]
    assert 9.0 < steps[0] < steps[1] < 13.0
