import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rlkit.data.sum_tree import SumTree


def filled(values):
    tree = SumTree(len(values))
    tree.set(np.arange(len(values)), values)
    return tree


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_masses_are_found_where_a_plain_cumulative_sum_finds_them(data):
    size = data.draw(st.integers(1, 2000) | st.integers(32_000, 70_000))  # two levels, or three
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    values = rng.integers(0, 4, size).astype(np.float64)  # whole numbers: every sum is exact, many values are zero
    values[rng.integers(size)] += 1
    tree = SumTree(size)
    for part in np.array_split(rng.permutation(size), 3):
        tree.set(part, values[part])
    masses = np.concatenate((rng.random(50) * values.sum(), rng.integers(0, values.sum(), 20)))
    np.testing.assert_array_equal(tree.find(masses), values.cumsum().searchsorted(masses, side="right"))
    assert tree.total == values.sum()


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.float64, st.integers(1, 3000), elements=st.floats(0, 1e6), fill=st.floats(0, 1e6)),
    st.integers(0, 2**32 - 1),
)
def test_rounding_never_finds_a_value_of_zero(values, seed):
    values[seed % len(values)] = 1e-6
    tree = filled(values)
    edges = np.array([0.0, tree.total, np.nextafter(tree.total, 0), np.nextafter(tree.total, np.inf)])
    masses = np.concatenate((edges, np.random.default_rng(seed).random(50) * tree.total, values.cumsum()))
    found = tree.find(masses)
    assert (values[found] > 0).all()
    assert tree.total == pytest.approx(values.sum(), rel=1e-12)


def test_a_mass_beyond_a_block_whose_running_sum_falls_short_stays_in_it():
    rng, short = np.random.default_rng(0), 0
    for _ in range(100):
        tree = SumTree(2000)
        tree.set(np.arange(64, 96), rng.random(32))  # one block; all around it is zero
        mass = np.nextafter(tree.total, 0)
        short += tree.values[64:96].cumsum()[-1] <= mass
        assert tree.find(np.array([mass])).tolist() == [95]
    assert short > 10  # numpy adds pairwise in `sum` and one by one in `cumsum`


def test_a_million_changes_leave_the_sums_of_a_fresh_tree():
    rng = np.random.default_rng(0)
    tree = filled(rng.random(40_000) * 1e9)
    for _ in range(2000):
        tree.set(rng.integers(0, 40_000, 500), rng.random(500))
    fresh = filled(tree.values.copy())
    masses = rng.random(2000) * fresh.total
    assert tree.total == fresh.total  # bit for bit: a tree that only adds differences would keep the rounding of 1e9
    np.testing.assert_array_equal(tree.find(masses), fresh.find(masses))


def test_the_last_of_several_values_for_one_slot_counts():
    tree = SumTree(2000)
    tree.set(np.array([5, 1999, 5]), np.array([1.0, 2.0, 4.0]))
    assert tree.total == 6.0
    assert tree.find(np.array([3.9, 4.1])).tolist() == [5, 1999]


def test_a_million_values_take_little_more_than_themselves():
    assert SumTree.memory_bytes(1_000_000) == pytest.approx(8e6, rel=0.04)
