"""Acting on one observation and sampling a batch from replay, as calls."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym

from speed_measures.job import WARM_UP, Job

OBS_SIZE, ACTION_SIZE, REPLAY_ROWS = 17, 6, 100_000  # HalfCheetah's
HIDDEN, BATCH_SIZE = (256, 256), 256


def seconds_of(call: Callable[[], object], job: Job) -> float:
    """Seconds of the job's calls, after warming up."""
    for _ in range(WARM_UP):
        call()
    start = time.perf_counter()
    for _ in range(job.steps):
        call()
    return time.perf_counter() - start


def acting_rlkit(job: Job, folder: Path) -> float:
    """One observation, array to array, through the numpy view of an actor."""
    import numpy as np
    import torch

    from rlkit.nn.mlp import MLP

    generator = torch.Generator().manual_seed(job.seed)
    actor = MLP(OBS_SIZE, HIDDEN, ACTION_SIZE, output="tanh", generator=generator)
    obs = np.random.default_rng(job.seed).standard_normal((1, OBS_SIZE), dtype=np.float32)
    return seconds_of(lambda: actor.numpy_forward(obs), job)


def acting_torch(job: Job, folder: Path) -> float:
    """The same layers in torch's inference mode, from an array to an array, as an environment needs it."""
    import torch

    actor, obs = torch_actor_and_obs(job)
    array = obs.numpy()
    with torch.inference_mode():
        return seconds_of(lambda: actor(torch.from_numpy(array)).numpy(), job)


def acting_torch_tensors(job: Job, folder: Path) -> float:
    """As `acting_torch`, from a tensor to a tensor: the forward pass alone, which is less than rlkit's work."""
    import torch

    actor, obs = torch_actor_and_obs(job)
    with torch.inference_mode():
        return seconds_of(lambda: actor(obs), job)


def torch_actor_and_obs(job: Job) -> tuple[Any, Any]:
    """An ordinary `nn.Sequential` with rlkit's layers, and one observation [1, 17]."""
    import torch
    from torch import nn

    widths = (OBS_SIZE, *HIDDEN)
    hidden = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
    actor = nn.Sequential(*hidden, nn.Linear(HIDDEN[-1], ACTION_SIZE), nn.Tanh())
    return actor, torch.randn(1, OBS_SIZE, generator=torch.Generator().manual_seed(job.seed))


def replay_rows(job: Job) -> Iterator[tuple[Any, ...]]:
    """`REPLAY_ROWS` random transitions: obs [1, 17], action [1, 6], reward [1], next_obs, terminated."""
    import numpy as np

    rng = np.random.default_rng(job.seed)
    size = 2 * OBS_SIZE + ACTION_SIZE + 1
    for row in rng.standard_normal((REPLAY_ROWS, 1, size), dtype=np.float32):
        obs, action, reward, next_obs = np.split(row, np.cumsum([OBS_SIZE, ACTION_SIZE, 1]), axis=1)
        yield obs, action, reward[:, 0], next_obs, np.array([False])


def replay_spaces() -> tuple[gym.spaces.Box, gym.spaces.Box]:
    """Observation and action space, both float32."""
    return gym.spaces.Box(-float("inf"), float("inf"), (OBS_SIZE,)), gym.spaces.Box(-1.0, 1.0, (ACTION_SIZE,))


def sampling_rlkit(job: Job, folder: Path) -> float:
    """A batch as torch tensors, which is what the peer's buffer returns."""
    import numpy as np
    import torch

    from rlkit.data.replay import ReplayBuffer
    from rlkit.types import Transition

    replay = ReplayBuffer(*replay_spaces(), REPLAY_ROWS)
    for obs, action, reward, next_obs, terminated in replay_rows(job):
        replay.add(Transition(obs, action, reward, next_obs, terminated, np.array([False])))
    rng = np.random.default_rng(job.seed)

    def sample() -> object:
        batch = replay.sample(BATCH_SIZE, rng)
        arrays = (batch.obs, batch.action, batch.next_obs, batch.discount, batch.reward)
        return tuple(torch.from_numpy(array) for array in arrays)

    return seconds_of(sample, job)


def sampling_sb3(job: Job, folder: Path) -> float:
    """A batch of stable-baselines3's replay buffer."""
    from stable_baselines3.common.buffers import ReplayBuffer

    replay = ReplayBuffer(REPLAY_ROWS, *replay_spaces(), device="cpu")
    for obs, action, reward, next_obs, terminated in replay_rows(job):
        replay.add(obs, next_obs, action, reward, terminated, [{}])
    return seconds_of(lambda: replay.sample(BATCH_SIZE), job)
