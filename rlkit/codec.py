"""State trees as a closed JSON document plus named arrays: no pickle, nothing in a file can name code.

A tree is made of dicts, lists, tuples, None, bools, ints of any size, floats, strings, numpy arrays and scalars, and
torch tensors. Types survive exactly: a numpy float64 does not come back as a Python float, a tuple not as a list.
Append-only logs (replay) are handed to the caller by name and written as segments, see `rlkit.checkpoint`.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlkit.data.append_only import AppendOnly
from rlkit.errors import CheckpointError
from rlkit.types import Array

Json = Any
_TAG = "$"
_BYTES_DTYPE = re.compile(r"[<>|=][cSU]\d{1,9}")


class Encoder:
    """Turns a tree into JSON; `arrays` and `logs` collect what does not fit into JSON."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.logs: dict[str, AppendOnly] = {}

    def encode(self, value: Any, path: str = "") -> Json:
        """`value` as JSON. Raises CheckpointError naming the path of a value that cannot be stored."""
        if isinstance(value, np.generic):  # first, because some are subclasses of Python's own
            return self._array("scalar", np.asarray(value), path)
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {_TAG: "float", "value": repr(value)}
        if isinstance(value, np.ndarray):
            return self._array("array", value, path)
        if isinstance(value, dict):
            return self._dict(value, path)
        if isinstance(value, (list, tuple)):
            items = [self.encode(item, f"{path}/{index}") for index, item in enumerate(value)]
            return items if isinstance(value, list) else {_TAG: "tuple", "items": items}
        if isinstance(value, AppendOnly):
            self.logs[path] = value
            return {_TAG: "log", "name": path}
        torch = sys.modules.get("torch")  # a tensor can only be here if torch was imported by somebody
        if torch is not None and isinstance(value, torch.Tensor):
            return self._array("tensor", value.detach().cpu().numpy(), path)
        raise CheckpointError(f"cannot store {path or 'the state'}: a {type(value).__qualname__} is not plain data")

    def _array(self, kind: str, value: Array, path: str) -> Json:
        if value.dtype == object:  # observations without a fixed shape, such as texts
            items = [self.encode(item, f"{path}/{index}") for index, item in enumerate(value.ravel())]
            return {_TAG: "objects", "items": items, "shape": list(value.shape)}
        if value.dtype.hasobject or value.dtype.kind not in "biufcSU":
            raise CheckpointError(f"cannot store {path}: arrays of dtype {value.dtype} are not plain data")
        name = path
        while name in self.arrays:  # another key spelled the same way, such as 1 and "1"
            name += "'"
        if value.dtype.kind in "cSU":  # complex numbers and text, which safetensors does not know: their bytes
            self.arrays[name] = np.frombuffer(value.tobytes(), np.uint8).copy()
            return {_TAG: f"{kind} bytes", "name": name, "dtype": value.dtype.str, "shape": list(value.shape)}
        # safetensors wants little-endian, contiguous arrays with at least no negative strides
        self.arrays[name] = np.array(value, order="C", copy=True)
        return {_TAG: kind, "name": name}

    def _dict(self, value: Mapping[Any, Any], path: str) -> Json:
        if all(isinstance(key, str) for key in value) and _TAG not in value:
            return {key: self.encode(item, f"{path}/{key}") for key, item in value.items()}
        pairs = [
            [self.encode(key, f"{path}/key{index}"), self.encode(item, f"{path}/{key}")]
            for index, (key, item) in enumerate(value.items())
        ]
        return {_TAG: "dict", "items": pairs}


def decode(node: Json, arrays: Mapping[str, Array], open_log: Callable[[str], AppendOnly]) -> Any:
    """The tree that `Encoder.encode` was given. Raises CheckpointError for a document that is not one of ours."""
    if isinstance(node, list):
        return [decode(item, arrays, open_log) for item in node]
    if not isinstance(node, dict):
        return node
    if _TAG not in node:
        return {key: decode(item, arrays, open_log) for key, item in node.items()}
    try:
        return _decode_tagged(node, arrays, open_log)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"damaged state document at {str(node)[:80]}") from error


def _decode_tagged(node: dict[str, Json], arrays: Mapping[str, Array], open_log: Callable[[str], AppendOnly]) -> Any:
    kind = node[_TAG]
    if kind == "array":
        return arrays[node["name"]].copy()
    if kind == "scalar":
        return arrays[node["name"]][()]
    if kind in ("array bytes", "scalar bytes"):
        if not _BYTES_DTYPE.fullmatch(node["dtype"]):
            raise CheckpointError(f"the state document holds bytes of dtype {node['dtype']!r}, not complex or text")
        array = np.frombuffer(arrays[node["name"]].tobytes(), np.dtype(node["dtype"])).reshape(node["shape"]).copy()
        return array if kind == "array bytes" else array[()]
    if kind == "tensor":
        import torch

        return torch.from_numpy(arrays[node["name"]].copy())
    if kind == "log":
        return open_log(node["name"])
    if kind == "float":
        return float(node["value"])
    if kind == "objects":
        objects = np.empty(len(node["items"]), object)
        for index, item in enumerate(node["items"]):
            objects[index] = decode(item, arrays, open_log)
        return objects.reshape(node["shape"])
    if kind == "tuple":
        return tuple(decode(item, arrays, open_log) for item in node["items"])
    if kind == "dict":
        return {decode(key, arrays, open_log): decode(item, arrays, open_log) for key, item in node["items"]}
    raise CheckpointError(f"the state document holds an unknown kind {kind!r}; it was written by a newer rlkit")


def copy_tree(value: Any) -> Any:
    """The tree with every array copied, so that it stays as it is while its owner goes on."""
    encoder = Encoder()
    document = encoder.encode(value)
    return decode(document, encoder.arrays, encoder.logs.__getitem__)
