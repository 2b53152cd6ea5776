"""What a policy attends to over an episode, as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from rlkit import seeding
from rlkit.api import load
from rlkit.cli.pictures import keep, new_figure, png_of
from rlkit.errors import UsageError
from rlkit.evaluation import played_steps
from rlkit.policy import Policy
from rlkit.runs import RunFolder
from rlkit.types import Array, Obs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TAG = "attention"
"""The picture's name in TensorBoard."""
_LONGEST = 300  # steps that can be told apart
_MAP = "viridis"


@runtime_checkable
class Attends(Protocol):
    """An agent that may attend to something."""

    def attention_maps(self, episode: Sequence[Obs]) -> Mapping[str, Array]:
        """Weights [T, ...] by name, from the observations [1, *O] of T steps."""


def draw_attention(folder: RunFolder, title: str, output: Path) -> None:
    """Write the picture of one evaluation episode, into the run's TensorBoard too.

    Raises:
        UsageError: the run's policy attends to nothing.
    """
    policy = load(folder.path)
    try:
        maps = policy.agent.attention_maps(_episode(policy)) if isinstance(policy.agent, Attends) else {}
    finally:
        policy._envs.close()
    if not maps:
        raise UsageError(
            f"the policy of {folder.path} attends to nothing; train one with --agent.core transformer or "
            "--agent.encoder attention"
        )
    heading = f"{title}\nattention in an episode after {policy.step:,} steps"
    keep(png_of(attention_figure(maps, heading)), output, folder, TAG, policy.step)


def _episode(policy: Policy) -> list[Obs]:
    """Observations of the run's first evaluation episode, the longest part that can be shown."""
    seed = seeding.integer_seed(policy.options.seed, "evaluation")
    seen: list[Obs] = []
    for played in islice(played_steps(policy.agent, policy._envs, seed=seed), _LONGEST):
        seen.append(played.obs)
        if played.is_last:
            break
    return seen


def attention_figure(maps: Mapping[str, Array], title: str) -> Figure:
    """A heat map for each of the weights, steps downwards; what they attend to goes to the right."""
    columns = min(len(maps), 4)
    rows = math.ceil(len(maps) / columns)
    figure = new_figure(2.6 * columns + 0.8, 2.6 * rows + 0.6)
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    image: Any = None
    for axes, (name, weights) in zip(grid.flat, maps.items(), strict=False):
        image = axes.imshow(weights, cmap=_MAP, vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
        axes.set_title(name, fontsize=9)
        is_square = weights.shape[0] == weights.shape[1] and name.startswith("layer")
        axes.set_xlabel("attended step" if is_square else "part of the observation", fontsize=8)
        axes.set_ylabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in grid.flat[len(maps) :]:
        axes.set_axis_off()
    figure.colorbar(image, ax=grid, label="weight", shrink=0.8)
    figure.suptitle(title, fontsize=10)
    return figure
