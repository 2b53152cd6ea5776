"""State trees survive exactly, and nothing but a state tree comes out of a file."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlkit.codec import Encoder, copy_tree, decode
from rlkit.errors import CheckpointError

DTYPES = st.sampled_from([np.float32, np.float64, np.int8, np.int64, np.uint8, np.uint64, np.bool_, np.float16])
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
SCALARS = ARRAYS.filter(lambda array: array.size).map(lambda array: array.flat[0])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), ARRAYS, SCALARS)
KEYS = st.one_of(st.text(), st.integers(), st.just("$"), st.just("a/b"))


def _branches(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    return st.one_of(lists, lists.map(tuple), st.dictionaries(KEYS, inner, max_size=4))


TREES = st.recursive(LEAVES, _branches, max_leaves=12)


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray) and expected.dtype == object:
        assert found.shape == expected.shape
        assert_same(list(found.ravel()), list(expected.ravel()))
    elif isinstance(expected, (np.ndarray, np.generic)):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()
    elif isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(found)
    else:
        assert found == expected


def through_json(tree: Any) -> Any:
    encoder = Encoder()
    document = json.loads(json.dumps(encoder.encode(tree)))
    return decode(document, encoder.arrays, encoder.logs.__getitem__)


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_a_tree_survives_exactly(tree: Any) -> None:
    assert_same(through_json(tree), tree)


def test_paths_that_look_alike_do_not_share_an_array() -> None:
    tree = {
        "a": {"b": np.zeros(2), 1: np.zeros(1)},
        "a/b": np.ones(2),
        "a/1": np.ones(1),
        1: np.full(1, 2.0),
        "1": np.full(1, 3.0),
    }
    assert_same(through_json(tree), tree)


def test_tensors_and_strided_arrays_survive() -> None:
    tree = {"weights": torch.arange(6.0).view(2, 3).t(), "count": torch.tensor(3), "strided": np.arange(10)[::-2]}
    again = through_json(tree)
    assert torch.equal(again["weights"], tree["weights"])
    assert again["count"].dtype == torch.int64
    assert again["count"].shape == ()
    assert_same(again["strided"], np.ascontiguousarray(tree["strided"]))


def test_text_and_complex_arrays_survive() -> None:
    tree = [np.array([[b"S", b"F"]]), np.array(["hé", ""]), np.array([1 + 2j]), np.str_("x"), np.complex64(1j)]
    assert_same(through_json(tree), tree)


def test_arrays_of_texts_and_of_unequal_arrays_survive() -> None:
    values = np.empty((2, 2), object)
    values[0, 0], values[0, 1], values[1, 0], values[1, 1] = "go to the door", "", np.arange(3), (1, np.float32(2))
    again = through_json({"a": values})["a"]
    assert (again.dtype, again.shape) == (object, (2, 2))
    assert_same(list(again.ravel()), list(values.ravel()))
    assert_same(through_json(np.array(["x"], object)), np.array(["x"], object))


def test_a_copy_stays_when_its_owner_goes_on() -> None:
    weights = np.zeros(3)
    copied = copy_tree({"weights": weights})
    weights += 1
    assert (copied["weights"] == 0).all()


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: None, np.array([object()]), b"bytes"])
def test_what_is_not_plain_data_is_named_by_its_path(value: Any) -> None:
    with pytest.raises(CheckpointError, match="/agent/0/odd"):
        Encoder().encode({"agent": [{"odd": value}]})


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_mutated_document_raises_one_named_error(data: st.DataObject) -> None:
    encoder = Encoder()
    tree = {"a": np.zeros(2), "b": (1, 2.5), 3: [float("nan")], "t": np.array(["x"]), "s": np.float32(1)}
    text = json.dumps(encoder.encode(tree))
    place = data.draw(st.integers(0, len(text) - 1))
    mutated = text[:place] + data.draw(st.sampled_from('0{}[]",:x$ie')) + text[place + 1 :]
    try:
        document = json.loads(mutated)
    except ValueError:
        return
    try:
        decode(document, encoder.arrays, encoder.logs.__getitem__)
    except CheckpointError:
        return
