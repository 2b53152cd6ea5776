"""Action masks: which actions an environment allows, as it says in its info or in its observation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces

from rlkit.errors import EnvironmentFault
from rlkit.types import Bools, Obs, VectorEnv

Space: TypeAlias = spaces.Space[Any]
Infos: TypeAlias = Sequence[Mapping[str, Any]]

ACTION_MASK = "action_mask"
"""Key of the info, and of a Dict observation."""


class WrongMask(ValueError):
    """Raised when a mask does not fit the actions, or allows none; `row` is the environment's."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


class MaskReader:
    """Reads the masks of environments with these spaces.

    A mask is an array of zeros and ones, one for each action: [A] for Discrete, [sum(nvec)] or a tuple of one array for
    each component for MultiDiscrete. That of the info is preferred to that of the observation. Other actions have no
    masks.

    Attributes:
        choices: how many actions there are, for each component of a MultiDiscrete; empty for other actions.
    """

    def __init__(self, observation_space: Space, action_space: Space) -> None:
        self.choices = _choices(action_space)
        self.size = sum(self.choices)
        self._begins = np.cumsum([0, *self.choices[:-1]])
        self._is_observed = isinstance(observation_space, spaces.Dict) and ACTION_MASK in observation_space.spaces

    def read(self, obs: Obs, infos: Infos, terminated: Sequence[bool] | Bools | None = None) -> Bools | None:
        """Masks [N, size] of a batch, or None where no row has one; a row without a mask allows everything.

        So does a row in `terminated`: there is no next action, and what its mask says means nothing.

        Raises:
            WrongMask: a mask does not fit, or allows nothing.
        """
        if not self._is_observed:
            for info in infos:  # no generator: this is all that environments without masks pay for
                if ACTION_MASK in info:
                    break
            else:
                return None
        if not self.choices:
            return None
        masks = np.ones((len(infos), self.size), np.bool_)
        for row, info in enumerate(infos):
            if terminated is None or not terminated[row]:
                given = info.get(ACTION_MASK)
                if given is None and self._is_observed:
                    given = obs[ACTION_MASK][row]  # type: ignore[index, call-overload]
                if given is not None:
                    masks[row] = self._checked(row, given)
        return masks

    def read_one(self, obs: Any, info: Mapping[str, Any]) -> Bools | None:
        """The mask [size] of one environment; see `read`."""
        masks = self.read({ACTION_MASK: [obs[ACTION_MASK]]} if self._is_observed else {}, [info])  # type: ignore[dict-item]
        return None if masks is None else masks[0]

    def read_step(
        self, obs: Obs, next_obs: Obs, infos: Infos, reset_infos: Sequence[Mapping[str, Any] | None], terminated: Bools
    ) -> tuple[Bools | None, Bools | None]:
        """Masks for what to act on next, and for the true successors; see `rlkit.types.VectorStep`."""
        next_mask = self.read(next_obs, infos, terminated)
        if obs is next_obs:
            return next_mask, next_mask
        latest = [info if first is None else first for info, first in zip(infos, reset_infos, strict=True)]
        return self.read(obs, latest), next_mask

    def join(self, parts: Sequence[Bools | None]) -> Bools | None:
        """One batch [N, size] of parts with one row each."""
        if all(part is None for part in parts):
            return None
        everything = np.ones((1, self.size), np.bool_)
        return np.concatenate([everything if part is None else part for part in parts])

    def _checked(self, row: int, given: Any) -> Bools:
        is_split = isinstance(given, (tuple, list)) and len(given) > 0
        mask = np.concatenate([np.ravel(part) for part in given]) if is_split else given
        if np.shape(mask) != (self.size,):
            raise WrongMask(
                row,
                f"its action mask has shape {np.shape(mask)}, its actions need ({self.size},); a wrapper that changes "
                "the actions or stacks observations has to change the mask too",
            )
        allowed: Bools = np.asarray(mask) == 1
        if not (allowed | (np.asarray(mask) == 0)).all():
            raise WrongMask(row, f"its action mask is {mask!r:.100}, it may hold 0 and 1 only")
        possible = np.logical_or.reduceat(allowed, self._begins)
        if not possible.all():
            which = f" of component {int(possible.argmin())}" if len(self.choices) > 1 else ""
            raise WrongMask(row, f"its action mask forbids every action{which}; end the episode where nothing is left")
        return allowed


def first_mask(envs: VectorEnv, obs: Obs, infos: Infos) -> Bools | None:
    """Masks of what `reset` returned; those of later steps come with the step.

    Raises:
        EnvironmentFault: a mask does not fit, or allows nothing.
    """
    try:
        return MaskReader(envs.single_observation_space, envs.single_action_space).read(obs, infos)
    except WrongMask as error:
        raise EnvironmentFault(f"environment {error.row} failed in reset: {error}") from error


def sampled(space: Space, mask: Bools | None) -> Any:
    """Random action, one that the mask [size] allows where there is one; drawn from the space's own generator."""
    if mask is not None and isinstance(space, spaces.Discrete):
        return space.sample(mask=mask.astype(np.int8))
    if mask is not None and isinstance(space, spaces.MultiDiscrete):
        parts = iter(np.split(mask.astype(np.int8), np.cumsum(space.nvec.ravel())[:-1]))
        return space.sample(mask=_nested(space.nvec.shape, parts))
    return space.sample()


def _nested(shape: tuple[int, ...], parts: Any) -> Any:
    """The parts in tuples of this shape, as gymnasium wants them."""
    return tuple(_nested(shape[1:], parts) for _ in range(shape[0])) if shape else next(parts)


def _choices(space: Space) -> tuple[int, ...]:
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    return tuple(space.nvec.ravel().tolist()) if isinstance(space, spaces.MultiDiscrete) else ()
