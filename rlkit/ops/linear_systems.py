"""Small systems of linear equations without memory of their own, so that compiled loops can solve them."""

from __future__ import annotations

from rlkit.types import Array


def solve_in_place(matrix: Array, vector: Array) -> bool:
    """`vector` [M] becomes the solution x of `matrix` [M, M] x = `vector`; whether there is one.

    Gaussian elimination with partial pivoting; `matrix` is used up.

    >>> import numpy as np
    >>> x = np.array([5.0, 4.0]); solve_in_place(np.array([[0.0, 2.0], [1.0, 1.0]]), x), x
    (True, array([1.5, 2.5]))
    """
    size = len(vector)
    for column in range(size):
        pivot = column
        for row in range(column + 1, size):
            if abs(matrix[row, column]) > abs(matrix[pivot, column]):
                pivot = row
        if matrix[pivot, column] == 0.0:
            return False
        if pivot != column:
            vector[column], vector[pivot] = vector[pivot], vector[column]
            for k in range(column, size):
                matrix[column, k], matrix[pivot, k] = matrix[pivot, k], matrix[column, k]
        for row in range(column + 1, size):
            factor = matrix[row, column] / matrix[column, column]
            if factor != 0.0:
                vector[row] -= factor * vector[column]
                for k in range(column + 1, size):
                    matrix[row, k] -= factor * matrix[column, k]
    for row in range(size - 1, -1, -1):
        for k in range(row + 1, size):
            vector[row] -= matrix[row, k] * vector[k]
        vector[row] /= matrix[row, row]
    return True
