"""The probe benchmark: its table, from results by hand."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import source_tree

from rlkit import registry


@pytest.fixture
def probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    folder = str(source_tree.ROOT / "benchmarks")
    sys.path.insert(0, folder)
    module = importlib.import_module("probes")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    yield module
    sys.path.remove(folder)


def test_the_table_ranks_methods_and_sets_them_beside_the_supervised_encoder(probes: ModuleType) -> None:
    for method, scores in (("st-dim", (0.7, 0.9)), ("supervised", (1.0, 1.0)), ("untrained", (0.4, 0.4))):
        for seed, score in enumerate(scores):
            target = probes.target_of("pong", method, seed)
            target.parent.mkdir(exist_ok=True)
            record = {"method": method, "updates": 600, "overall": {"f1_weighted": score}}
            record["categories"] = {"small_object": {"f1_weighted": score / 2}}
            target.write_text(json.dumps(record))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in probes.table().splitlines()[2:]]
    assert [row[1] for row in rows] == ["supervised", "st-dim", "untrained"]
    assert rows[1] == ["pong", "st-dim", "2", "600", "0.800 [0.700, 0.900]", "80%", "", "0.400", ""]


def test_every_batch_size_is_of_a_method(probes: ModuleType) -> None:
    assert set(probes.PATCHED) <= set(probes.BATCH_SIZES)
    for method in registry.METHODS:
        registry.method_class(method).Config(**probes.options_of(method))
