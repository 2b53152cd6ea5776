"""`rlkit plot` draws the values of tabular runs, into TensorBoard too."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from filelock import FileLock
from matplotlib.quiver import Quiver
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlkit
from rlkit.cli.main import main
from rlkit.cli.pictures import png_of
from rlkit.cli.value_pictures import blackjack_figure, grid_figure, line_figure
from rlkit.envs.classic_tables import CarRental
from rlkit.envs.grid_world import GridWorld
from rlkit.envs.grids import GridView, grid_view
from rlkit.logs import write_image


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def images(folder: Path, tag: str = "values") -> list[Any]:
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return list(events.Images(tag)) if tag in events.Tags()["images"] else []


def grid_of(env: Any) -> GridView:
    view = grid_view(env)
    assert view is not None
    return view


@pytest.mark.parametrize(
    ("agent", "env", "steps", "options"),
    [
        ("value-iteration", "FrozenLake-v1", 1000, {}),
        ("q-learning", "rlkit/CourseGrid-v0", 2000, {"wrap": ["time-limit:max_episode_steps=100"]}),
        ("q-learning", "CliffWalking-v1", 2000, {}),
        ("monte-carlo", "Blackjack-v1", 5000, {}),
        ("mc-prediction", "Blackjack-v1", 5000, {}),
        ("td-0", "rlkit/RandomWalk19-v0", 2000, {}),
        ("q-learning", "Taxi-v4", 2000, {}),
        ("dyna-q", "rlkit/ShortcutMaze-v0", 4000, {"wrap": ["time-limit:max_episode_steps=200"]}),
    ],
)
def test_a_tabular_run_has_two_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], agent: str, env: str, steps: int, options: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    result = rlkit.train(agent, env, total_steps=steps, run_dir=run, threads=1, **options)
    capsys.readouterr()
    assert main(["plot", str(run), "--output", str(tmp_path / "new" / "curve.png")]) == 0
    values = tmp_path / "new" / "values.png"
    assert capsys.readouterr().out.split() == [str(values.with_name("curve.png")), str(values)]
    width, height = size_of(values.read_bytes())
    assert 300 < width < 1400
    assert 200 < height < 1400
    (image,) = images(run)
    assert (image.step, image.width, image.height) == (result.steps, width, height)
    assert image.encoded_image_string == values.read_bytes()


def test_a_run_without_returns_has_values_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    rlkit.train("value-iteration", "FrozenLake-v1", total_steps=50, run_dir=run, eval_every=0)
    capsys.readouterr()
    output, values = tmp_path / "curve.png", tmp_path / "v.png"
    arguments = ["plot", str(run), "--output", str(output), "--values", str(values)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.split() == [str(values)]
    assert not output.exists()
    assert main([*arguments, "--metrics", "train/loss"]) == 2
    assert "train/loss" in capsys.readouterr().err


def test_seeds_and_bandits_have_a_curve_only(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("a", "b", "bandit")]
    for run in runs[:2]:
        rlkit.train("q-learning", "FrozenLake-v1", total_steps=2000, run_dir=run)
    rlkit.train("ucb-bandit", "rlkit/Bandit-v0", total_steps=2000, run_dir=runs[2])
    for chosen in (runs[:2], runs[2:]):
        assert main(["plot", *map(str, chosen), "--output", str(tmp_path / "curve.png")]) == 0
    assert not (tmp_path / "values.png").exists()


def test_a_run_that_cannot_be_loaded_still_has_its_curve(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "config.yaml").write_text("agent: {name: q-learning}\nenv: FrozenLake-v1\n")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "rollout/ep_rew_mean": 0.5}\n')
    assert main(["plot", str(tmp_path), "--output", str(tmp_path / "curve.png")]) == 0
    assert "the values are not drawn" in caplog.text
    assert (tmp_path / "curve.png").exists()
    assert not (tmp_path / "values.png").exists()


def test_plotting_while_training_leaves_tensorboard_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    rlkit.train("value-iteration", "FrozenLake-v1", total_steps=20, run_dir=run)
    with FileLock(run / ".lock"):
        assert main(["plot", str(run), "--output", str(tmp_path / "curve.png")]) == 0
    assert (tmp_path / "values.png").exists()
    assert "is being trained" in caplog.text
    assert images(run) == []


def test_a_later_image_takes_the_place_of_the_last(tmp_path: Path) -> None:
    for step in (3, 5):
        write_image(tmp_path, "values", step, b"png", 2, 1)
    write_image(tmp_path, "other", 4, b"png", 2, 1)
    assert [image.step for image in images(tmp_path)] == [5]
    assert [image.step for image in images(tmp_path, "other")] == [4]


def test_arrows_of_a_small_grid_point_where_the_actions_lead() -> None:
    view = grid_of(GridWorld("S./.T", "five"))
    up, right, down, stay = 0, 1, 2, 4
    figure = grid_figure(np.array([0.5, 1.0, 0.2, 0.0]), view, np.array([right, down, stay, up]), "title")
    axes: Any = figure.axes[0]
    (arrows,) = [found for found in axes.collections if isinstance(found, Quiver)]
    places = {tuple(np.round(at).astype(int)): (u, v) for at, u, v in zip(arrows.XY, arrows.U, arrows.V, strict=True)}
    assert set(places) == {(0, 0), (1, 0)}  # column, row; the third stays, the fourth is the end
    assert places[0, 0] == pytest.approx((0.46, 0.0))
    assert places[1, 0] == pytest.approx((0.0, 0.46))  # down: y grows downwards
    assert axes.yaxis_inverted()
    assert {text.get_text() for text in axes.texts} == {"S", "T", "0.50", "1.00", "0.20"}
    (dots,) = [found for found in axes.collections if found not in (arrows,)]
    assert dots.get_offsets().tolist() == [[0.0, pytest.approx(0.9)]]


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("FrozenLake-v1", {"is_slippery": False, "desc": ["SFF", "FFF", "FFG"]}),
        ("CliffWalking-v1", {}),
        ("rlkit/GridWorld-v0", {"layout": "S../.../..T", "actions": "king-stay"}),
        ("rlkit/CourseGrid-v0", {}),
    ],
)
def test_a_view_has_the_arrows_of_its_environment(env_id: str, options: dict[str, Any]) -> None:
    env: Any = gym.make(env_id, **options)
    view = grid_of(env)
    assert view.arrows is not None
    state = view.columns + 1  # an inner cell, from which every move leads to a neighbour
    for action, (rows, columns) in enumerate(view.arrows):
        env.reset(seed=0)
        env.unwrapped.s = env.unwrapped.state = state
        assert env.step(action)[0] == (1 + rows) * view.columns + 1 + columns


def test_walls_and_ends_are_marked() -> None:
    view = grid_of(GridWorld("S#T/..F"))
    assert view.walls.tolist() == [False, True, False, False, False, False]
    assert view.ended.tolist() == [False, False, True, False, False, False]
    assert view.letters == ("S.T", "..F")
    lake = grid_of(gym.make("FrozenLake-v1"))
    assert np.flatnonzero(lake.ended).tolist() == [5, 7, 11, 12, 15]
    cliff = grid_of(gym.make("CliffWalking-v1"))
    assert np.flatnonzero(cliff.walls).tolist() == list(range(37, 47))
    assert np.flatnonzero(cliff.ended).tolist() == [47]


def test_what_is_no_grid_has_no_view() -> None:
    assert grid_view(gym.make("Taxi-v4")) is None
    lake = gym.make("FrozenLake-v1")
    assert grid_view(gym.wrappers.TransformObservation(lake, lambda s: s // 2, gym.spaces.Discrete(8))) is None


def test_actions_that_are_no_moves_have_no_arrows() -> None:
    view = grid_of(CarRental())
    assert view.arrows is None
    figure = grid_figure(np.arange(441.0), view, np.zeros(441, np.int64), "title")
    axes: Any = figure.axes[0]
    assert not axes.collections
    assert not axes.texts


def test_blackjack_says_where_the_policy_hits() -> None:
    sums = np.arange(32 * 11 * 2) // 22
    figure = blackjack_figure(np.zeros(704), (sums < 20).astype(np.int64), "title")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert sorted(texts) == ["HIT", "HIT", "STICK", "STICK"]
    assert len(blackjack_figure(np.zeros(704), None, "title").axes) == 2


def test_states_in_no_order_are_sorted_by_their_true_values() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(200)
    values = truth + 0.01
    values[7] = np.nan
    axes: Any = line_figure(values, truth, "title").axes[0]
    true_line, run_line = axes.lines
    assert (np.diff(true_line.get_ydata()) >= 0).all()
    assert run_line.get_ydata() == pytest.approx(true_line.get_ydata() + 0.01)
    assert len(run_line.get_ydata()) == 199
    chain: Any = line_figure(np.arange(5.0), None, "title").axes[0]
    assert chain.lines[0].get_xdata().tolist() == [0, 1, 2, 3, 4]


def test_equal_values_can_be_drawn() -> None:
    view = grid_of(GridWorld("S./.T"))
    assert size_of(png_of(grid_figure(np.zeros(4), view, None, "title")).data)[0] > 200
