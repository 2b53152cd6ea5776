"""Frames of videos as observations: scaled, in colour or grey; what is no picture or no video is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rlkit.data.videos import video_frames
from rlkit.errors import DatasetError, UsageError

COLOURS = np.array([[200, 40, 90], [10, 220, 130]])


def pictures(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Two frames of one colour each, 6 high and 8 wide, without loss."""
    imageio: Any = pytest.importorskip("imageio.v3")
    frames = np.broadcast_to(COLOURS[:, None, None], (2, 6, 8, 3)).astype(np.uint8)
    imageio.imwrite(tmp_path / "two.png", frames, extension=".png", is_batch=True)
    return tmp_path / "two.png"


def test_frames_are_scaled_and_grey_where_observations_are(video: Path) -> None:
    coloured = video_frames(video, pictures(3, 4, 3))
    assert (coloured.shape, coloured.dtype) == ((2, 3, 4, 3), np.uint8)
    assert (coloured == COLOURS[:, None, None]).all()
    for shape in ((3, 4), (3, 4, 1)):
        grey = video_frames(video, pictures(*shape))
        assert (grey.shape, grey.dtype) == ((2, *shape), np.uint8)
        assert np.unique(grey[0]).tolist() == [94]  # 0.299 · 200 + 0.587 · 40 + 0.114 · 90 = 93.54
        assert np.unique(grey[1]).tolist() == [147]  # 0.299 · 10 + 0.587 · 220 + 0.114 · 130 = 146.95


@pytest.mark.parametrize("shape", [(3,), (4, 84, 84), (2, 8, 8, 3)])
def test_observations_that_are_no_single_pictures_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a video's frames cannot become observations"):
        video_frames(tmp_path / "any.mp4", pictures(*shape))


def test_a_missing_or_broken_file_is_told(video: Path) -> None:
    with pytest.raises(UsageError, match="there is no video"):
        video_frames(video.with_name("none.mp4"), pictures(8, 8))
    video.write_bytes(video.read_bytes()[:70])
    with pytest.raises(DatasetError, match="cannot be read as a video"):
        video_frames(video, pictures(8, 8))
