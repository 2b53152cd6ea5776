"""Exact state of an environment as a plain tree, without pickle, and the probe that tells whether it suffices.

Each layer of a wrapped environment gives those of its attributes that are plain data: numbers, text, arrays, random
generators, and containers of these. What is not plain (renderers, spaces, functions) stays as the fresh environment
built it. Whether that is enough is never assumed: `probe_restore` compares a restored environment with the original
step by step. An environment can help with two methods, `get_state()` and `set_state(state)`, which are preferred.

Arrays marked read-only are taken as constants and not stored.
"""

from __future__ import annotations

import copy
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import gymnasium as gym
import numpy as np

from rlkit.envs.contract import Env, EnvFn, describe
from rlkit.envs.masks import MaskReader, sampled
from rlkit.envs.simulators import capture_simulator, restore_simulator
from rlkit.errors import CheckpointError
from rlkit.types import Bools, State

RestoreTier: TypeAlias = Literal["exact", "reset"]
"""exact: the next step after a restore is bit-identical. reset: unfinished episodes are lost on resume."""

# Belong to how an environment was built, not to where it is in an episode.
_CONSTRUCTION = frozenset({"env", "spec", "metadata", "_metadata", "render_mode", "_saved_kwargs"})
_SCALARS = (type(None), bool, int, float, str)
_BIT_GENERATORS: dict[str, Callable[[], np.random.BitGenerator]] = {
    "PCG64": np.random.PCG64,
    "PCG64DXSM": np.random.PCG64DXSM,
    "MT19937": np.random.MT19937,
    "Philox": np.random.Philox,
    "SFC64": np.random.SFC64,
}
_MAX_DEPTH = 30
_PROBE_STEPS = 50
_PROBE_MAX_STEPS = 1500  # enough to reach the time limit of 1000 that MuJoCo tasks have
_PROBE_SECONDS = 5.0
_WARM_UP_STEPS = (3, 20)


@runtime_checkable
class Restorable(Protocol):
    """An environment that knows its own state."""

    def get_state(self) -> Any:
        """Plain tree: everything needed to continue exactly, random generators excepted."""

    def set_state(self, state: Any) -> None:
        """Continue from what `get_state` returned."""


class NotPlain(Exception):
    """Raised inside this module when a value cannot be stored without pickle."""


