"""TQC's own promises: what it drops, what its actor climbs, and that it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from control_tasks import SMALL, TASK, OneReward, Quadratic

import rlkit
from rlkit.agents.off_policy import Tensors
from rlkit.agents.tqc import TQC, TQCConfig
from rlkit.errors import UsageError


def small(**options: object) -> TQCConfig:
    return TQCConfig.model_validate(SMALL | {"quantiles": 5, "dropped_quantiles": 1} | options)


def test_targets_leave_the_largest_quantiles_out() -> None:
    rows = 8
    batch = Tensors(
        torch.zeros(rows, 2), torch.zeros(rows, 2), torch.ones(rows), torch.zeros(rows, 2), torch.ones(rows)
    )
    for dropped, kept in ((0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), (1, [1, 2, 3, 4, 5, 6, 7, 8]), (4, [1, 2])):
        agent = TQC(small(dropped_quantiles=dropped), TASK)
        agent.target_critics.flat.zero_()
        for member, first in zip(agent.target_critics.members, (6.0, 1.0), strict=True):
            member.layer_views()[-1][1].copy_(first + torch.arange(5))
        target = agent.target(batch, torch.zeros(rows, 2), torch.tensor(0.0))
        assert target.tolist() == [[1.0 + value for value in kept]] * rows


def test_dropping_everything_is_refused() -> None:
    with pytest.raises(UsageError, match="below"):
        TQC(small(dropped_quantiles=5), TASK)


@pytest.mark.parametrize(("terminates", "first_value"), [(True, 4.0951), (False, 10.0)])
def test_the_critics_find_the_known_value_with_either_end(terminates: bool, first_value: float, tmp_path: Path) -> None:
    """With gamma 0.9: 1 + .9 + … + .9^4 = 4.0951 where the fifth step terminates, 1 / (1 - .9) where it truncates."""
    config = small(learning_rate=3e-3, tau=0.1, gamma=0.9, temperature=1e-3, dropped_quantiles=0).model_dump()
    result = rlkit.train(
        "tqc", lambda: OneReward(terminates), total_steps=2500, run_dir=tmp_path / "run", preset="none",
        agent_config=config, eval_every=0,
    )  # fmt: skip
    quantiles = result.agent.critics(torch.zeros(1, 3))
    assert quantiles.mean().item() == pytest.approx(first_value, rel=0.1)


def test_it_finds_the_best_action_of_a_one_step_task(tmp_path: Path) -> None:
    """Random actions return -5.3 on average, the best constant one -0.7."""
    config = small(learning_rate=3e-3, learning_starts=200).model_dump()
    result = rlkit.train(
        "tqc", Quadratic, total_steps=2500, run_dir=tmp_path / "run", preset="none", agent_config=config, eval_every=0
    )
    assert rlkit.evaluate(result.agent, Quadratic, episodes=100).mean > -0.1


def test_every_default_is_explained() -> None:
    assert all(field.description for field in TQCConfig.model_fields.values())
