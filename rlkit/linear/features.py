"""Encoded observations: one type for all kinds of features, one compiled `encode` for all.

An observation is O numbers; a finite one is its digits. Its code is sparse: K indices among F features, and
their values. One kind of features more does not mean one compiled learner more, because the kind is a number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.linear.rules import (
    cell_of,
    fourier_value,
    mixed_hash,
    polynomial_value,
    radial_value,
    squared_distance,
    tile_coordinate,
    unit_coordinate,
    wrapped_cell,
)
from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled, compiled_apart
from rlkit.tabular.handles import Handle, content_of
from rlkit.types import Bools

KINDS = ("tiles", "fourier", "polynomial", "rbf", "aggregation", "one-hot", "given", "raw")
TILES, FOURIER, POLYNOMIAL, RADIAL, AGGREGATION, ONE_HOT, GIVEN, RAW = range(len(KINDS))
BINARY = (TILES, AGGREGATION, ONE_HOT)
"""Kinds whose active features are all 1, and whose step size is divided by their number."""


class Features(NamedTuple):
    """How observations are encoded; O dimensions, F features of which K are active at a time.

    `low`, `span` float64 [O] and `squashes` bool [O] scale the observation, `cells` int64 [O] are tiles or groups along
    each dimension, `wraps` bool [O] those that wrap around. `coefficients` [G, O] are frequencies, powers or centres;
    of GIVEN, [S, F] the features of each state. `digits` int64 [O, 3]: stride, size and first value of each digit of a
    finite observation, without rows for others. Of a finite observation only GIVEN and ONE_HOT need its row.
    `greatest_norm` is a bound of |x|², where there is one.
    """

    kind: int
    size: int
    active: int
    low: Floats64
    span: Floats64
    squashes: Bools
    cells: Integers
    wraps: Bools
    coefficients: Floats64
    digits: Integers
    num_tilings: int
    hash_size: int
    width: float
    symmetric: bool
    normalise: bool
    bias: bool
    greatest_norm: float


@compiled
def encode(
    features: Features, observation: Floats64, state: int, scaled: Floats64, indices: Integers, values: Floats64
) -> None:
    """Indices and values [K] of `observation` [O], whose row is `state` where it is finite; `scaled` [O] is scratch."""
    if features.kind == TILES:
        _encode_tiles(features, observation, indices)
    elif features.kind == AGGREGATION:
        indices[0] = _group(features, observation)
    elif features.kind == ONE_HOT:
        indices[0] = state
    elif features.kind == GIVEN:
        for i in range(features.coefficients.shape[1]):
            values[i] = features.coefficients[state, i]
    elif features.kind == RAW:
        for i in range(len(observation)):
            values[i] = observation[i]
    else:
        _encode_smooth(features, observation, scaled, values)


@compiled
def _encode_tiles(features: Features, observation: Floats64, indices: Integers) -> None:
    """One tile of every tiling, as a number; `cells` counts tiles of the range, one more is needed for displacement."""
    tilings = features.num_tilings
    for tiling in range(tilings):
        indices[tiling] = tiling
    for i in range(len(observation)):
        tiles = features.cells[i]
        if features.wraps[i]:
            position = wrapped_cell(observation[i], features.low[i], features.span[i], tiles * tilings)
        else:
            position = cell_of(observation[i], features.low[i], features.span[i], features.squashes[i], tiles * tilings)
        for tiling in range(tilings):
            coordinate = tile_coordinate(position, tiling, i, tilings)
            if features.hash_size > 0:
                indices[tiling] = mixed_hash(indices[tiling], coordinate % tiles if features.wraps[i] else coordinate)
            elif features.wraps[i]:
                indices[tiling] = indices[tiling] * tiles + coordinate % tiles
            else:
                indices[tiling] = indices[tiling] * (tiles + 1) + coordinate
    if features.hash_size > 0:
        for tiling in range(tilings):
            indices[tiling] %= features.hash_size


@compiled
def _group(features: Features, observation: Floats64) -> int:
    group = 0
    for i in range(len(observation)):
        part = cell_of(observation[i], features.low[i], features.span[i], features.squashes[i], features.cells[i])
        group = group * features.cells[i] + part
    return group


@compiled
def _encode_smooth(features: Features, observation: Floats64, scaled: Floats64, values: Floats64) -> None:
    for i in range(len(observation)):
        unit = unit_coordinate(observation[i], features.low[i], features.span[i], features.squashes[i])
        scaled[i] = 2.0 * unit - 1.0 if features.symmetric else unit
    for g in range(len(features.coefficients)):
        if features.kind == FOURIER:
            values[g] = fourier_value(scaled, features.coefficients[g])
        elif features.kind == POLYNOMIAL:
            values[g] = polynomial_value(scaled, features.coefficients[g])
        else:
            values[g] = squared_distance(scaled, features.coefficients[g])
    if features.kind == RADIAL:
        _distances_to_features(features, values)


@compiled
def _distances_to_features(features: Features, values: Floats64) -> None:
    """Squared distances become radial features.

    Shares are taken relative to the nearest centre, which is then 1: far from all centres, small widths make every
    feature 0, and so would their sum be.
    """
    count, nearest, total = len(features.coefficients), 0.0, 0.0
    if features.normalise:
        nearest = values[0]
        for g in range(1, count):
            nearest = min(nearest, values[g])
    for g in range(count):
        values[g] = radial_value(values[g] - nearest, features.width)
        total += values[g]
    if features.normalise:
        for g in range(count):
            values[g] /= total


@compiled
def row_of_digits(features: Features, observation: Floats64) -> int:
    """The row of a finite observation, -1 if it lies outside its space; 0 for others."""
    row = 0
    for i in range(len(features.digits)):
        digit = observation[i] - features.digits[i, 2]
        if not 0.0 <= digit < features.digits[i, 1]:
            return -1
        row += int(digit) * features.digits[i, 0]
    return row


@compiled
def write_digits(features: Features, row: int, observation: Floats64) -> None:
    """The digits of a row: the inverse of `row_of_digits`."""
    for i in range(len(features.digits)):
        observation[i] = row // features.digits[i, 0] % features.digits[i, 1] + features.digits[i, 2]


class Slots(NamedTuple):
    """Encoded observations, two of each of N environments and a spare pair: what a learner calls a state is a slot.

    `indices` int64 and `values` [2N + 2, K] the codes, `observations` [2N + 2, O] of what, `rows` int64 their rows;
    `incoming`, `scaled` [O] and `action_values` [A] are passing thoughts. Nothing here outlives a step, so nothing is
    saved.
    """

    indices: Integers
    values: Floats64
    observations: Floats64
    rows: Integers
    incoming: Floats64
    scaled: Floats64
    action_values: Floats64


def new_slots(features: Features, num_envs: int, num_actions: int) -> Slots:
    """Empty slots; a constant feature, where there is one, is the last and always 1."""
    count = 2 * num_envs + 2
    indices = np.tile(np.arange(features.active, dtype=np.int64), (count, 1))
    if features.bias:
        indices[:, -1] = features.size - 1
    dimensions = len(features.low)
    return Slots(
        indices, np.ones(indices.shape), np.full((count, dimensions), np.nan), np.zeros(count, np.int64),
        np.zeros(dimensions), np.zeros(dimensions), np.zeros(num_actions),
    )  # fmt: skip


class Encoder(NamedTuple):
    """Features and slots together: what encoding needs."""

    features: Features
    slots: Slots


@compiled_apart
def slot_of_incoming(encoder: Handle, row: int, state: int, kept: int) -> int:
    """The slot of environment `row` (-1: the spare pair) that encodes `slots.incoming`, row `state` of a table.

    An observation that is there already is not encoded again; `kept` is not overwritten. This is much code and called
    at many places, so it is not put into each; and it takes an address, because named tuples are slow to hand over.
    """
    features, slots = content_of(encoder)
    pairs = len(slots.rows) // 2
    first = 2 * (row % (pairs - 1) if row >= 0 else pairs - 1)
    for slot in (first, first + 1):
        if _is_held(slots, slot):
            return slot
    slot = first if kept != first else first + 1
    for i in range(len(slots.incoming)):
        slots.observations[slot, i] = slots.incoming[i]
    slots.rows[slot] = state
    encode(features, slots.incoming, state, slots.scaled, slots.indices[slot], slots.values[slot])
    return slot


@compiled
def _is_held(slots: Slots, slot: int) -> bool:
    same = 0
    for i in range(len(slots.incoming)):
        same += slots.observations[slot, i] == slots.incoming[i]
    return same == len(slots.incoming)
