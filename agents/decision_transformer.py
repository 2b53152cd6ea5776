"""Decision transformer: a policy as a sequence model that is told what return to reach.

Chen et al. 2021, https://arxiv.org/abs/2106.01345, algorithm 1. It learns from a dataset of episodes alone, imitating
what was done where that return was still to come. Defaults are those of the authors' code for gym
(https://github.com/kzl/decision-transformer, gym/experiment.py).

Where it deviates from that code: blocks have GELU (ReLU there); there is no dropout (0.1), only weight decay; windows
are filled from the front (padded in front); embeddings of steps begin with deviation 0.02 (1), biases of the others
with 1 (1 / sqrt(inputs)); components of an observation that never change are only centred (divided by 1e-6); Box
actions are brought to [-1, 1] (as they are); returns are divided by the largest of the dataset (by 1,000, for Reacher
by 10). Discrete actions are one-hot and go through a linear layer (the paper's Atari version: an embedding and tanh),
their loss is cross-entropy as there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.agents.imitated_actions import imitated_actions, imitation_reason
from rlkit.agents.observations import without_mask
from rlkit.config import AgentConfig
from rlkit.data.datasets import EpisodeDataset
from rlkit.data.flatten import ObservationFlattener
from rlkit.data.space_json import space_to_json
from rlkit.data.windows import EpisodeSteps, Windows
from rlkit.errors import CheckpointError, DatasetError, UnsupportedTaskError, UsageError
from rlkit.nn.decision_transformer import DecisionTransformer
from rlkit.nn.flat import flat_gradient, flatten_parameters
from rlkit.nn.optim import Adam, clip_norm
from rlkit.spaces import observation_reason
from rlkit.types import Array, Bools, Carry, Floats, Metrics, Obs, Progress, State, Task, VectorEnv

_CONSTANT = 1e-6
"""Standard deviation below which a component counts as one that never changes; the paper's code adds it to all."""


class DecisionTransformerConfig(AgentConfig):
    """Options of the decision transformer, by default the authors' for gym. A step of a run is an update."""

    dataset: str = ""
    """folder of the episodes to learn from (`rlkit export-dataset`); needed for training only"""
    target_return: float | None = None
    """return to ask for when acting; by default the best of the dataset"""
    return_scale: float | None = Field(None, gt=0)
    """returns are divided by it; by default the largest absolute return-to-go of the dataset (authors: 1,000)"""
    use_returns: bool = True
    """tell the network the return-to-go; without it is behaviour cloning with the same network"""
    context: int = Field(20, ge=1)
    """K, steps that the network sees, the running one among them"""
    width: int = Field(128, ge=1)
    """width of a token"""
    layers: int = Field(3, ge=1)
    """blocks"""
    heads: int = Field(1, ge=1)
    """attention heads; they divide the width"""
    max_timesteps: int = Field(1000, ge=1)
    """longest episode that can be learned from; later steps, in acting, are taken for this one"""
    batch_size: int = Field(64, ge=1)
    """windows of one update"""
    learning_rate: float = Field(1e-4, gt=0)
    """AdamW's"""
    weight_decay: float = Field(1e-4, ge=0)
    """AdamW's, on all parameters"""
    warmup_updates: int = Field(10_000, ge=0)
    """updates until the learning rate is reached, from zero in a straight line"""
    max_grad_norm: float = Field(0.25, gt=0)
    """longest gradient"""


class Context(NamedTuple):
    """What every row remembers of its episode: the last K steps, oldest first, what is there at the front."""

    remaining: npt.NDArray[np.float64]  # [N] return still to be got
    step: npt.NDArray[np.int64]  # [N] actions so far
    to_go: Floats  # [N, K] scaled
    observations: Floats  # [N, K, O] standardised
    actions: Floats  # [N, K, A]


