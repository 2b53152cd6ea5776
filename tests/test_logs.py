"""Logs forget what a resume repeats, and never stop training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlkit import logs
from rlkit.logs import EventFiles, JsonLines


def points(folder: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder), purge_orphaned_data=False)
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("a")]


def lines(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_resume_cuts_off_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    table, events = JsonLines(tmp_path), EventFiles(tmp_path)
    events.start(0)
    for step in (1, 2):
        table.write(step, {"a": step / 2})
        events.write(step, {"a": step / 2})
    kept = table.state(), events.state()
    for log in (table, events):
        log.write(3, {"a": 99.0})
        log.close()
    (tmp_path / "events.out.tfevents.999.later").write_bytes(b"of a process that was killed")

    table, events = JsonLines(tmp_path), EventFiles(tmp_path)
    table.load_state(kept[0])
    events.load_state(kept[1])
    events.start(2)
    table.write(3, {"a": 1.5})
    events.write(3, {"a": 1.5})
    table.close()
    events.close()
    assert lines(tmp_path) == [{"step": 1, "a": 0.5}, {"step": 2, "a": 1.0}, {"step": 3, "a": 1.5}]
    assert points(tmp_path) == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert len(list(tmp_path.glob("events.*"))) == 2


def test_a_reader_that_saw_later_points_is_told_to_forget_them(tmp_path: Path) -> None:
    events = EventFiles(tmp_path)
    events.load_state({"files": {"gone": 0}})
    events.start(7)
    events.close()
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (path,) = tmp_path.glob("events.*")
    starts = [event.step for event in EventFileLoader(str(path)).Load() if event.HasField("session_log")]
    assert starts == [8]


def test_a_full_disk_neither_stops_nor_loses_nor_doubles_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table = JsonLines(tmp_path)
    table.write(1, {"a": 1.0})
    real = Path.open
    table.close()

    class Full:
        """Writes half, then the disk is full."""

        def __init__(self) -> None:
            self.file = real(tmp_path / "metrics.jsonl", "ab")

        def write(self, data: bytes) -> int:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            raise OSError(28, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    monkeypatch.setattr(Path, "open", lambda *_, **__: Full())
    for step in (2, 3):
        table.write(step, {"a": float(step)})
    assert caplog.text.count("training goes on") == 1
    monkeypatch.setattr(Path, "open", real)
    table.write(4, {"a": 4.0})
    table.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]


def test_logging_needs_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from rlkit.logs import EventFiles, JsonLines; folder = pathlib.Path(sys.argv[1]);"
        "e = EventFiles(folder); e.start(0); e.write(1, {'a': 1.0}); e.close(); JsonLines(folder).write(1, {'a': 1.0});"
        "assert 'torch' not in sys.modules and 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert points(tmp_path) == [(1, 1.0)]


def test_nothing_else_in_the_folder_is_touched(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("12345")
    logs.JsonLines(tmp_path).load_state({"bytes": 10})
    assert (tmp_path / "metrics.jsonl").read_text() == "12345"
