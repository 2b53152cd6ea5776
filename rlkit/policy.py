"""A trained policy, ready to act on observations."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlkit import seeding
from rlkit.config import RunOptions
from rlkit.data.datasets import Episode
from rlkit.data.tree import leaf, leaf_name, leaf_spaces
from rlkit.envs.masks import ACTION_MASK, MaskReader, WrongMask
from rlkit.envs.normalize import normalizers
from rlkit.errors import UsageError
from rlkit.evaluation import Evaluation, played_steps, warn_about_cuts
from rlkit.evaluation import evaluate as evaluate_actor
from rlkit.recording import recorded_episodes
from rlkit.types import Array, Bools, Obs, RewardAware, VectorEnv


class Policy:
    """A trained policy, ready to act: `rlkit.load(run)`."""

    def __init__(self, agent: Any, envs: VectorEnv, options: RunOptions, step: int, limit: int) -> None:
        self.agent = agent
        self.step = step
        self.options = options
        self._envs = envs
        self._limit = limit  # steps of an evaluation episode
        self._normalizers = normalizers(envs)
        self._carry: Any = None
        self._rng = seeding.generator(options.seed, "predict")
        self.raw_envs = self._normalizers[0].env if self._normalizers else envs  # without the normalisers
        self._space = self.raw_envs.single_observation_space
        self._masks = MaskReader(self._space, self.raw_envs.single_action_space)

    def predict(
        self,
        obs: Obs,
        *,
        explore: bool = False,
        action_mask: Array | None = None,
        reward: npt.ArrayLike | None = None,
    ) -> Array:
        """Actions [N, *A] for observations [N, *O]; one action [*A] for one observation [*O].

        A policy with memory remembers from call to call; `reset` begins a new episode. Where the environment tells what
        is allowed in its info, pass it as `action_mask`, [N, A] or [A] (MultiDiscrete: sum(nvec) instead of A).

        `reward` is what the last action got, a number or [N]. Policies that act by their rewards, such as those of
        `decision-transformer`, need it from an episode's second call on; others, and first calls, make nothing of it.

        Raises:
            UsageError: the observations have another shape than the policy's; the mask does not fit the actions, or
                allows none; a reward is needed and missing, or there is not one for each observation.
        """
        single = self._is_single(obs)
        batched = _add_axis(obs) if single else obs
        mask = self._mask(batched, action_mask if action_mask is None or not single else np.asarray(action_mask)[None])
        batched = self.normalized(batched)
        count = len(_first_leaf(batched))
        if self._carry is None or self._carry[0] != count:
            self._carry = (count, self.agent.initial_carry(count))
        elif isinstance(self.agent, RewardAware):
            self._carry = (count, self.agent.rewarded(self._carry[1], _rewards(reward, count)))
        action, carry, _ = self.agent.act(batched, self._carry[1], explore=explore, rng=self._rng, action_mask=mask)
        self._carry = (count, carry)
        result: Array = action[0] if single else action
        return result

    @property
    def observation_space(self) -> gym.Space[Any]:
        """Of one observation that `predict` takes."""
        return self._space

    @property
    def is_normalizing(self) -> bool:
        """Whether `normalized` changes observations."""
        return bool(self._normalizers)

    def normalized(self, obs: Obs) -> Obs:
        """Observations [N, *O] as the agent takes them."""
        for normalizer in self._normalizers:
            obs = normalizer.apply(obs)
        return obs

    def close(self) -> None:
        """Close the environment of `evaluate`; the policy goes on acting."""
        self._envs.close()

    def reset(self) -> None:
        """Forget what the policy remembers of the episode."""
        self._carry = None

    def evaluate(self, *, episodes: int = 100, seed: int | None = None, explore: bool = False) -> Evaluation:
        """Evaluation on the run's own environment."""
        result = evaluate_actor(
            self.agent,
            self._envs,
            episodes=episodes,
            seed=self._evaluation_seed(seed),
            explore=explore,
            max_episode_steps=self._limit,
        )
        warn_about_cuts(result)
        return result

    def episodes(self, count: int, *, seed: int | None = None, explore: bool = False) -> Iterator[Episode]:
        """`count` episodes on the run's own environment, those of `evaluate` with the same seed.

        Observations are the environment's, before the run's normalisation. Of the infos an episode keeps what each of
        its steps told, as numbers or text of one shape.
        """
        steps = played_steps(
            self.agent,
            self.raw_envs,
            seed=self._evaluation_seed(seed),
            explore=explore,
            max_episode_steps=self._limit,
            seen=self.normalized,
        )
        return islice(recorded_episodes(steps, self._space), count)

    def _evaluation_seed(self, seed: int | None) -> int:
        return seeding.integer_seed(self.options.seed, "evaluation") if seed is None else seed

    def _mask(self, obs: Obs, given: Array | None) -> Bools | None:
        count = len(_first_leaf(obs))
        if given is not None and len(given) != count:
            raise UsageError(f"predict: {len(given)} action masks for {count} observations")
        infos = [{} if given is None else {ACTION_MASK: given[row]} for row in range(count)]
        try:
            return self._masks.read(obs, infos)
        except WrongMask as error:
            raise UsageError(f"predict: observation {error.row}: {error}") from error

    def _is_single(self, obs: Obs) -> bool:
        """Whether it is one observation, and not a batch [N, *O]."""
        batch_axes = set()
        for path, space in leaf_spaces(self._space):
            try:
                found, wanted = np.shape(leaf(obs, path)), space.shape or ()
            except (KeyError, IndexError, TypeError) as error:
                raise UsageError(f"predict: the observation has no {leaf_name(path)}, which {space} is for") from error
            axes = len(found) - len(wanted)
            if axes not in (0, 1) or found[axes:] != wanted:
                raise UsageError(
                    f"predict: the observation {leaf_name(path)} has the shape {found}, allowed: {wanted}, or "
                    f"{('N', *wanted)} for N of them"
                )
            batch_axes.add(axes)
        if len(batch_axes) != 1:
            raise UsageError("predict: some parts of the observation have a batch axis and some have none")
        return batch_axes == {0}


def _rewards(given: npt.ArrayLike | None, count: int) -> npt.NDArray[np.float64]:
    """What the last actions got, [N], for a policy that needs it."""
    if given is None:
        raise UsageError(
            "predict: this policy acts by its rewards and got none for its last action; pass them as "
            "predict(obs, reward=...), or call reset() where a new episode begins"
        )
    rewards = np.atleast_1d(np.asarray(given, np.float64))
    if rewards.shape != (count,) or not np.isfinite(rewards).all():
        raise UsageError(f"predict: the reward is {given}, it must be {count} finite numbers, one for each observation")
    return rewards


def _first_leaf(obs: Obs) -> Array:
    while isinstance(obs, (dict, tuple)):
        obs = next(iter(obs.values())) if isinstance(obs, dict) else obs[0]
    return np.asarray(obs)


def _add_axis(obs: Obs) -> Obs:
    if isinstance(obs, dict):
        return {key: _add_axis(value) for key, value in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_add_axis(value) for value in obs)
    return np.asarray(obs)[None]
