"""Datasets from Minari (https://minari.farama.org) and for it; needs the extra `offline`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlkit.data.datasets import DatasetWriter, Episode, EpisodeDataset
from rlkit.data.tree import leaf, leaf_spaces, nest
from rlkit.errors import MissingExtraError, UsageError
from rlkit.types import Array


def from_minari(dataset_id: str, folder: str | Path, *, append: bool = False) -> EpisodeDataset:
    """Copy a Minari dataset that is on this machine (`minari download ID`) into a folder of ours.

    Infos are kept where they are arrays of numbers or text with a row for each step; that of the reset is not.

    Raises:
        UsageError: Minari has no such dataset here, or the folder is not empty.
    """
    minari = _minari()
    try:
        source = minari.load_dataset(dataset_id)
    except FileNotFoundError as error:
        raise UsageError(f"Minari has no dataset {dataset_id!r} here; try `minari download {dataset_id}`") from error
    env = dataset_id if source.env_spec is None else source.env_spec.id
    spaces = source.observation_space, source.action_space
    with DatasetWriter(folder, *spaces, env=env, made_by=f"minari {dataset_id}", append=append) as writer:
        for episode in source.iterate_episodes():
            writer.add(
                Episode(
                    episode.observations,
                    episode.actions,
                    np.asarray(episode.rewards, np.float64),
                    bool(episode.terminations[-1]),
                    bool(episode.truncations[-1]),
                    _infos_of_steps(episode.infos, len(episode.rewards)),
                )
            )
    return EpisodeDataset(folder)


def to_minari(dataset: EpisodeDataset, dataset_id: str, *, author: str = "") -> Any:
    """A new Minari dataset with the same episodes, all of them in memory for a moment, and Minari's object for it.

    Infos are left out: Minari wants one of the reset too, which is not kept. Pictures are stored without loss.

    Raises:
        UsageError: Minari has a dataset of that name already.
    """
    minari = _minari()
    if dataset_id in minari.list_local_datasets():
        raise UsageError(f"Minari has a dataset {dataset_id!r} already; choose another name")
    buffers = [_buffer(dataset, index) for index in range(len(dataset))]
    envs = {env for env, _ in dataset.sources}
    env = envs.pop() if len(envs) == 1 else None
    with warnings.catch_warnings():  # Minari misses an e-mail address and a link to the code
        warnings.simplefilter("ignore", UserWarning)
        return minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            env=env if env in gymnasium.registry else None,
            observation_space=dataset.observation_space,
            action_space=dataset.action_space,
            algorithm_name="; ".join(made_by for _, made_by in dataset.sources),
            author=author,
            description=f"written by rlkit from {dataset.folder.name}",
            jpeg_encoding=False,
        )


def _minari() -> Any:
    try:
        import minari
    except ImportError as error:
        raise MissingExtraError("offline", "reading and writing Minari's datasets") from error
    return minari


def _buffer(dataset: EpisodeDataset, index: int) -> Any:
    from minari.data_collector import EpisodeBuffer

    episode = dataset[index]

    def rows(space: gymnasium.Space[Any], tree: Any) -> Any:
        """Every leaf as a list of its rows, which is what Minari collects."""
        lists: Any = (list(leaf(tree, path)) for path, _ in leaf_spaces(space))
        return nest(space, lists)

    ends = np.zeros((2, len(episode)), np.bool_)
    ends[:, -1] = episode.terminated, episode.truncated
    return EpisodeBuffer(
        id=index,
        observations=rows(dataset.observation_space, episode.observations),
        actions=rows(dataset.action_space, episode.actions),
        rewards=list(episode.rewards),
        terminations=list(ends[0]),
        truncations=list(ends[1]),
        infos={},
    )


def _infos_of_steps(infos: dict[str, Any], steps: int) -> dict[str, Array]:
    """What each of T steps told, of infos with T + 1 rows, the reset's first."""
    arrays = {key: np.asarray(value) for key, value in infos.items() if not isinstance(value, dict)}
    return {
        key: array[1:]
        for key, array in arrays.items()
        if array.shape[:1] == (steps + 1,) and array.dtype.kind in "biufSU"
    }
