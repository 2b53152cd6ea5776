"""Returns over a few steps, in plain numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def n_step_return(
    r_t: npt.NDArray[np.float32], discount_t: npt.NDArray[np.float32], v_t: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Returns G = r_1 + d_1 r_2 + d_1 d_2 r_3 + … + d_1…d_n v, [B] (Sutton and Barto 2018, equation 7.1).

    `r_t` and `discount_t` have shape [B, n], `v_t` [B] is the value after the last step. A discount of zero ends the
    episode there: whatever follows it counts for nothing.

    >>> import numpy as np
    >>> n_step_return(np.array([[1.0, 2.0]]), np.array([[0.5, 0.5]]), np.array([8.0]))
    array([4.])
    """
    g_t = v_t
    for step in reversed(range(r_t.shape[1])):
        g_t = r_t[:, step] + discount_t[:, step] * g_t
    return g_t
