"""DQN on pictures from end to end: it learns what only two frames tell, resumes exactly, and keeps each frame once."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_resume import final_state, metrics

import rlkit
from rlkit.agents.dqn import DQN
from rlkit.agents.dqn_config import DQNConfig
from rlkit.nn.encoders import to_channels
from rlkit.ops.augmentation import shifted_images
from rlkit.types import Task, Transition

SIZE, EPISODE = 16, 12


class FollowTheDot(gym.Env):
    """A dot of 2x2 pixels walks to the left (0) or to the right (1) and around the edge; saying which earns 1.

    One frame does not tell the direction, and the first one of an episode is all there is: 11.5 of 12 is the best
    mean return, 6 that of guessing.
    """

    observation_space = spaces.Box(0, 255, (SIZE, SIZE), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.direction = int(self.np_random.integers(2))
        self.row, self.column = (int(place) for place in self.np_random.integers(SIZE - 1, size=2))
        self.steps = 0
        return self._frame(), {}

    def step(self, action):
        reward = float(action == self.direction)
        self.column = (self.column + (2 if self.direction else -2)) % SIZE
        self.steps += 1
        return self._frame(), reward, self.steps == EPISODE, False, {}

    def _frame(self):
        frame = np.zeros((SIZE, SIZE), np.uint8)
        frame[self.row : self.row + 2, [self.column, (self.column + 1) % SIZE]] = 255
        return frame


OPTIONS: dict[str, Any] = {"preset": "none", "eval_every": 0, "device": "cpu", "log_every": 50}
TINY = {"encoder": "impala", "hidden": (16,), "batch_size": 16, "learning_starts": 40}


def test_it_learns_what_only_stacked_frames_tell(tmp_path: Path) -> None:
    settings = {"encoder": "impala", "hidden": (32,), "gamma": 0.0, "batch_size": 32, "learning_rate": 2e-3}
    run = rlkit.train(
        "dqn", FollowTheDot, total_steps=700, wrap=("frame-stack:n=2",), run_dir=tmp_path / "run",
        agent_config={**settings, "learning_starts": 100, "train_every": 2}, **OPTIONS,
    ).run_dir  # fmt: skip
    found = rlkit.evaluate(run, FollowTheDot, episodes=40)
    assert found.mean > 10.5


@pytest.mark.parametrize("switches", [{}, {"n_step": 3, "double": True}, {"prioritized": True}], ids=str)
def test_killed_after_a_checkpoint_a_run_on_stacked_frames_resumes_to_the_same_bits(
    switches: dict[str, Any], tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    rlkit.train(
        "dqn", FollowTheDot, total_steps=160, checkpoint_every=90, num_envs=2, wrap=("frame-stack:n=3",),
        run_dir=whole, agent_config={**TINY, **switches, "buffer_size": 120}, **OPTIONS,
    )  # fmt: skip
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "checkpoints" / "step-000000160")  # what came after the one before is lost
    assert rlkit.resume(killed, env=FollowTheDot).steps == 160
    assert metrics(killed) == metrics(whole)
    assert final_state(killed) == final_state(whole)


def test_replay_keeps_each_frame_once(tmp_path: Path) -> None:
    stack, steps = 4, 120
    agent = rlkit.train(
        "dqn", FollowTheDot, total_steps=steps, wrap=(f"frame-stack:n={stack}",), run_dir=tmp_path / "run",
        agent_config={**TINY, "buffer_size": 500}, **OPTIONS,
    ).agent  # fmt: skip
    held = agent.replay.stored()["rows"]
    assert held.total_added == steps + steps // EPISODE  # the frame after the last action of each episode, too
    frames = held.rows(0, held.total_added)["frame"].reshape(-1, EPISODE + 1, SIZE * SIZE)
    assert (frames[:, 1:] != frames[:, :-1]).any(axis=2).all(), "of an episode no frame stands twice in a row"
    batch = agent.replay.sample(64, np.random.default_rng(0))
    assert batch.obs.shape == batch.next_obs.shape == (64, stack, SIZE, SIZE)
    assert np.array_equal(batch.obs[:, 1:], batch.next_obs[:, :-1])


def test_a_stored_step_takes_the_memory_of_one_frame() -> None:
    stacks = spaces.Box(0, 255, (4, SIZE, SIZE), np.uint8)

    def allocated(capacity: int, frame_stack: int) -> int:
        tracemalloc.start()  # knows numpy's arrays, not torch's
        agent = DQN(DQNConfig(**TINY, buffer_size=capacity), Task(stacks, spaces.Discrete(2), frame_stack=frame_stack))
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert agent.network.feature_size
        return size

    once, whole = ((allocated(5_000, stack) - allocated(1_000, stack)) / 4_000 for stack in (4, 1))
    assert once == pytest.approx(SIZE * SIZE, abs=32)
    assert whole > 8 * SIZE * SIZE


class Generous(FollowTheDot):
    """Rewards of 1,000."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, 1_000 * reward, terminated, truncated, info