class DecisionTransformerAgent:
    """Imitates the actions of a dataset's episodes, given the return that followed and the last K steps."""

    Config: ClassVar[type[DecisionTransformerConfig]] = DecisionTransformerConfig

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for Discrete, MultiDiscrete and bounded Box actions and observations that flatten, else the reason."""
        return imitation_reason(task.action_space) or observation_reason(without_mask(task.observation_space))

    def __init__(self, config: DecisionTransformerConfig, task: Task) -> None:
        self.config, self._device = config, torch.device(task.device)
        self._imitated = imitated_actions(task.action_space)
        self._flatten = ObservationFlattener(without_mask(task.observation_space))
        generator = seeding.torch_generator(task.seed, "decision-transformer")
        self.network = DecisionTransformer(
            self._flatten.size, self._imitated.size, self._imitated.outputs, width=config.width, layers=config.layers,
            heads=config.heads, max_timesteps=config.max_timesteps, generator=generator,
        ).to(self._device)  # fmt: skip
        self.target_return = config.target_return or 0.0
        self.return_scale = config.return_scale or 1.0
        self.mean, self.std = np.zeros(self._flatten.size, np.float32), np.ones(self._flatten.size, np.float32)
        self.updates = 0
        self._flat = flatten_parameters(self.network)
        self._optimizer = Adam(self._flat, config.learning_rate)
        self._rng = seeding.generator(task.seed, "windows")
        self._steps: EpisodeSteps | None = None
        self._digest = ""  # of the dataset
        if task.total_steps:
            self._read(task)

    def _read(self, task: Task) -> None:
        """Take everything of the dataset that learning and acting need."""
        config = self.config
        if not config.dataset:
            raise UsageError(
                "a decision transformer learns from a dataset: --agent.dataset FOLDER "
                "(`rlkit export-dataset RUN --out FOLDER` makes one)"
            )
        dataset = EpisodeDataset(config.dataset)
        _require_fitting(dataset, task, config.max_timesteps)
        self._steps = EpisodeSteps(dataset, self._flatten, self._imitated.told)
        if not (np.isfinite(self._steps.observations).all() and np.isfinite(self._steps.actions).all()):
            raise DatasetError(
                f"observations or actions of the dataset in {dataset.folder} are not finite; leave these episodes out"
            )
        self._digest = dataset.digest
        if config.target_return is None:
            self.target_return = float(dataset.returns.max())
        if config.return_scale is None:
            self.return_scale = float(np.abs(self._steps.to_go).max()) or 1.0
        self.mean = self._steps.observations.mean(0, np.float64).astype(np.float32)
        std = self._steps.observations.std(0, np.float64).astype(np.float32)
        self.std = np.where(std < _CONSTANT, np.float32(1), std)

    def initial_carry(self, num_envs: int) -> Context:
        """Nothing seen; all of the target return still to be got."""
        window = (num_envs, self.config.context)
        return Context(
            np.full(num_envs, self.target_return),
            np.zeros(num_envs, np.int64),
            np.zeros(window, np.float32),
            np.zeros((*window, self._flatten.size), np.float32),
            np.zeros((*window, self._imitated.size), np.float32),
        )

    def reset_carry(self, carry: Carry, ended: Bools) -> Context:
        """Rows whose episode ended begin anew; what stands in their window is overwritten before it is seen."""
        remaining, step = np.where(ended, self.target_return, carry.remaining), np.where(ended, 0, carry.step)
        return Context(remaining, step, carry.to_go, carry.observations, carry.actions)

    def rewarded(self, carry: Carry, reward: npt.NDArray[np.float64]) -> Context:
        """What was got is no longer to be got (algorithm 1: R - r)."""
        context: Context = carry._replace(remaining=carry.remaining - reward)
        return context

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Context, Mapping[str, Array]]:
        """The most probable actions, drawn where `explore` (Box: the same ones), after the window of each row."""
        remaining, step, *window = carry
        slot = np.minimum(step, self.config.context - 1)
        here = np.arange(len(step)), slot
        to_go, observations, actions = (_shifted(part, slot < step) for part in window)
        to_go[here] = self._scaled(remaining)
        observations[here] = self._standardised(self._flatten(obs))
        length = int(slot.max()) + 1  # what lies behind in every row costs time and changes nothing
        with torch.inference_mode():
            outputs = self.network(
                self._tensor(to_go[:, :length]),
                self._tensor(observations[:, :length]),
                self._tensor(actions[:, :length]),
                self._tensor(step - slot),
            )[here]
        action = self._imitated.chosen(outputs.cpu().numpy(), rng if explore else None, action_mask)
        actions[here] = self._imitated.told(action)
        return action, Context(remaining, step + 1, to_go, observations, actions), {}

    def train_on(
        self, task: Task, make_env: Callable[[], VectorEnv], until_step: int, hook: Callable[[Progress], bool]
    ) -> None:
        """One update after another until there are `until_step` in total; no environment is stepped."""
        while self.updates < until_step:
            assert self._steps is not None
            metrics = self.learn(self._steps.sample(self.config.batch_size, self.config.context, self._rng))
            if not hook(Progress(self.updates, metrics=metrics)):
                return

    def learn(self, windows: Windows) -> Metrics:
        """One update."""
        there = self._tensor(np.arange(self.config.context) < windows.length[:, None])
        told = self._tensor(windows.actions)
        outputs = self.network(
            self._tensor(self._scaled(windows.to_go)),
            self._tensor(self._standardised(windows.observations)),
            told,
            self._tensor(windows.first_step),
        )
        loss = self._imitated.loss(outputs[there], told[there])
        gradient = flat_gradient(loss, self.network, torch.ones_like(loss))
        norm = float(torch.linalg.vector_norm(gradient))
        clip_norm(gradient, self.config.max_grad_norm)
        self.updates += 1
        rate = self.config.learning_rate * min(self.updates / max(self.config.warmup_updates, 1), 1.0)
        self._flat.mul_(1 - rate * self.config.weight_decay)  # decoupled: AdamW (Loshchilov and Hutter 2019)
        self._optimizer.learning_rate = rate
        self._optimizer.step(gradient)
        return {"train/loss": float(loss.detach()), "train/gradient_norm": norm, "train/learning_rate": rate}

    def _scaled(self, to_go: npt.NDArray[np.float64]) -> Floats:
        """Returns-to-go as the network is told of them."""
        share = to_go / self.return_scale if self.config.use_returns else np.zeros_like(to_go)
        return share.astype(np.float32)

    def _standardised(self, observations: Floats) -> Floats:
        standard: Floats = (observations - self.mean) / self.std
        return standard

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def policy_state(self) -> State:
        """The network, how observations and returns are scaled, and the return that is asked for."""
        return {
            "network": self.network.state_dict(),
            "mean": self.mean,
            "std": self.std,
            "return_scale": self.return_scale,
            "target_return": self.target_return,
        }

    def load_policy_state(self, state: State) -> None:
        """Restore what `policy_state` returned."""
        self.network.load_state_dict(state["network"])
        self.mean, self.std = state["mean"], state["std"]
        self.return_scale, self.target_return = state["return_scale"], state["target_return"]

    def training_state(self) -> State:
        """Optimiser, generator and count of updates, and which dataset it is."""
        return {
            "optimizer": self._optimizer.state(),
            "rng": self._rng.bit_generator.state,
            "updates": self.updates,
            "dataset": self._digest,
        }

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned.

        Raises:
            CheckpointError: the dataset is another one, or was added to.
        """
        if state["dataset"] != self._digest:
            raise CheckpointError(
                f"the dataset in {self.config.dataset} is not the one that the run began with; put that one back, or "
                "begin a new run"
            )
        self._optimizer.load_state(state["optimizer"])
        self._rng.bit_generator.state = state["rng"]
        self.updates = state["updates"]


def _shifted(window: Floats, is_full: Bools) -> Floats:
    """A copy of windows [N, K, ...] in which full rows have lost their oldest step, so that there is room."""
    shifted = window.copy()
    shifted[is_full, :-1] = window[is_full, 1:]
    return shifted


def _require_fitting(dataset: EpisodeDataset, task: Task, max_timesteps: int) -> None:
    for name, there, here in (
        ("observation", dataset.observation_space, task.observation_space),
        ("action", dataset.action_space, task.action_space),
    ):
        if space_to_json(there) != space_to_json(here):
            raise UnsupportedTaskError(
                f"the {name} space of the dataset in {dataset.folder} is {there}, the environment's is {here}; use the "
                "environment and wrappers that the dataset is from"
            )
    if not len(dataset):
        raise DatasetError(f"the dataset in {dataset.folder} has no episodes; add some with `rlkit export-dataset`")
    longest = int(dataset.lengths.max())
    if longest > max_timesteps:
        raise UsageError(
            f"the longest episode of the dataset has {longest} steps, more than --agent.max-timesteps {max_timesteps}; "
            f"give --agent.max-timesteps {longest} or more"
        )
