import numpy as np
import pytest

from rlkit.ops.noise import gaussian_noise, ornstein_uhlenbeck_step


def test_gaussian_noise_has_the_given_deviation():
    noise = gaussian_noise((100_000, 1), 0.3, np.random.default_rng(0))
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert abs(noise.mean()) < 0.005


def test_ornstein_uhlenbeck_without_noise_decays_to_its_mean():
    state = ornstein_uhlenbeck_step(np.ones((2, 1), np.float32), np.random.default_rng(0), sigma=0.0)
    np.testing.assert_allclose(state, 1 - 0.15 * 0.01, rtol=1e-6)  # x + 0.15 (0 - x) 0.01


def test_ornstein_uhlenbeck_adds_noise_of_sigma_root_dt():
    zeros = np.zeros((100_000, 1), np.float32)
    state = ornstein_uhlenbeck_step(zeros, np.random.default_rng(0), sigma=0.2)
    assert state.dtype == np.float32
    assert state.std() == pytest.approx(0.02, rel=0.02)  # 0.2 * sqrt(0.01)


def test_noise_depends_on_its_generator_only():
    first, second = (gaussian_noise((3,), 1.0, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
