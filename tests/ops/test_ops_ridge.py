"""Ridge regression beside a number worked out by hand, a direct solve and scikit-learn 1.9.1."""

from __future__ import annotations

import numpy as np
import torch

from rlkit.ops.ridge import ridge_weights


def test_one_feature_is_shrunk_by_its_variance_over_variance_and_penalty() -> None:
    """x = (-1, 1) has variance 1 and covariance 3 with y = (-3, 3): w = 3 / (1 + λ)."""
    x, y = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([[-3.0], [3.0]], dtype=torch.float64)
    found = ridge_weights(x, y, torch.tensor([0.5, 2.0], dtype=torch.float64))
    torch.testing.assert_close(found.flatten(), torch.tensor([2.0, 1.0], dtype=torch.float64))


def test_weights_solve_the_normal_equations_also_with_more_features_than_examples() -> None:
    rng = np.random.default_rng(1)
    for rows, width in ((40, 6), (5, 12)):
        x, y = rng.normal(size=(rows, width)), rng.normal(size=(rows, 3))
        found = ridge_weights(torch.from_numpy(x), torch.from_numpy(y), torch.tensor([1e-3, 4.0], dtype=torch.float64))
        for weights, penalty in zip(found.numpy(), (1e-3, 4.0), strict=True):
            right = np.linalg.solve(x.T @ x / rows + penalty * np.eye(width), x.T @ y / rows)
            np.testing.assert_allclose(weights, right, rtol=0, atol=1e-9)


def test_weights_are_those_of_scikit_learn() -> None:
    """Ridge(alpha=50 * 0.3, fit_intercept=False).fit(x, y).coef_.T; its alpha is not divided by the examples."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 4))
    x -= x.mean(0)
    y = rng.normal(size=(50, 2))
    y -= y.mean(0)
    expected = [
        [0.10487592070477036, -0.13777053642594586], [0.005189802835805786, -0.05981913378817008],
        [-0.22873946743145357, -0.051913515174172364], [-0.12508245378531072, -0.2561120805192893],
    ]  # fmt: skip
    found = ridge_weights(torch.from_numpy(x), torch.from_numpy(y), torch.tensor([0.3], dtype=torch.float64))
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=0, atol=1e-12)
