import numpy as np
import pytest

from rlkit.envs.make import make
from rlkit.envs.restore import same
from rlkit.envs.vector import SerialVectorEnv
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import EnvironmentFault, UsageError
from rlkit.seeding import row_seed


def actions(num_envs, steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 1)).astype(np.float32)


def hand_stepped(env_class, num_envs, rows, seed, reset_states=None):
    """Steps of `rows` [T, N, 1] taken by plain loops over single environments."""
    envs = [env_class() for _ in range(num_envs)]
    first = [env.reset(seed=row_seed(seed, i)) for i, env in enumerate(envs)]
    steps = []
    for action in rows:
        step = []
        for i, env in enumerate(envs):
            obs, reward, terminated, truncated, info = env.step(action[i].copy())
            reset = (None, None)
            if terminated or truncated:
                options = None if reset_states is None else {"state": reset_states[i]}
                reset = env.reset(options=options)
            step.append((obs, reward, terminated, truncated, info, *reset))
        steps.append(step)
    return first, steps


def row(batch, i):
    return {key: value[i] for key, value in batch.items()} if isinstance(batch, dict) else batch[i]


def same_values(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_values(first[k], second[k]) for k in first)
    return np.array_equal(first, second)


def assert_equals_hand_stepped(vector_env, env_class, num_envs, steps=60, seed=7):
    rows = actions(num_envs, steps)
    first, expected = hand_stepped(env_class, num_envs, rows, seed)
    obs, infos = vector_env.reset(seed)
    kinds = set()
    for i in range(num_envs):
        assert same_values(row(obs, i), first[i][0])
        assert infos[i] == first[i][1]
    for action, step in zip(rows, expected, strict=True):
        got = vector_env.step(action)
        for i, (next_obs, reward, terminated, truncated, info, reset_obs, reset_info) in enumerate(step):
            assert same_values(row(got.next_obs, i), next_obs)
            assert same_values(row(got.obs, i), next_obs if reset_obs is None else reset_obs)
            assert (got.reward[i], got.terminated[i], got.truncated[i]) == (reward, terminated, truncated)
            assert got.infos[i] == info
            assert got.reset_infos[i] == reset_info
            kinds.add((terminated, truncated))
        assert (got.obs is got.next_obs) == (not got.ended.any())
    assert kinds == {(False, False), (True, False), (False, True)}


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("name", ["Walk", "Flat"])
def test_serial_steps_equal_hand_stepped_environments(samples, name, num_envs):
    env_class = vars(samples)[name]
    assert_equals_hand_stepped(SerialVectorEnv([env_class] * num_envs), env_class, num_envs)


def test_an_environment_that_reuses_its_array_cannot_corrupt_earlier_steps(samples):
    aliasing, plain = SerialVectorEnv([samples.Aliasing]), SerialVectorEnv([samples.Flat])
    first, second = [aliasing.reset(1)[0]], [plain.reset(1)[0]]
    for action in actions(1, 20):
        for env, seen in ((aliasing, first), (plain, second)):
            step = env.step(action)
            seen += [step.next_obs, step.obs]
    assert same(first, second)


def test_an_environment_gets_a_copy_of_the_action(samples):
    env = SerialVectorEnv([samples.Mutating])
    env.reset(0)
    action = np.ones((1, 1), np.float32)
    env.step(action)
    assert action[0, 0] == 1.0


def test_row_i_does_not_depend_on_the_number_of_environments(samples):
    one, three = SerialVectorEnv([samples.Flat]), SerialVectorEnv([samples.Flat] * 3)
    assert np.array_equal(one.reset(5)[0][0], three.reset(5)[0][0])
    assert not np.array_equal(three.reset(5)[0][0], three.reset(5)[0][1])


def test_a_chosen_start_state_reaches_the_reset_of_rows_that_end(samples):
    env = SerialVectorEnv([samples.Flat] * 2)
    env.reset(0)
    for action in actions(2, 10):
        step = env.step(action, [7.0, None])
        for i in np.flatnonzero(step.ended):
            assert (step.obs[i, 0] == 7.0) == (i == 0)


