import numpy as np
import pytest

from rlkit.envs.make import make
from rlkit.envs.normalize import NormalizeObservation, NormalizeReward, RunningMoments, normalizers
from rlkit.envs.vector import SerialVectorEnv
from rlkit.errors import CheckpointError


def actions(num_envs, steps):
    return np.random.default_rng(0).uniform(-1, 1, (steps, num_envs, 1)).astype(np.float32)


def test_running_moments_equal_the_moments_of_all_rows():
    rows = np.random.default_rng(0).normal(1e4, 3.0, (1000, 2))
    moments = RunningMoments((2,))
    for part in np.split(rows, [1, 2, 10, 500]):
        moments.update(part)
    assert moments.count == 1000
    assert np.allclose(moments.mean, rows.mean(axis=0), rtol=1e-14)
    assert np.allclose(moments.variance, rows.var(axis=0), rtol=1e-10)


def test_statistics_are_of_the_observations_seen_for_acting(samples):
    env, plain = NormalizeObservation(SerialVectorEnv([samples.Flat] * 2)), SerialVectorEnv([samples.Flat] * 2)
    seen = [plain.reset(0)[0]]
    env.reset(0)
    for action in actions(2, 30):
        step, raw = env.step(action), plain.step(action)
        seen.append(raw.obs)
        assert np.array_equal(step.obs, env.apply(raw.obs))
        assert np.array_equal(step.next_obs, env.apply(raw.next_obs))
        assert (step.obs is step.next_obs) == (raw.obs is raw.next_obs)
    leaf = env.normalizer_state()["leaves"][""]
    assert leaf["count"] == 62
    assert np.allclose(leaf["mean"], np.concatenate(seen).mean(axis=0))


def test_only_float_leaves_of_a_dict_are_normalised(samples):
    env = NormalizeObservation(SerialVectorEnv([samples.Walk] * 2))
    obs, _ = env.reset(0)
    assert obs["phase"].tolist() == [0, 0]
    assert obs["place"].dtype == np.float32
    assert np.allclose(obs["place"].mean(axis=0), 0, atol=1e-5)
    assert list(env.normalizer_state()["leaves"]) == ["/place"]
    assert env.single_observation_space["phase"] == env.env.single_observation_space["phase"]


def test_one_unbatched_observation_can_be_normalised(samples):
    env = NormalizeObservation(SerialVectorEnv([samples.Flat] * 2))
    env.reset(0)
    batch = np.ones((1, 2), np.float32)
    assert np.array_equal(env.apply(batch)[0], env.apply(batch[0]))


def test_frozen_statistics_do_not_change(samples):
    env = NormalizeReward(NormalizeObservation(SerialVectorEnv([samples.Flat])))
    env.reset(0)
    env.frozen = env.env.frozen = True
    before = [repr(normalizer.normalizer_state()) for normalizer in normalizers(env)]
    for action in actions(1, 10):
        env.step(action)
    assert before == [repr(normalizer.normalizer_state()) for normalizer in normalizers(env)]


def test_rewards_are_divided_by_the_deviation_of_discounted_returns(samples):
    env, plain = NormalizeReward(SerialVectorEnv([samples.Flat] * 2), gamma=0.5), SerialVectorEnv([samples.Flat] * 2)
    env.reset(0)
    plain.reset(0)
    returns, seen = np.zeros(2), []
    for action in actions(2, 30):
        step, raw = env.step(action), plain.step(action)
        returns = returns * 0.5 + raw.reward
        seen.append(returns.copy())
        expected = np.clip(raw.reward / np.sqrt(np.var(seen) + 1e-8), -10, 10)
        assert np.allclose(step.reward, expected)
        returns[raw.ended] = 0


def test_a_state_continues_exactly():
    def build():
        return NormalizeReward(NormalizeObservation(make("Pendulum-v1", 2)))

    rows = actions(2, 40)
    env, fresh = build(), build()
    env.reset(0)
    for action in rows[:20]:
        env.step(action)
    fresh.set_state(env.get_state())
    for action in rows[20:]:
        step, again = env.step(action), fresh.step(action)
        assert np.array_equal(step.obs, again.obs)
        assert np.array_equal(step.reward, again.reward)


def test_normalizers_are_found_innermost_first(samples):
    inner = NormalizeObservation(SerialVectorEnv([samples.Flat]))
    outer = NormalizeReward(inner)
    assert normalizers(outer) == (inner, outer)
    assert normalizers(inner.env) == ()


def test_statistics_of_other_observations_are_refused(samples):
    flat, walk = (NormalizeObservation(SerialVectorEnv([env])) for env in (samples.Flat, samples.Walk))
    with pytest.raises(CheckpointError, match="/place"):
        walk.load_normalizer_state(flat.normalizer_state())
