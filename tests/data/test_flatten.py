import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkit.data.flatten import ObservationFlattener
from rlkit.data.tree import leaf, leaf_spaces, nest
from rlkit.errors import UnsupportedTaskError

shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
leaves = st.one_of(
    shapes.map(lambda shape: spaces.Box(-1, 1, shape, np.float32)),
    shapes.map(lambda shape: spaces.Box(-5, 5, shape, np.int64)),
    st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 4), st.integers(-2, 3)),
    st.integers(1, 4).map(spaces.MultiBinary),
    st.just(spaces.MultiBinary((2, 3))),
    st.lists(st.integers(1, 4), min_size=1, max_size=3).map(spaces.MultiDiscrete),
    st.just(spaces.MultiDiscrete([[2, 3], [4, 1]])),
    st.just(spaces.MultiDiscrete([3, 2], start=[-1, 5])),
)
nested = st.recursive(
    leaves,
    lambda children: st.one_of(
        st.dictionaries(st.sampled_from("abc"), children, min_size=1).map(spaces.Dict),
        st.lists(children, min_size=1, max_size=3).map(spaces.Tuple),
    ),
    max_leaves=5,
)


@settings(max_examples=80, deadline=None)
@given(nested, st.integers(0, 2**31 - 1))
def test_rows_equal_gymnasiums_flatten_of_single_observations(space, seed):
    space.seed(seed)
    singles = [space.sample() for _ in range(3)]
    paths = [path for path, _ in leaf_spaces(space)]
    batch = nest(space, iter([np.stack([leaf(one, path) for one in singles]) for path in paths]))
    flattener = ObservationFlattener(space)
    flat = flattener(batch)
    assert flat.dtype == np.float32
    assert flat.shape == (3, flattener.size)
    np.testing.assert_allclose(flat, [spaces.flatten(space, one) for one in singles], rtol=1e-6)


def test_images_are_scaled_to_one():
    flattener = ObservationFlattener(spaces.Box(0, 255, (2, 1, 1), np.uint8))
    np.testing.assert_allclose(flattener(np.array([[[[255]], [[51]]]], np.uint8)), [[1.0, 0.2]], rtol=1e-6)


def test_a_float32_vector_passes_through_untouched():
    obs = np.ones((2, 3), np.float32)
    assert ObservationFlattener(spaces.Box(-1, 1, (3,), np.float32))(obs) is obs


def test_a_leaf_without_a_fixed_size_is_named():
    with pytest.raises(UnsupportedTaskError, match="'task/name'"):
        ObservationFlattener(spaces.Dict(task=spaces.Dict(name=spaces.Text(5))))
