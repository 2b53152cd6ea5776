"""The pixel benchmark: the best return by hand, and the curve of a run."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import source_tree

import rlkit


@pytest.fixture(scope="module")
def pixels() -> Iterator[ModuleType]:
    folder = str(source_tree.ROOT / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module("pixels")
    sys.path.remove(folder)


def test_the_best_return_of_a_room_is_that_of_the_shortest_way(pixels: ModuleType) -> None:
    pytest.importorskip("minigrid")
    # two cells ahead, one turn, two cells down; 100 steps at most
    assert pixels.best_returns("MiniGrid-Empty-5x5-v0", 0, 2) == pytest.approx([1 - 0.9 * 5 / 100] * 2)


def test_the_way_leads_around_lava(pixels: ModuleType) -> None:
    pytest.importorskip("minigrid")
    # three cells to the right and three down, looking right at first: one turn where the gap is in the first row, two
    # where it is in the last, three between
    found = {round((1 - value) / 0.9 * 4 * 6**2) for value in pixels.best_returns("MiniGrid-LavaGapS6-v0", 0, 30)}
    assert found == {7, 8, 9}


def test_a_curve_has_every_training_episode_and_a_picture(
    pixels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(pixels, "RESULTS", tmp_path / "results")
    options = {"total_steps": 200, "eval_every": 100, "eval_episodes": 2}
    run = rlkit.train("random", "CartPole-v1", run_dir=tmp_path / "run", **options).run_dir
    pixels.curve(run, "cartpole")
    record = json.loads((tmp_path / "results" / "cartpole.json").read_text())
    steps = [step for step, _ in record["episodes"]]
    returns = [value for _, value in record["episodes"]]
    assert steps == [sum(map(int, returns[: number + 1])) for number in range(len(returns))]  # 1 a step
    assert 0 < 200 - steps[-1] < 200
    assert [step for step, _ in record["evaluations"]] == [100, 200]
    assert (tmp_path / "results" / "cartpole.png").stat().st_size > 1_000
