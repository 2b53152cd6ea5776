"""Scores of a stream over its truth, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlkit.types import Array, Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_timeline(
    figure: Figure, classes: Sequence[str], scores: Floats, truth: Array | None, *, first_frame: int = 0
) -> None:
    """A row for each class: what the scores say, over the frames in which it happens.

    Args:
        figure: empty.
        classes: names, K.
        scores: of L frames, [L, K].
        truth: multi-hot [L, K], shaded; None where nobody knows it.
        first_frame: number of the first.
    """
    frame = np.arange(first_frame, first_frame + len(scores))
    rows = np.atleast_1d(figure.subplots(len(classes), 1, sharex=True))
    for k, (axes, name) in enumerate(zip(rows, classes, strict=True)):
        if truth is not None:
            axes.fill_between(
                frame, 0, truth[:, k], step="mid", color="#f0b429", alpha=0.45, linewidth=0, label="truth"
            )
        axes.plot(frame, scores[:, k], color="#1f4e79", linewidth=1.0, label="score")
        axes.set(ylim=(-0.03, 1.03), yticks=(0, 1))
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xlabel("frame")
    rows[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, ncols=2, fontsize="small")
