"""`rlkit detect run`: a detector watches streams frame by frame and tells what it sees as JSON lines."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import create_model

from rlkit.cli.flags import gathered, renamed
from rlkit.cli.outputs import discard, require_writable
from rlkit.errors import UsageError

SHOWN_FRAMES = 2_000
"""Of the picture of a stream."""


def run(arguments: list[str]) -> int:
    """Print the lines, and on standard error how fast it was."""
    from rlkit.watching import Watched, WatchOptions, watched_streams

    options = _parsed(arguments, WatchOptions)
    source = WatchOptions(**{name: getattr(options, name) for name in WatchOptions.model_fields})
    for flag, path in (("--output", options.output), ("--predictions", options.predictions), ("--plot", options.plot)):
        require_writable(flag, path)
    if options.predictions is not None and options.predictions.suffix != ".npz":
        raise UsageError(f"--predictions {options.predictions} must end in .npz, as what it holds does")
    found: list[Watched] = []
    events = 0
    opened: Any = nullcontext(sys.stdout) if options.output is None else options.output.open("w", encoding="utf-8")
    with opened as file:
        for watched in watched_streams(options.run, source):
            found.append(watched)
            claimed = list(watched.event_records(options.threshold))
            events += len(claimed)
            lines = claimed if options.lines == "events" else watched.frame_records()
            try:
                file.writelines(f"{json.dumps(line)}\n" for line in lines)
                file.flush()
            except BrokenPipeError:
                if options.predictions is None and options.plot is None:
                    raise
                discard(file)  # others are still wanted
    if options.predictions is not None:
        _keep_predictions(found, options.predictions)
    if options.plot is not None:
        _plot(found[0], options.plot)
    print(_summary(found, events, options.threshold), file=sys.stderr)
    return 0


def _parsed(arguments: list[str], base: Any) -> Any:
    positional: Any = Annotated[Path, tyro.conf.Positional]
    lines: Any = Literal["events", "frames"]
    model: Any = create_model(
        "WatchOptions", __base__=base, run=(positional, ...), lines=(lines, "events"),
        threshold=(float, 0.5), output=(Path | None, None),
        predictions=(Path | None, None), plot=(Path | None, None),
    )  # fmt: skip
    description = (
        "Watch streams with the detector of RUN. --lines events: a line for each stretch of frames whose score is at "
        "least --threshold; frames: a line for each frame with all scores. --output FILE takes the lines, "
        "--predictions FILE.npz all scores for `rlkit detect score`, --plot FILE.png a timeline of the first stream."
    )
    given = gathered(renamed(arguments, "--env", "--stream"), ("--wrap", "--env-args"))
    return tyro.cli(model, args=given, prog="rlkit detect run", description=description)


def _keep_predictions(found: list[Any], path: Path) -> None:
    from rlkit.data.frame_files import write_frame_arrays

    write_frame_arrays(path, {watched.name: watched.now for watched in found}, found[0].classes)
    truth = path.with_name(f"{path.stem}-truth.npz")
    truth.unlink(missing_ok=True)  # of an earlier file by this name, whose streams may be called alike
    if all(watched.truth is not None for watched in found):
        write_frame_arrays(truth, {watched.name: watched.truth for watched in found}, found[0].classes)


def _plot(watched: Any, path: Path) -> None:
    from rlkit.cli.pictures import new_figure, png_of, save
    from rlkit.timeline import draw_timeline

    shown = slice(0, SHOWN_FRAMES)
    figure = new_figure(12, 1 + 0.8 * len(watched.classes))
    truth = None if watched.truth is None else watched.truth[shown]
    draw_timeline(figure, watched.classes, watched.now[shown], truth)
    save(png_of(figure), path)


def _summary(found: list[Any], events: int, threshold: float) -> str:
    from rlkit.watching import Latency

    latency = Latency.of(found)
    frames = sum(len(watched.now) for watched in found)
    return (
        f"{len(found)} streams, {frames:,} frames, {events:,} events of at least {threshold:g}; one frame takes "
        f"{latency.median:.2f} ms (median), {latency.p99:.2f} ms (99 %)"
    )
