"""Ridge regression in closed form, for many penalties and targets at once (Hoerl and Kennard 1970, equation 2.1).

M examples of D features, T targets, P penalties.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ridge_weights(features: Tensor, targets: Tensor, penalties: Tensor) -> Tensor:
    """(XᵀX / M + λ I)⁻¹ Xᵀy / M, [P, D, T]: where half the mean squared error plus λ |w|² / 2 is least.

    `features` [M, D] and `targets` [M, T] have mean 0, so that there is no intercept; `penalties` [P] are positive. One
    eigendecomposition serves all of them. Give float64: the condition of XᵀX is the square of that of X.
    """
    eigenvalues, vectors = torch.linalg.eigh(features.T @ features / len(features))
    along = vectors.T @ (features.T @ targets / len(features))  # [D, T]
    shrunk = along / (eigenvalues.clamp_min(0.0) + penalties[:, None])[:, :, None]  # [P, D, T]
    return vectors @ shrunk
