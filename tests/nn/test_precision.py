"""Precision: what is made in half of float32, what never is, and the scale of float16's gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rlkit
from rlkit.errors import UsageError
from rlkit.nn.precision import Precision

CPU = torch.device("cpu")


def half() -> Precision:
    """float16's scaling, which no processor's products are needed for."""
    return Precision("fp16", torch.device("cuda"), growth_interval=3)


def test_products_are_made_in_the_format() -> None:
    x = torch.ones(4, 4)
    with Precision("bf16", CPU).products():
        assert (x @ x).dtype == torch.bfloat16
    with Precision("fp32", CPU).products():
        assert (x @ x).dtype == torch.float32


def test_float16_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="fp16, which is for GPUs; on a processor use fp32"):
        Precision("fp16", CPU)


def test_the_scale_goes_down_where_gradients_overflow_and_up_after_many_that_did_not() -> None:
    precision = half()
    begin = precision.scale
    gradient = precision.scaled(torch.tensor([1.0, 2.0]))
    assert precision.unscale_(gradient)
    assert gradient.tolist() == [1.0, 2.0]
    assert not precision.unscale_(torch.tensor([1.0, float("inf")]))
    assert precision.scale == begin / 2
    for _ in range(3):
        assert precision.unscale_(torch.ones(2))
    assert precision.scale == begin
    other = half()
    other.load_state(precision.state())
    assert other.state() == precision.state()


def test_small_gradients_survive_float16_when_scaled() -> None:
    gradient = torch.full((2,), 1e-8)
    assert bool((gradient.half() == 0).all())
    precision = half()
    kept = precision.scaled(gradient).half().float()
    assert precision.unscale_(kept)
    torch.testing.assert_close(kept, gradient, rtol=1e-3, atol=0)


def test_a_target_network_in_bfloat16_would_never_move() -> None:
    """Why targets stay float32."""
    for dtype, moves in ((torch.bfloat16, False), (torch.float32, True)):
        target, online = torch.ones(1, dtype=dtype), torch.full((1,), 1.3, dtype=dtype)
        for _ in range(1000):
            target.lerp_(online, 0.005)
        assert (float(target) > 1.0) == moves


@pytest.mark.parametrize("core", ["gru", "transformer"])
@pytest.mark.parametrize("name", ["ppo", "a2c", "reinforce"])
def test_agents_learn_in_bfloat16_with_float32_weights_and_log_probabilities(
    name: str, core: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"ppo": {"n_steps": 16, "batch_size": 16}, "a2c": {}, "reinforce": {"episodes": 2}}[name]
    seen: list[torch.dtype] = []
    from rlkit.nn import recurrent_actor_critic

    trace = recurrent_actor_critic.RecurrentActorCritic.trace

    def watched(self: Any, *given: Any) -> Any:
        found = trace(self, *given)
        seen.extend((found.distribution.log_prob.dtype, found.value.dtype))
        return found

    monkeypatch.setattr(recurrent_actor_critic.RecurrentActorCritic, "trace", watched)
    result = rlkit.train(
        name, "CartPole-v1", total_steps=96, run_dir=tmp_path / "run", preset="none", eval_every=0, num_envs=2,
        agent_config={"core": core, "core_width": 8, "core_heads": 2, "precision": "bf16", **options},
    )  # fmt: skip
    assert set(seen) == {torch.float32}
    assert {parameter.dtype for parameter in result.agent.actor.network.parameters()} == {torch.float32}
    assert bool(result.agent.actor.network.flat.isfinite().all())


def test_perceptrons_refuse_half_precision(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match=r"agent\.precision is bf16: perceptrons learn in fp32"):
        rlkit.train(
            "ppo", "CartPole-v1", total_steps=96, run_dir=tmp_path / "run", preset="none",
            agent_config={"precision": "bf16"},
        )  # fmt: skip
