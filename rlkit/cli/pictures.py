"""Pictures of runs: as files, and into their TensorBoard."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rlkit.errors import MissingExtraError, RunLockedError
from rlkit.logs import write_image
from rlkit.runs import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOG = logging.getLogger(__name__)


class Png(NamedTuple):
    """A picture's bytes, and its size in pixels."""

    data: bytes
    width: int
    height: int


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches. Raises MissingExtraError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plot", "rlkit plot") from error
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def png_of(figure: Figure) -> Png:
    """The figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas, buffer = FigureCanvasAgg(figure), BytesIO()
    canvas.print_figure(buffer, format="png")
    return Png(buffer.getvalue(), *canvas.get_width_height())


def save(picture: Png, output: Path) -> None:
    """Write the picture, and the folder it goes to."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(picture.data)


def keep(picture: Png, output: Path, folder: RunFolder, tag: str, step: int) -> None:
    """Write the picture, and put it into the run's TensorBoard under `tag` where that can be written now."""
    save(picture, output)
    try:
        with folder.locked():
            write_image(folder.path, tag, step, *picture)
    except RunLockedError:
        _LOG.warning("%s is being trained; its TensorBoard gets the picture when you plot it again later", folder.path)
    except OSError as error:
        _LOG.warning("the picture is not in TensorBoard: cannot write to %s (%s)", folder.path, error.strerror)
