"""Options of deep Q-networks; `rlkit.agents.dqn` says which paper each switch is from."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from pydantic import Field, model_validator

from rlkit.agents.core_options import EncoderOptions
from rlkit.agents.observations import EncoderName
from rlkit.agents.replayed_steps import SequenceOptions

Distribution: TypeAlias = Literal["none", "categorical", "quantile", "implicit"]


class DQNConfig(EncoderOptions, SequenceOptions):
    """Defaults: Mnih et al. 2015 where they serve small tasks too, unless a field says otherwise."""

    learning_rate: float = Field(2.5e-4, gt=0)
    """step size of Adam"""
    adam_epsilon: float = Field(1e-8, gt=0)
    """added to Adam's denominator (Hessel 2018: 1.5e-4; Dabney 2018: 0.01 / batch size)"""
    gamma: float = Field(0.99, ge=0, le=1)
    """discount factor"""
    batch_size: int = Field(128, ge=1)
    """transitions in one update (Mnih 2015: 32)"""
    buffer_size: int = Field(100_000, ge=1)
    """transitions kept in replay (Mnih 2015: 1,000,000)"""
    learning_starts: int = Field(1_000, ge=0)
    """uniformly random env steps before learning (Mnih 2015: 50,000)"""
    dataset_steps: int | None = Field(None, ge=1)
    """store only so many env steps and learn from this fixed dataset; by default every step"""
    train_every: int = Field(4, ge=1)
    """env steps between two times of learning"""
    gradient_steps: int = Field(1, ge=1)
    """updates each time"""
    target_update_every: int = Field(500, ge=1)
    """env steps between two updates of the target network (Mnih 2015: every 10,000 updates)"""
    tau: float = Field(1.0, gt=0, le=1)
    """fraction of the way that the target then moves: 1 copies, less is Polyak averaging"""
    epsilon: float = Field(1.0, ge=0, le=1)
    """probability of a random action at the first step, falling linearly; learning_starts comes first"""
    final_epsilon: float = Field(0.05, ge=0, le=1)
    """probability of a random action at the end of the fall (Mnih 2015: 0.1)"""
    epsilon_fraction: float = Field(0.2, ge=0, le=1)
    """part of the run in which epsilon falls"""
    loss: Literal["huber", "squared"] = "huber"
    """loss of the TD error, where values are no distribution"""
    max_grad_norm: float | None = Field(10.0, gt=0)
    """longest gradient (stable-baselines3's; Wang 2016 has it too); null: no limit"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the fully connected hidden layers; after the convolutions, where observations are pictures"""
    encoder: EncoderName = "auto"
    """auto: for pictures nature (impala where small), else mlp; attention: its parts see each other first"""
    shift: int = Field(0, ge=0)
    """pixels by which pictures to learn from are shifted at random at most; 0: not (Yarats et al. 2021: 4)"""
    double: bool = False
    """the online network selects the next action, the target network values it (van Hasselt et al. 2016)"""
    dueling: bool = False
    """streams for state value and advantages (Wang et al. 2016)"""
    n_step: int = Field(1, ge=1)
    """rewards summed before bootstrapping"""
    prioritized: bool = False
    """replay transitions in proportion to their error (Schaul et al. 2016)"""
    priority_alpha: float = Field(0.6, gt=0, le=1)
    """exponent of the priorities (Schaul 2016, proportional)"""
    priority_beta: float = Field(0.4, ge=0, le=1)
    """initial exponent of the importance weights; rises to 1 over the run"""
    noisy: bool = False
    """learned noise on the weights instead of random actions (Fortunato et al. 2018)"""
    noisy_sigma: float = Field(0.5, gt=0)
    """initial scale of that noise (σ₀)"""
    distribution: Distribution = "none"
    """learn a distribution of returns: categorical is C51, quantile QR-DQN, implicit IQN"""
    atoms: int = Field(51, ge=2)
    """atoms of the categorical distribution"""
    lowest_return: float = -10.0
    """lowest atom; discounted returns below it cannot be told apart"""
    highest_return: float = 10.0
    """highest atom"""
    quantiles: int = Field(200, ge=1)
    """quantiles of QR-DQN; levels that IQN draws for each pass (its paper: 64)"""
    quantile_threshold: float = Field(1.0, ge=0)
    """κ of the quantile Huber loss"""
    munchausen: bool = False
    """add the log-policy to rewards and bootstrap softly, so that double changes nothing (Vieillard et al. 2020)"""
    munchausen_alpha: float = Field(0.9, ge=0, le=1)
    """weight of the log-policy"""
    munchausen_temperature: float = Field(0.03, gt=0)
    """temperature of the softmax policy"""
    munchausen_lowest: float = Field(-1.0, le=0)
    """lowest value of temperature times log-policy"""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.lowest_return >= self.highest_return:
            raise ValueError(
                f"lowest_return is {self.lowest_return:g} and highest_return {self.highest_return:g}; it must be lower"
            )
        if self.dataset_steps is not None and self.dataset_steps > self.buffer_size:
            raise ValueError(
                f"dataset_steps is {self.dataset_steps:,} and buffer_size {self.buffer_size:,}: it would forget "
                "part of the dataset; make it larger"
            )
        if self.munchausen and self.distribution == "categorical":
            raise ValueError("munchausen goes with distribution none, quantile or implicit, not with categorical")
        if (self.dueling or self.noisy) and not self.hidden:
            raise ValueError("hidden is empty: dueling and noisy networks need at least one hidden layer")
        return self
