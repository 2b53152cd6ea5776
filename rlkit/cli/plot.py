"""`rlkit plot`: learning curves of runs as a PNG, the values of a tabular run, what a policy attends to."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import tyro

from rlkit.errors import MissingExtraError, RlkitError, UsageError
from rlkit.runs import RunFolder, open_run

Points: TypeAlias = list[tuple[int, float]]
_LABELS = {"rollout/ep_rew_mean": "training, mean of 100 episodes", "eval/mean_reward": "evaluation, no exploration"}
DEFAULT_METRICS = ("rollout/ep_rew_mean", "eval/mean_reward")
DEFAULT_OUTPUT = Path("curve.png")
_LOG = logging.getLogger(__name__)
_COLOURS = ("#1f6feb", "#d1570a")


@dataclass(frozen=True)
class PlotOptions:
    """Plot the learning curves of runs of one agent on one environment, and the values of a single tabular run."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders; several are seeds of the same run"""
    output: Path = DEFAULT_OUTPUT
    """the picture of the curves to write"""
    values: Path | None = None
    """the picture of a tabular run's values; by default values.png beside the other"""
    metrics: tuple[str, ...] = DEFAULT_METRICS
    """keys of metrics.jsonl; by default the returns, of a pretraining run the loss"""
    attention: bool = False
    """draw instead what the policy of a run attends to over an evaluation episode, by default into attention.png"""


def run(arguments: list[str]) -> int:
    """Write the picture and say where it is."""
    options = tyro.cli(PlotOptions, args=arguments, prog="rlkit plot")
    if not options.runs:
        raise UsageError("which run? Give one or several run folders: rlkit plot RUN")
    folders = [open_run(path) for path in options.runs]
    if options.attention:
        return _attention(folders, options.output)
    pretrained = folders[0].is_pretraining
    is_default = options.metrics == DEFAULT_METRICS
    metrics = ("train/loss",) if pretrained and is_default else options.metrics
    curves = {metric: [_points(folder, metric) for folder in folders] for metric in metrics}
    has_curve = any(points for lines in curves.values() for points in lines)
    if has_curve:
        axes = ("updates", "loss") if pretrained else ("environment steps", "return of an episode")
        _draw(curves, _title(folders), axes, options.output)
        print(options.output)
    values = options.values or options.output.with_name("values.png")
    wants_values = len(folders) == 1 and is_default and not pretrained
    if wants_values and _draw_values(folders[0], values):
        print(values)
    elif not has_curve:
        raise UsageError(f"none of {', '.join(metrics)} stands in the runs' metrics.jsonl yet")
    return 0


def _attention(folders: Sequence[RunFolder], output: Path) -> int:
    from rlkit.cli.plot_attention import draw_attention

    if len(folders) > 1:
        raise UsageError(f"--attention draws one run, these are {len(folders)}")
    target = Path("attention.png") if output == DEFAULT_OUTPUT else output
    draw_attention(folders[0], _title(folders), target)
    print(target)
    return 0


def _draw_values(folder: RunFolder, output: Path) -> bool:
    """Draw the values of a run that has some; a run that cannot be loaded still has its curves."""
    from rlkit.cli.plot_values import draw_values, has_values

    try:
        agent = folder.config_tree().data["agent"]["name"]
        return has_values(agent) and draw_values(folder, _title([folder]), output)
    except MissingExtraError:
        raise
    except RlkitError as error:
        _LOG.warning("the values are not drawn: %s", error)
        return False


def _points(folder: RunFolder, metric: str) -> Points:
    """Env step and value of every logged point of one metric."""
    path = folder.path / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    return [(record["step"], record[metric]) for record in records if metric in record]


def _title(folders: Sequence[RunFolder]) -> str:
    data = folders[0].config_tree().data
    seeds = "" if len(folders) == 1 else f", {len(folders)} runs"
    kind = "method" if folders[0].is_pretraining else "agent"
    return f"{data[kind]['name']} on {data['env'] or data['data']}{seeds}"


def _mean(lines: Sequence[Points]) -> Points:
    """Mean over the runs at the steps that all of them logged."""
    by_run = [dict(points) for points in lines if points]
    common = sorted(set.intersection(*(set(values) for values in by_run))) if by_run else []
    return [(step, sum(values[step] for values in by_run) / len(by_run)) for step in common]


def _draw(curves: dict[str, list[Points]], title: str, labels: tuple[str, str], output: Path) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plot", "rlkit plot") from error
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes: Any = figure.subplots()
    for (metric, lines), colour in zip(curves.items(), _COLOURS * len(curves), strict=False):
        if len(lines) > 1:
            for points in filter(None, lines):
                axes.plot(*zip(*points, strict=True), color=colour, alpha=0.25, linewidth=0.8)
        mean = _mean(lines)
        if mean:
            axes.plot(*zip(*mean, strict=True), color=colour, linewidth=2.0, label=_LABELS.get(metric, metric))
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(frameon=False, loc="best")
    output.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(str(output), dpi=110)
