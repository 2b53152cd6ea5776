"""The equations of `rlkit.ops` that tables use, compiled once; every path, stepped or compiled, calls these."""

from __future__ import annotations

from rlkit.ops import importance, means, policies, schedules, td, traces
from rlkit.tabular.compiled import compiled

q_learning_target = compiled(td.q_learning_target)
double_q_target = compiled(td.double_q_target)
expected_target = compiled(td.expected_target)
bootstrap_target = compiled(td.bootstrap_target)
tree_backup_return = compiled(td.tree_backup_return)
q_sigma_return = compiled(td.q_sigma_return)
exploration_bonus = compiled(td.exploration_bonus)

greedy_action = compiled(policies.greedy_action)
greedy_ties = compiled(policies.greedy_ties)
nth_greedy_action = compiled(policies.nth_greedy_action)
epsilon_greedy_probabilities = compiled(policies.epsilon_greedy_probabilities)
softmax_probabilities = compiled(policies.softmax_probabilities)
upper_confidence_bound = compiled(policies.upper_confidence_bound)
drawn_action = compiled(policies.drawn_action)

scheduled_epsilon = compiled(schedules.scheduled_epsilon)
scheduled_step_size = compiled(schedules.scheduled_step_size)

incremental_mean = compiled(means.incremental_mean)
weighted_mean = compiled(means.weighted_mean)

importance_ratio = compiled(importance.importance_ratio)
per_decision_return = compiled(importance.per_decision_return)

accumulating_trace = compiled(traces.accumulating_trace)
replacing_trace = compiled(traces.replacing_trace)
dutch_trace = compiled(traces.dutch_trace)
