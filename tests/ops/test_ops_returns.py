import numpy as np

from rlkit.ops.returns import n_step_return


def test_two_steps_and_a_bootstrap():
    # 1 + 0.5 * 2 + 0.25 * 8
    value = n_step_return(np.array([[1.0, 2.0]]), np.array([[0.5, 0.5]]), np.array([8.0]))
    np.testing.assert_allclose(value, [4.0])


def test_a_zero_discount_ends_the_return():
    value = n_step_return(np.array([[1.0, 2.0]]), np.array([[0.0, 0.5]]), np.array([8.0]))
    np.testing.assert_allclose(value, [1.0])