def test_rewards_are_clipped_to_learn_from_and_whole_in_evaluations(tmp_path: Path) -> None:
    result = rlkit.train(
        "dqn", Generous, total_steps=48, wrap=("clip-reward:min_reward=-1,max_reward=1", "frame-stack:n=2"),
        run_dir=tmp_path / "run", agent_config=TINY, **OPTIONS,
    )  # fmt: skip
    learnt_from = result.agent.replay.sample(32, np.random.default_rng(0)).reward
    assert set(learnt_from.tolist()) == {0.0, 1.0}
    assert max(rlkit.evaluate(result.run_dir, Generous, episodes=5).returns) > EPISODE


@pytest.mark.slow
def test_a_room_of_minigrid_is_learnt_from_its_picture(tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    # A short horizon, as in benchmarks/pixels.py: turning left and right then differ enough for a greedy policy.
    settings = {"encoder": "nature", "hidden": (128,), "learning_rate": 5e-4, "batch_size": 32, "gamma": 0.9}
    run = rlkit.train(
        "dqn", "MiniGrid-Empty-Random-5x5-v0", total_steps=5_000, run_dir=tmp_path / "run",
        env_args=("render_mode=rgb_array", "tile_size=8"),
        wrap=("add-render-observation", "grayscale-observation", "frame-stack:n=2"),
        agent_config={**settings, "double": True, "n_step": 3, "epsilon_fraction": 0.5}, **OPTIONS,
    ).run_dir  # fmt: skip
    assert rlkit.evaluate(run, episodes=50).mean > 0.9  # random 0.37, the best there is about 0.96


@pytest.mark.slow
def test_pong_is_played_and_stored_by_the_preset(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    result = rlkit.train(
        "dqn", "ALE/Pong-v5", total_steps=120, run_dir=tmp_path / "run", eval_every=0, device="cpu",
        agent_config={"buffer_size": 500, "learning_starts": 100},
    )  # fmt: skip
    batch = result.agent.replay.sample(8, np.random.default_rng(0))
    assert batch.obs.shape == (8, 4, 84, 84)
    assert result.agent.replay.stored()["rows"].total_added == 120
    assert "train/loss" in (result.run_dir / "metrics.jsonl").read_text()


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (SIZE, SIZE, 3), (2, SIZE, SIZE)])
def test_pictures_to_learn_from_are_shifted_where_that_is_asked_for(shape: tuple[int, ...]) -> None:
    space = spaces.Box(0, 255, shape, np.uint8)
    task = Task(space, spaces.Discrete(2), total_steps=100)
    rng = np.random.default_rng(0)
    agents = [DQN(DQNConfig(encoder="impala", hidden=(16,), buffer_size=64, shift=shift), task) for shift in (0, 2)]
    for agent in agents:
        for _ in range(8):
            pictures = np.full((2, 1, *shape), rng.integers(1, 255), np.uint8)
            false = np.zeros(1, np.bool_)
            agent.observe(
                Transition(pictures[0], np.zeros(1, np.int64), np.zeros(1, np.float32), pictures[1], false, false), ()
            )
    plain, shifted = (agent.tensors(agent.replay.sample(16, np.random.default_rng(1))).obs for agent in agents)
    assert plain.shape[1:] == shape
    assert shifted.shape == (16, 3 if shape[-1] == 3 else 2 if len(shape) == 3 else 1, SIZE, SIZE)
    # the border is repeated, so pictures of one grey stay as they are and any other would not
    assert torch.equal(shifted.flatten(1).float().std(1), torch.zeros(16))


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (SIZE, SIZE, 3)])
def test_each_picture_is_shifted_by_a_draw_of_its_own(shape: tuple[int, ...]) -> None:
    """Every picture that is learned from is one that was stored, moved by up to two pixels each way."""
    task = Task(spaces.Box(0, 255, shape, np.uint8), spaces.Discrete(2), total_steps=100)
    agent = DQN(DQNConfig(encoder="impala", hidden=(16,), buffer_size=64, shift=2), task)
    rng, false = np.random.default_rng(0), np.zeros(1, np.bool_)
    for _ in range(8):
        pictures = rng.integers(0, 256, (2, 1, *shape), np.uint8)
        action, reward = np.zeros(1, np.int64), np.zeros(1, np.float32)
        agent.observe(Transition(pictures[0], action, reward, pictures[1], false, false), ())
    batch = agent.replay.sample(16, np.random.default_rng(1))
    tensors = agent.tensors(batch)
    moves = torch.tensor([(row, column) for row in range(-2, 3) for column in range(-2, 3)])
    drawn = []
    for stored, seen in ((batch.obs, tensors.obs), (batch.next_obs, tensors.next_obs)):
        pictures = to_channels(torch.from_numpy(np.asarray(stored)))
        of_moves = torch.stack([shifted_images(pictures, move.expand(16, 2)) for move in moves])  # [25, B, C, H, W]
        matches = (of_moves == seen).flatten(2).all(2)
        assert (matches.sum(0) == 1).all()
        drawn.append(matches.int().argmax(0))
    assert len(drawn[0].unique()) > 4
    assert not torch.equal(*drawn)


def test_a_shift_changes_what_is_learned(tmp_path: Path) -> None:
    runs = [
        rlkit.train(
            "dqn", FollowTheDot, total_steps=80, run_dir=tmp_path / str(shift), agent_config=TINY | {"shift": shift},
            **OPTIONS,
        )
        for shift in (0, 2)
    ]  # fmt: skip
    assert final_state(runs[0].run_dir)[0] != final_state(runs[1].run_dir)[0]