class _Encoder:
    """Plain tree of values; one generator used under two names stays one generator."""

    def __init__(self) -> None:
        self._generators: dict[int, int] = {}

    def encode(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if kind in _SCALARS:
            return value
        if isinstance(value, np.generic) and value.dtype.kind in "biufcSU":
            return value
        if kind is np.ndarray and value.dtype.kind in "biufcSU":
            return value.copy()
        if kind is np.random.Generator or kind is random.Random:
            return self._encode_generator(value)
        if depth >= _MAX_DEPTH:
            raise NotPlain("nested too deeply")
        if kind is list or kind is tuple:
            return kind(self.encode(element, depth + 1) for element in value)
        if kind is dict:
            return self._encode_dict(value, depth)
        if kind in (deque, set, frozenset):
            items = [self.encode(element, depth + 1) for element in value]
            maxlen = value.maxlen if kind is deque else None
            return {"kind": kind.__name__, "items": items, "maxlen": maxlen}
        raise NotPlain(kind.__name__)

    def _encode_dict(self, value: dict[Any, Any], depth: int) -> Any:
        if "kind" not in value and all(type(key) is str for key in value):
            return {key: self.encode(element, depth + 1) for key, element in value.items()}
        pairs = [[self.encode(key, depth + 1), self.encode(element, depth + 1)] for key, element in value.items()]
        return {"kind": "dict", "items": pairs}

    def _encode_generator(self, value: np.random.Generator | random.Random) -> Any:
        first_seen = id(value) not in self._generators
        number = self._generators.setdefault(id(value), len(self._generators))
        if not first_seen:
            return {"kind": "same-generator", "number": number}
        if isinstance(value, random.Random):
            return {"kind": "python-random", "number": number, "state": value.getstate()}
        name = type(value.bit_generator).__name__
        if name not in _BIT_GENERATORS:
            raise NotPlain(name)
        state = self.encode(dict(value.bit_generator.state))
        return {"kind": "generator", "number": number, "bit_generator": name, "state": state}


class _Decoder:
    """Values from the tree of `_Encoder`."""

    def __init__(self) -> None:
        self._generators: dict[int, np.random.Generator | random.Random] = {}

    def decode(self, tree: Any) -> Any:
        if isinstance(tree, np.ndarray):
            return tree.copy()
        if isinstance(tree, list):
            return [self.decode(element) for element in tree]
        if isinstance(tree, tuple):
            return tuple(self.decode(element) for element in tree)
        if isinstance(tree, dict):
            return self._decode_kind(tree) if "kind" in tree else {key: self.decode(tree[key]) for key in tree}
        return tree

    def _decode_kind(self, tree: dict[str, Any]) -> Any:
        kind = tree["kind"]
        if kind == "same-generator":
            return self._generators[tree["number"]]
        if kind in ("generator", "python-random"):
            return self._decode_generator(tree)
        items = [self.decode(element) for element in tree["items"]]
        if kind == "dict":
            return dict(items)
        if kind == "deque":
            return deque(items, maxlen=tree["maxlen"])
        if kind == "set":
            return set(items)
        if kind == "frozenset":
            return frozenset(items)
        raise CheckpointError(f"unknown kind {kind!r} in an environment's state")

    def _decode_generator(self, tree: dict[str, Any]) -> np.random.Generator | random.Random:
        generator: np.random.Generator | random.Random
        if tree["kind"] == "python-random":
            version, internal, gauss = tree["state"]
            generator = random.Random()
            generator.setstate((version, tuple(internal), gauss))
        else:
            bits = _BIT_GENERATORS[tree["bit_generator"]]()
            bits.state = self.decode(tree["state"])
            generator = np.random.Generator(bits)
        self._generators[tree["number"]] = generator
        return generator


def layers(env: Env) -> list[Env]:
    """The environment and everything inside it, outermost first."""
    chain = [env]
    while isinstance(chain[-1], gym.Wrapper):
        chain.append(chain[-1].env)
    return chain


def capture_env(env: Env) -> State:
    """Plain tree of the environment's state; `restore_env` continues from it."""
    encoder = _Encoder()
    return {"layers": [_capture_layer(layer, encoder) for layer in layers(env)]}


def restore_env(env: Env, state: State) -> None:
    """Put a freshly built environment into `state`.

    Raises:
        CheckpointError: The environment has other wrappers than the one that was captured.
    """
    chain, stored = layers(env), state["layers"]
    names = [type(layer).__name__ for layer in chain]
    if names != [layer["class"] for layer in stored]:
        raise CheckpointError(
            f"the environment is {' > '.join(names)}, the stored one was {' > '.join(s['class'] for s in stored)}; "
            "build it with the same wrappers"
        )
    decoder = _Decoder()
    for layer, tree in zip(chain, stored, strict=True):
        _restore_layer(layer, tree, decoder)


def _capture_layer(layer: Env, encoder: _Encoder) -> State:
    tree: State = {"class": type(layer).__name__}
    attributes = dict(vars(layer))
    if isinstance(layer, Restorable):
        tree["own"] = encoder.encode(layer.get_state())
        # The generator of gymnasium.Env is easily forgotten in a get_state of one's own.
        attributes = {key: attributes[key] for key in ("_np_random", "_np_random_seed") if key in attributes}
    else:
        tree.update(capture_simulator(layer))
    tree["attributes"] = _plain_attributes(attributes, encoder)
    return tree


def _restore_layer(layer: Env, tree: State, decoder: _Decoder) -> None:
    own = decoder.decode(tree["own"]) if "own" in tree else None
    vars(layer).update({key: decoder.decode(value) for key, value in tree["attributes"].items()})
    if "own" in tree and isinstance(layer, Restorable):
        layer.set_state(own)
    restore_simulator(layer, tree)


def _plain_attributes(attributes: dict[str, Any], encoder: _Encoder) -> State:
    plain: State = {}
    for key, value in attributes.items():
        constant = isinstance(value, np.ndarray) and not value.flags.writeable
        if key in _CONSTRUCTION or constant:
            continue
        try:
            plain[key] = encoder.encode(value)
        except NotPlain:
            continue  # stays as the fresh environment builds it; the probe tells whether that matters
    return plain


@dataclass(frozen=True, slots=True)
class RestoreProbe:
    """What a probe found; `reason` is empty for the tier "exact"."""

    tier: RestoreTier
    reason: str = ""


def probe_restore(make_env: EnvFn, seed: int = 0) -> RestoreTier:
    """Tier of the environments that `make_env` builds; see `explain_restore`."""
    return explain_restore(make_env, seed).tier


def explain_restore(make_env: EnvFn, seed: int = 0) -> RestoreProbe:
    """Capture in mid-episode, restore into a fresh environment, compare bit by bit, also beyond an episode's end.

    Runs on environments of its own and leaves the global random generators as they were.
    """
    with _global_generators_kept():
        for warm_up in _WARM_UP_STEPS:
            try:
                reason = _difference_after_restore(make_env, seed, warm_up)
            except Exception as error:  # whatever an unknown environment raises, the answer is the same
                reason = f"the probe failed: {describe(error)}"
            if reason:
                return RestoreProbe("reset", reason)
    return RestoreProbe("exact")


class _RandomSteps:
    """Random actions from a stream of its own, so that two environments get the same ones."""

    def __init__(self, env: Env, seed: int) -> None:
        self._space = copy.deepcopy(env.action_space)  # a space may be shared with the training environments
        self._generator = np.random.default_rng(seed)
        self._reader = MaskReader(env.observation_space, env.action_space)
        self.mask: Bools | None = None

    def action(self) -> Any:
        self._space.seed(int(self._generator.integers(2**31)))
        return sampled(self._space, self.mask)

    def step(self, env: Env) -> tuple[list[Any], bool]:
        """What one step showed (and the reset after an episode's end), and whether the episode ended."""
        obs, reward, terminated, truncated, info = env.step(self.action())
        seen = [_snapshot(obs), np.float64(reward), bool(terminated), bool(truncated)]
        ended = bool(terminated) or bool(truncated)
        if ended:
            obs, info = env.reset()
            seen.append(_snapshot(obs))
        self.look(obs, info)
        return seen, ended

    def look(self, obs: Any, info: dict[str, Any]) -> None:
        """Heed what is allowed now."""
        self.mask = self._reader.read_one(obs, info)


def _difference_after_restore(make_env: EnvFn, seed: int, warm_up: int) -> str:
    original, fresh = make_env(), make_env()
    try:
        actions = _RandomSteps(original, seed)
        actions.look(*original.reset(seed=seed))
        for _ in range(warm_up):
            actions.step(original)
        state, mask = capture_env(original), actions.mask
        actions = _RandomSteps(original, seed + 1)
        actions.mask = mask
        expected = _record(original, actions)
        restore_env(fresh, state)
        actions = _RandomSteps(fresh, seed + 1)
        actions.mask = mask
        for number, (seen, forced) in enumerate(expected, start=1):
            again = [_snapshot(fresh.reset()[0])] if forced else actions.step(fresh)[0]
            if not same(seen, again):
                return f"step {number} after a restore differs"
        return ""
    finally:
        original.close()
        fresh.close()


def _record(env: Env, actions: _RandomSteps) -> list[tuple[list[Any], bool]]:
    """Steps until an episode has ended and 50 steps are seen; a forced reset where none ends in time."""
    record: list[tuple[list[Any], bool]] = []
    any_ended = False
    give_up_at = time.monotonic() + _PROBE_SECONDS
    while len(record) < _PROBE_STEPS or (
        not any_ended and len(record) < _PROBE_MAX_STEPS and time.monotonic() < give_up_at
    ):
        seen, ended = actions.step(env)
        any_ended = any_ended or ended
        record.append((seen, False))
    if not any_ended:
        record.append(([_snapshot(env.reset()[0])], True))
    record.extend((actions.step(env)[0], False) for _ in range(5))
    return record


def _snapshot(obs: Any) -> Any:
    """Copy of an observation that later steps cannot change."""
    if isinstance(obs, dict):
        return {key: _snapshot(value) for key, value in obs.items()}
    if isinstance(obs, (tuple, list)):
        return tuple(_snapshot(value) for value in obs)
    return np.array(obs)


def same(first: Any, second: Any) -> bool:
    """Whether two trees of observations are equal bit by bit, NaN included."""
    if isinstance(first, dict):
        return (
            isinstance(second, dict) and first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
        )
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    one, other = np.asarray(first), np.asarray(second)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(one.tolist() == other.tolist()) if one.dtype.kind == "O" else one.tobytes() == other.tobytes()


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    legacy, python = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(legacy)
        random.setstate(python)