def test_both_ends_at_once_count_as_terminated(samples):
    env = SerialVectorEnv([samples.BothEnds])
    env.reset(0)
    steps = [env.step(action) for action in actions(1, 10)]
    assert any(step.terminated[0] for step in steps)
    assert not any(step.truncated[0] for step in steps)


def test_a_reward_of_one_element_becomes_a_float(samples):
    env = SerialVectorEnv([samples.OneElementReward])
    env.reset(0)
    step = env.step(actions(1, 1)[0])
    assert step.reward.shape == (1,)
    assert step.reward.dtype == np.float64


def test_float64_observations_are_cast_to_the_space(samples):
    env = SerialVectorEnv([samples.WrongDtype])
    assert env.reset(0)[0].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Raises", ["environment 1", "step 2", "RuntimeError: the motor is on fire", "action"]),
        ("WrongShape", ["environment 0", "(3,)", "(2,)"]),
        ("MissingKey", ["environment 0", "'phase'"]),
        ("VectorReward", ["environment 0", "reward", "one number"]),
        ("TextTerminated", ["environment 0", "terminated", "'no'"]),
        ("OldStyle", ["environment 0", "seed", "def reset"]),
        ("FourTuple", ["tuple of 4", "terminated, truncated", "def step"]),
        ("ResetWithoutInfo", ["environment 0", "reset", "def reset"]),
        ("NoSpaces", ["no observation_space"]),
        ("RaisesInInit", ["could not be built", "no licence"]),
    ],
)
def test_a_faulty_environment_is_explained(samples, name, words):
    faulty = vars(samples)[name]
    first = samples.Flat if name == "Raises" else faulty
    with pytest.raises(EnvironmentFault) as raised:
        walk([first, faulty])
    for word in words:
        assert word in str(raised.value)


def walk(env_fns):
    env = SerialVectorEnv(env_fns)
    env.reset(0)
    for action in actions(len(env_fns), 5):
        env.step(action)


def test_the_original_error_is_chained(samples):
    env = SerialVectorEnv([samples.Raises])
    env.reset(0)
    env.step(actions(1, 1)[0])
    with pytest.raises(EnvironmentFault) as raised:
        env.step(actions(1, 1)[0])
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_environments_with_different_spaces_are_an_error(samples):
    with pytest.raises(EnvironmentFault, match="environment 1 has the observation space"):
        SerialVectorEnv([samples.Flat, samples.Walk])


def test_no_environment_is_an_error():
    with pytest.raises(UsageError, match="at least one"):
        SerialVectorEnv([])


@pytest.mark.parametrize("wrap", [(), ("frame-stack:n=3",), ("time-limit:max_episode_steps=3",)])
def test_get_state_and_set_state_continue_exactly(samples, sample_ref, wrap):
    def build():
        return make(sample_ref("Flat"), 2, wrappers=[resolve_wrapper(text) for text in wrap])

    rows = actions(2, 40)
    original = build()
    original.reset(3)
    for action in rows[:13]:
        original.step(action)
    assert original.restore_tier == "exact"
    fresh, state = build(), original.get_state()
    assert fresh.set_state(state) is None
    for action in rows[13:]:
        assert_same_step(original.step(action), fresh.step(action))


def assert_same_step(first, second):
    for name in ("obs", "next_obs", "reward", "terminated", "truncated"):
        assert same(getattr(first, name), getattr(second, name)), name
    assert first.infos == second.infos


def test_a_state_that_cannot_be_captured_starts_new_episodes_and_returns_them(samples):
    env = SerialVectorEnv([samples.Hidden])
    start, _ = env.reset(3)
    env.step(actions(1, 1)[0])
    assert env.restore_tier == "reset"
    fresh = SerialVectorEnv([samples.Hidden])
    begun = fresh.set_state(env.get_state())
    assert begun is not None
    obs, infos = begun
    assert not np.array_equal(obs, start)
    assert infos[0].keys() == {"length"}
    again = SerialVectorEnv([samples.Hidden]).set_state(env.get_state())
    assert again is not None
    assert np.array_equal(obs, again[0])
