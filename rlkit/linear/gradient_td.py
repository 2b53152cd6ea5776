"""Off-policy prediction that does not diverge: TDC, GTD2, emphatic TD (Sutton and Barto 2018, sections 11.7, 11.8).

One policy is followed, another evaluated; every update is weighted with their ratio ρ. TDC and GTD2 (Sutton et al.
2009) have second weights v, learned with a step size β of their own; emphatic TD (Sutton, Mahmood and White 2016)
multiplies updates with the emphasis M of the state.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.linear.rules import correction_error, followon, gtd2_amounts, sparse_dot, tdc_amounts
from rlkit.linear.weights import (
    WEIGHTS,
    Linear,
    behaviour_probability,
    choose_action,
    count_update,
    move,
    target_probability,
    value,
)
from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, family, no_start
from rlkit.tabular.rules import bootstrap_target, importance_ratio

TDC, GTD2, EMPHATIC = 0, 1, 2


class GradientTD(NamedTuple):
    """The newest transition of each environment, and what the rules remember.

    `second` [F] are the weights v, `second_rate` β is divided by the active features of binary codes already,
    `interest` I of every state. `scratch_transition` int64 [N, 5]: slot, action, next slot, terminated, ended; `reward`
    [N]; `before` [N, 2]: ratio and emphasis of the state before, 0 in an episode's first.
    """

    linear: Linear
    rule: int
    second_rate: float
    interest: float
    second: Floats64
    scratch_transition: Integers
    reward: Floats64
    before: Floats64


def gradient_td(linear: Linear, rule: int, second_rate: float, num_envs: int, interest: float = 1.0) -> GradientTD:
    """A learner by `rule`; `linear` has a policy to follow and perhaps another as its target."""
    return GradientTD(
        linear, rule, second_rate, interest, np.zeros(linear.weights.shape[1]), np.zeros((num_envs, 5), np.int64),
        np.zeros(num_envs), np.zeros((num_envs, 2)),
    )  # fmt: skip


@compiled
def _choose(learner: GradientTD, state: int, is_first: bool, rng: np.random.Generator) -> int:
    return choose_action(learner.linear, state, rng)


@compiled
def _store(
    learner: GradientTD,
    row: int,
    state: int,
    action: int,
    reward: float,
    next_state: int,
    terminated: bool,
    ended: bool,
) -> None:
    stored = learner.scratch_transition
    stored[row, 0], stored[row, 1], stored[row, 2] = state, action, next_state
    stored[row, 3], stored[row, 4] = terminated, ended
    learner.reward[row] = reward


@compiled
def _learn(learner: GradientTD, row: int, rng: np.random.Generator) -> int:
    stored, linear = learner.scratch_transition, learner.linear
    slot, action, next_slot = stored[row, 0], stored[row, 1], stored[row, 2]
    discount = 0.0 if stored[row, 3] == 1 else linear.discount
    ratio = importance_ratio(target_probability(linear, slot, action), behaviour_probability(linear, slot, action))
    error = bootstrap_target(learner.reward[row], discount, value(linear, 0, next_slot)) - value(linear, 0, slot)
    step_size = count_update(linear)
    if learner.rule == TDC or learner.rule == GTD2:
        _correct(learner, slot, next_slot, discount, ratio, error, step_size)
    else:
        emphasis = followon(linear.discount, learner.before[row, 0], learner.before[row, 1], learner.interest)
        move(linear, 0, slot, step_size * emphasis * ratio * error)
        learner.before[row, 0], learner.before[row, 1] = ratio, emphasis
        if stored[row, 4] == 1:
            learner.before[row, 0], learner.before[row, 1] = 0.0, 0.0
    return OK


@compiled
def _correct(
    learner: GradientTD, slot: int, next_slot: int, discount: float, ratio: float, error: float, step_size: float
) -> None:
    """Both weight vectors of TDC or GTD2; the correction v · x is that before the update."""
    linear, slots = learner.linear, learner.linear.scratch
    indices, values = slots.indices[slot], slots.values[slot]
    correction = sparse_dot(learner.second, indices, values)
    if learner.rule == TDC:
        along, along_next = tdc_amounts(ratio, error, correction, discount)
    else:
        along, along_next = gtd2_amounts(ratio, correction, discount)
    move(linear, 0, slot, step_size * along)
    move(linear, 0, next_slot, step_size * along_next)
    amount = learner.second_rate * correction_error(ratio, error, correction)
    for k in range(len(indices)):
        learner.second[indices[k]] += amount * values[k]


family(GradientTD, choose=_choose, store=_store, learn=_learn, next_start=no_start, memory=WEIGHTS)
