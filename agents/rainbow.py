"""DQN with one improvement or with all: C51, QR-DQN, IQN, Munchausen-DQN, and Rainbow (Hessel et al. 2018).

The same agent with other defaults (https://arxiv.org/abs/1710.02298 for Rainbow): double, dueling, prioritised replay,
3-step returns, noisy networks and C51. Deviations are those of `rlkit.agents.dqn`.
"""

from __future__ import annotations

from pydantic import Field

from rlkit.agents.dqn import DQN
from rlkit.agents.dqn_config import Distribution, DQNConfig


class C51Config(DQNConfig):
    """Bellemare et al. 2017: 51 atoms."""

    distribution: Distribution = "categorical"
    """learn a distribution of returns"""


class C51(DQN):
    """Categorical DQN."""

    Config = C51Config


class QRDQNConfig(DQNConfig):
    """Dabney et al. 2018: 200 quantiles, batches of 32."""

    batch_size: int = Field(32, ge=1)
    """transitions in one update; an update compares batch size × quantiles² numbers"""
    distribution: Distribution = "quantile"
    """learn a distribution of returns"""
    adam_epsilon: float = Field(0.01 / 32, gt=0)
    """added to Adam's denominator"""


class QRDQN(DQN):
    """Quantile regression DQN."""

    Config = QRDQNConfig


class IQNConfig(DQNConfig):
    """Dabney et al. 2018: implicit quantiles; 32 levels (the paper draws 64), batches of 32."""

    batch_size: int = Field(32, ge=1)
    """transitions in one update"""

    distribution: Distribution = "implicit"
    """learn a distribution of returns"""
    quantiles: int = Field(32, ge=1)
    """levels drawn for each pass"""
    adam_epsilon: float = Field(0.01 / 32, gt=0)
    """added to Adam's denominator"""


class IQN(DQN):
    """Implicit quantile network."""

    Config = IQNConfig


class MunchausenDQNConfig(DQNConfig):
    """Vieillard et al. 2020: M-DQN."""

    munchausen: bool = True
    """add the log-policy to rewards and bootstrap softly"""


class MunchausenDQN(DQN):
    """Munchausen DQN."""

    Config = MunchausenDQNConfig


class RainbowConfig(DQNConfig):
    """Hessel et al. 2018, table 1, for what is not also an option of `dqn`."""

    adam_epsilon: float = Field(1.5e-4, gt=0)
    """added to Adam's denominator"""
    double: bool = True
    """the online network selects the next action"""
    dueling: bool = True
    """streams for state value and advantages"""
    n_step: int = Field(3, ge=1)
    """rewards summed before bootstrapping"""
    prioritized: bool = True
    """replay transitions in proportion to their error"""
    priority_alpha: float = Field(0.5, gt=0, le=1)
    """exponent of the priorities (Hessel 2018: 0.5)"""
    noisy: bool = True
    """learned noise on the weights instead of random actions"""
    distribution: Distribution = "categorical"
    """learn a distribution of returns"""


class Rainbow(DQN):
    """All improvements at once."""

    Config = RainbowConfig
