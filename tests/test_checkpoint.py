"""Checkpoints: written whole or not at all, shared where they can be, and never half believed."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rlkit import checkpoint as checkpoint_module
from rlkit.checkpoint import CheckpointStore, load_checkpoint
from rlkit.data.replay import ReplayBuffer
from rlkit.errors import CheckpointError
from rlkit.types import Transition

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)


def replay(capacity: int = 20) -> ReplayBuffer:
    return ReplayBuffer(BOX, BOX, capacity)


def fill(buffer: ReplayBuffer, steps: int) -> None:
    never = np.zeros(1, dtype=np.bool_)
    for _ in range(steps):
        row = np.full((1, 2), buffer.total_added, np.float32)
        buffer.add(Transition(row, row, row[:, 0], row, never, never))


def segment_files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "segments").glob("*"))


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def test_what_is_saved_is_loaded_and_two_are_kept(store: CheckpointStore) -> None:
    for step in (10, 20, 30):
        store.save(step, {"weights": np.full(3, step)}, {"count": step})
    assert [path.name for path in store.candidates()] == ["step-000000030", "step-000000020"]
    loaded = CheckpointStore(store.folder).load()
    assert (loaded.step, loaded.training) == (30, {"count": 30})
    assert (loaded.policy["weights"] == 30).all()
    assert CheckpointStore(store.folder).load(policy_only=True).training is None


def test_a_checkpoint_costs_only_the_rows_that_are_new(store: CheckpointStore) -> None:
    buffer = replay()
    fill(buffer, 6)
    store.save(6, {}, {"replay": buffer})
    fill(buffer, 4)
    store.save(10, {}, {"replay": buffer})
    assert segment_files(store.folder) == [
        f"replay-{0:012d}-{6:012d}.safetensors",
        f"replay-{6:012d}-{10:012d}.safetensors",
    ]
    store.save(11, {}, {"replay": buffer})  # nothing new
    assert len(segment_files(store.folder)) == 2


def test_segments_go_when_the_ring_has_overwritten_them_and_no_checkpoint_needs_them(store: CheckpointStore) -> None:
    buffer = replay(capacity=10)
    for step in range(1, 8):
        fill(buffer, 5)
        store.save(5 * step, {}, {"replay": buffer})
    kept = segment_files(store.folder)
    assert kept == [f"replay-{a:012d}-{a + 5:012d}.safetensors" for a in (20, 25, 30)]
    for path in store.candidates():
        other = replay(capacity=10)
        training = load_checkpoint(path).training
        assert training is not None
        other.restore(training["replay"])
        rows = other.rows(other.oldest_held, other.total_added)["float32"][:, 0, 0]
        assert rows.tolist() == list(range(other.oldest_held, other.total_added))


def test_a_resumed_store_shares_the_segments_that_were_there(store: CheckpointStore) -> None:
    buffer = replay()
    fill(buffer, 5)
    store.save(5, {}, {"replay": buffer})
    again = CheckpointStore(store.folder)
    training = again.load().training
    assert training is not None
    resumed = replay()
    resumed.restore(training["replay"])
    fill(resumed, 3)
    again.save(8, {}, {"replay": resumed})
    assert [name[7:] for name in segment_files(store.folder)] == [
        f"{0:012d}-{5:012d}.safetensors",
        f"{5:012d}-{8:012d}.safetensors",
    ]


def two_checkpoints(store: CheckpointStore) -> Path:
    buffer = replay()
    for step in (10, 20):
        fill(buffer, 10)
        store.save(step, {"weights": np.arange(50.0)}, {"replay": buffer, "count": step})
    return store.candidates()[0]


def truncate(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


FILES = (
    "manifest.json", "policy/state.json", "policy/arrays.safetensors", "training/state.json",
    "training/arrays.safetensors", "../segments/replay-000000000010-000000000020.safetensors",
)  # fmt: skip


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "damage",
    [truncate(0), truncate(0.5), truncate(0.99), flip, Path.unlink],
    ids=["empty", "half", "cut", "flipped", "missing"],
)
def test_a_damaged_file_falls_back_to_the_checkpoint_before(
    file: str, damage: Callable[[Path], None], store: CheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    newest = two_checkpoints(store)
    if file == "manifest.json" and damage is flip:
        pytest.skip("a flipped bit of the manifest may be in a version's name")
    damage(newest / file)
    with caplog.at_level(logging.WARNING):
        assert CheckpointStore(store.folder).load().step == 10
    assert "damaged checkpoint" in caplog.text
    assert not newest.exists(), "a run that goes on from the older one replaces the damaged one"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 999},
        {"schema": "1"},
        {"files": {}},
        {"files": []},
        {"logs": {"/replay": {"oldest_held": 0, "total_added": 20, "segments": [{"file": "x"}]}}},
        {"step": None, "schema": None},
    ],
    ids=str,
)
def test_a_manifest_that_is_not_ours_is_refused_by_name(change: dict[str, Any], store: CheckpointStore) -> None:
    newest = two_checkpoints(store)
    manifest = json.loads((newest / "manifest.json").read_text())
    (newest / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(CheckpointError, match="step-000000020"):
        load_checkpoint(newest)


def test_segments_outside_their_folder_are_refused(store: CheckpointStore, tmp_path: Path) -> None:
    newest = two_checkpoints(store)
    name = "replay-000000000010-000000000020.safetensors"
    shutil.copy(store.folder / "segments" / name, tmp_path / name)
    text = (newest / "manifest.json").read_text()
    (newest / "manifest.json").write_text(text.replace(name, f"../../{name}"))
    with pytest.raises(CheckpointError, match="step-000000020"):
        load_checkpoint(newest)


def test_a_full_disk_keeps_what_was_there(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    two_checkpoints(store)

    def full(path: Path, content: bytes) -> dict[str, Any]:
        path.write_bytes(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "_write_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        store.save(30, {"weights": np.zeros(3)}, {"count": 30})
    monkeypatch.undo()
    assert not list(store.folder.glob(".tmp-*"))
    assert CheckpointStore(store.folder).load().step == 20


def test_what_a_killed_process_left_is_swept_away_on_resume(store: CheckpointStore) -> None:
    two_checkpoints(store)
    (store.folder / ".tmp-000000030-0a1b").mkdir()
    (store.folder / "segments" / ".tmp-replay").write_text("half")
    again = CheckpointStore(store.folder)
    again.load()
    again.save(30, {}, {})
    assert not list(store.folder.glob("**/.tmp-*"))


def test_an_empty_store_says_so(store: CheckpointStore) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint was written yet"):
        store.load()
