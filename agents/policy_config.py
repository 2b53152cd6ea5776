"""Options of the networks of PPO, A2C and REINFORCE."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from rlkit.agents.core_options import CoreOptions, EncoderOptions
from rlkit.agents.observations import EncoderName
from rlkit.nn.mlp import Activation
from rlkit.nn.precision import PrecisionName

Schedule: TypeAlias = Literal["constant", "linear"]


class PolicyConfig(EncoderOptions, CoreOptions):
    """Options of the networks and of the discount; defaults are stable-baselines3's, unless a field says otherwise."""

    learning_rate_schedule: Schedule = "constant"
    """linear: falls to zero at the end of the run"""
    gamma: float = Field(0.99, ge=0, le=1)
    """discount factor"""
    entropy_coefficient: float = Field(0.0, ge=0)
    """weight of the policy's entropy, which is made larger (Mnih 2016 and PPO on Atari: 0.01)"""
    max_grad_norm: float | None = Field(0.5, gt=0)
    """longest gradient of both networks together; null: no limit"""
    hidden: tuple[int, ...] = (64, 64)
    """widths of the hidden layers, the same for policy and value (Schulman 2017)"""
    activation: Activation = "tanh"
    """after each hidden layer (Schulman 2017)"""
    initial_log_std: float = 0.0
    """logarithm of the first standard deviation of continuous actions"""
    encoder: EncoderName = "auto"
    """auto: for pictures nature (impala where small), else mlp; attention: its parts (entities, …) see each other"""
    share_core: bool = False
    """one core and encoder for policy and value, as always with convolutions; otherwise each has its own"""
    precision: PrecisionName = "fp32"
    """format of the products in core and encoder; all that adds up stays float32 (fp16: on GPUs, with loss scaling)"""
