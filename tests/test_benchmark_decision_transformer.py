"""The decision transformer's benchmark: what its table says, and one tiny measurement."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import source_tree


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    folder = str(source_tree.ROOT / "benchmarks")
    sys.path.insert(0, folder)
    module = importlib.import_module("decision_transformer")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    yield module
    sys.path.remove(folder)


def test_a_run_is_measured_once_and_shown(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "PLAYERS", (("random", 1, 3), ("ppo", 256, 2)))
    monkeypatch.setattr(script, "SETTINGS", {"width": 8, "layers": 1, "context": 2, "batch_size": 4})
    monkeypatch.setattr(script, "UPDATES", 3)
    monkeypatch.setattr(script, "EPISODES", 2)
    monkeypatch.setattr(script, "ASKED", (10.0, 20.0))
    script.run([0])
    files = {path.name: path.read_bytes() for path in script.RESULTS.iterdir()}
    assert files.keys() == {"decision-transformer-s0.json", "behaviour-cloning-s0.json"}
    script.run([0])
    assert {path.name: path.read_bytes() for path in script.RESULTS.iterdir()} == files

    record = json.loads(files["behaviour-cloning-s0.json"])
    assert len(record["dataset_returns"]) == 5
    assert record["returns_by_asked"]["10"] == record["returns_by_asked"]["20"], "it is told of no return"
    for name, content in files.items():
        twin = json.loads(content) | {"seed": 1, "returns_by_asked": {"10": [1.0, 3.0], "20": [10.0, 20.0]}}
        (script.RESULTS / name.replace("s0", "s1")).write_text(json.dumps(twin))
    (script.RESULTS / "decision-transformer-s0.json").unlink()
    assert "| 10 | 2 [2–2] |" in script.table()
    assert "2 seeds, mean return of 2 episodes" in script.table()
