"""MiniGrid, Atari and drawn classic control: by name, as small pictures, with frames that announce themselves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlkit
from rlkit.cli.main import main
from rlkit.envs import check
from rlkit.envs.make import EnvFactory, make
from rlkit.envs.restore import explain_restore
from rlkit.envs.wrapper_names import env_arguments, resolve_wrapper
from rlkit.errors import MissingExtraError, UsageError
from rlkit.types import VectorEnv

DRAWN = "render_mode=rgb_array"
SMALL = ("add-render-observation", "resize-observation:shape=[48,48]", "grayscale-observation", "frame-stack:n=4")
TILES = ("add-render-observation", "grayscale-observation", "frame-stack:n=2")
ATARI = ("atari-preprocessing", "frame-stack:n=4")
QUIET: dict[str, Any] = {"preset": "none", "eval_every": 0}


def built(env: str, args: tuple[str, ...], wrap: tuple[str, ...]) -> VectorEnv:
    return make(env, wrappers=[resolve_wrapper(text) for text in wrap], env_kwargs=env_arguments(args))


@pytest.mark.parametrize(
    ("env", "needs", "args", "wrap", "shape"),
    [
        ("MiniGrid-Empty-5x5-v0", "minigrid", (DRAWN, "tile_size=8"), TILES, (2, 40, 40)),
        ("MiniGrid-Empty-5x5-v0", "minigrid", (DRAWN,), SMALL, (4, 48, 48)),
        ("CartPole-v1", "pygame", (DRAWN,), SMALL, (4, 48, 48)),
        ("rlkit/MountainCar-v0", "pygame", (DRAWN,), SMALL, (4, 48, 48)),
        ("rlkit/GridWorld-v0", "numpy", (DRAWN,), SMALL, (4, 48, 48)),
        ("ALE/Pong-v5", "ale_py", (), ATARI, (4, 84, 84)),
    ],
)
def test_pictures_are_small_grey_stacked_and_announced(
    env: str, needs: str, args: tuple[str, ...], wrap: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    pytest.importorskip(needs)
    pytest.importorskip("cv2")
    envs = built(env, args, wrap)
    first, _ = envs.reset(0)
    assert (first.shape, first.dtype) == ((1, *shape), np.uint8)
    assert (first[0] == first[0, 0]).all(), "an episode begins with its first frame repeated"
    assert envs.frame_stack == shape[0]
    before = first
    for _ in range(5):
        step = envs.step(np.array([2]) if env.startswith(("MiniGrid", "ALE")) else np.array([1]))
        assert np.array_equal(step.next_obs[0, :-1], before[0, 1:])
        before = step.next_obs
    assert (before[0, -1] != first[0, -1]).any()
    envs.close()


def test_minigrid_trains_by_name_resumes_and_evaluates_with_its_texts(tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    run = rlkit.train("random", "MiniGrid-Empty-5x5-v0", total_steps=200, run_dir=tmp_path / "run", **QUIET).run_dir
    assert rlkit.resume(run, total_steps=300).steps == 300
    assert len(rlkit.evaluate(run, episodes=2).returns) == 2


@pytest.mark.slow
def test_atari_resumes_in_mid_game_to_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    runs = {name: tmp_path / name for name in ("whole", "part")}
    for name, steps in (("whole", 60), ("part", 25)):
        rlkit.train("random", "ALE/Pong-v5", total_steps=steps, run_dir=runs[name], wrap=ATARI, **QUIET)
    rlkit.resume(runs["part"], total_steps=60)
    last = [run / "checkpoints" / "step-000000060" / "training" / "arrays.safetensors" for run in runs.values()]
    assert last[0].read_bytes() == last[1].read_bytes()


def test_the_games_own_frame_skip_is_left_to_the_wrapper() -> None:
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    envs = built("ALE/Pong-v5", (), ATARI)
    inner: Any = envs.single_env.unwrapped  # type: ignore[attr-defined]
    assert inner._frameskip == 1
    envs.reset(0)
    before = inner.ale.getEpisodeFrameNumber()
    envs.step(np.array([0]))
    assert inner.ale.getEpisodeFrameNumber() == before + 4
    with pytest.raises(UsageError, match="Leave out frameskip among --env-args"):
        built("ALE/Pong-v5", ("frameskip=4",), ATARI)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [(), ATARI])
def test_a_game_is_restored_exactly(wrap: tuple[str, ...]) -> None:
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    probe = explain_restore(EnvFactory("ALE/Pong-v5", tuple(resolve_wrapper(text) for text in wrap)))
    assert (probe.tier, probe.reason) == ("exact", "")


@pytest.mark.parametrize(
    ("module", "env", "extra"), [("minigrid", "MiniGrid-Empty-5x5-v0", "minigrid"), ("ale_py", "ALE/Pong-v5", "atari")]
)
def test_a_missing_package_is_named_by_its_extra(
    module: str, env: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"\.\[{extra}\]"):
        make(env)


def test_what_pictures_need_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Add --env-args render_mode=rgb_array"):
        built("rlkit/GridWorld-v0", (), SMALL)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"\.\[atari\]"):
        built("rlkit/GridWorld-v0", (DRAWN,), SMALL)
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(MissingExtraError, match=r"\.\[video\]"):
        built("CartPole-v1", (DRAWN,), SMALL)


def test_the_check_takes_arguments_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr(check, "_SPEED_SECONDS", 0.01)
    monkeypatch.setattr(check, "_MAX_STEPS", 200)
    wrap = ["--wrap", *SMALL[:2], "--wrap", *SMALL[2:]]
    assert main(["check-env", "rlkit/GridWorld-v0", "--env-args", DRAWN, *wrap]) == 0
    assert "Box(0, 255, (4, 48, 48), uint8)" in capsys.readouterr().out
