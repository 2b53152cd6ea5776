"""Features of linear function approximation (Sutton and Barto 2018, section 9.5), and sparse vectors of them.

Pure functions of one observation's coordinates; they compile with numba (`rlkit.linear.rules`). A coordinate s is a
dimension of the observation scaled to [0, 1]. A sparse vector is `indices` int64 [K] and `values` [K].
"""

from __future__ import annotations

import math

from rlkit.types import Array


def unit_coordinate(x: float, low: float, span: float, squashes: bool) -> float:
    """(x - low) / span, cut to [0, 1]; for dimensions without bounds 1/2 + arctan((x - low) / span) / π.

    >>> unit_coordinate(3.0, 1.0, 4.0, False)
    0.5
    """
    if squashes:
        return 0.5 + math.atan((x - low) / span) / math.pi
    return min(max((x - low) / span, 0.0), 1.0)


def cell_of(x: float, low: float, span: float, squashes: bool, cells: int) -> int:
    """Which of `cells` equal parts of the dimension x lies in, from 0; values outside belong to the outermost parts.

    The product comes before the quotient, so that whole numbers fall on the right side of a boundary.

    >>> [cell_of(x, 1.0, 1000.0, False, 10) for x in (0.0, 100.0, 101.0, 1001.0)]
    [0, 0, 1, 9]
    """
    if squashes:
        return min(int((0.5 + math.atan((x - low) / span) / math.pi) * cells), cells - 1)
    return int(min(max((x - low) * cells / span, 0.0), cells - 1.0))


def wrapped_cell(x: float, low: float, span: float, cells: int) -> int:
    """Like `cell_of` in a dimension that wraps around: `low` + `span` is `low` again."""
    return math.floor((x - low) * cells / span) % cells


def tile_coordinate(position: int, tiling: int, dimension: int, num_tilings: int) -> int:
    """The tile along one dimension, for a position in parts of 1 / num_tilings of a tile.

    Tiling t is displaced by t (1, 3, 5, …) parts in dimensions 0, 1, 2, …, which is less regular than the diagonal
    (Sutton and Barto 2018, section 9.5.4; Miller and Glanz 1996), modulo a whole tile.
    """
    displacement = tiling * (2 * dimension + 1) % num_tilings
    return (position + displacement) // num_tilings


def mixed_hash(key: int, coordinate: int) -> int:
    """`key` (below 2³¹) and `coordinate` scattered over 0 … 2³¹ - 1; products stay below 2⁶³.

    The multipliers are primes below 2³¹ without meaning.
    """
    key = (key ^ (coordinate + 1) * 83_492_791) & 0x7FFFFFFF
    key = (key ^ (key >> 15)) * 739_982_443 & 0x7FFFFFFF
    key = (key ^ (key >> 12)) * 1_203_793_381 & 0x7FFFFFFF
    return key ^ (key >> 15)


def fourier_value(coordinates: Array, frequencies: Array) -> float:
    """cos(π c · s), equation 9.18 (Konidaris, Osentoski and Thomas 2011); both [O].

    >>> import numpy as np
    >>> round(fourier_value(np.array([0.5, 0.25]), np.array([1.0, 2.0])), 12)
    -1.0
    """
    phase = 0.0
    for i in range(len(coordinates)):
        phase += frequencies[i] * coordinates[i]
    return math.cos(math.pi * phase)


def fourier_rate(frequencies: Array) -> float:
    """1 / |c|, the factor of a Fourier feature's step size (Konidaris et al. 2011, section 3.2); 1 for c = 0."""
    norm = math.sqrt((frequencies * frequencies).sum())
    return 1.0 / norm if norm > 0.0 else 1.0


def polynomial_value(coordinates: Array, powers: Array) -> float:
    """Π s_i^c_i, equation 9.17; both [O], powers whole numbers.

    >>> import numpy as np
    >>> polynomial_value(np.array([0.5, 3.0]), np.array([1.0, 2.0]))
    4.5
    """
    product = 1.0
    for i in range(len(coordinates)):
        for _ in range(int(powers[i])):
            product *= coordinates[i]
    return product


def squared_distance(coordinates: Array, centre: Array) -> float:
    """|s - c|²; both [O].

    >>> import numpy as np
    >>> squared_distance(np.array([0.5, 2.0]), np.array([1.5, 0.0]))
    5.0
    """
    squared = 0.0
    for i in range(len(coordinates)):
        squared += (coordinates[i] - centre[i]) ** 2
    return squared


def radial_value(squared: float, width: float) -> float:
    """exp(-|s - c|² / 2σ²) of a squared distance, section 9.5.5; width σ in coordinates.

    >>> round(radial_value(0.0625, 0.25), 6)
    0.606531
    """
    return math.exp(-squared / (2.0 * width * width))


def sparse_dot(weights: Array, indices: Array, values: Array) -> float:
    """Dot product w · x for a sparse x; `weights` [F].

    >>> import numpy as np
    >>> sparse_dot(np.array([1.0, 2.0, 4.0]), np.array([0, 2]), np.array([1.0, 0.5]))
    3.0
    """
    total = 0.0
    for k in range(len(indices)):
        total += weights[indices[k]] * values[k]
    return total


def sparse_add(weights: Array, indices: Array, values: Array, amount: float) -> None:
    """Add amount · x to `weights` [F], for a sparse x."""
    for k in range(len(indices)):
        weights[indices[k]] += amount * values[k]


def sparse_add_rated(weights: Array, indices: Array, values: Array, amount: float, rates: Array) -> None:
    """Add amount · (r ∘ x) to `weights` [F], where `rates` r [F] are factors of each weight's step size."""
    for k in range(len(indices)):
        weights[indices[k]] += amount * rates[indices[k]] * values[k]
