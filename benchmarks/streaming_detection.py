"""Detectors of streams that compute each frame once, beside OadTR, which reads its window anew, on one thread.

    python benchmarks/streaming_detection.py run --rounds 5
    python benchmarks/streaming_detection.py table

A step of 8 streams, 512 features a frame, 4 layers of width 128 with 4 heads and perceptrons four times as wide, a
window or band of 64 frames that is full. Without a horizon `oadtr` is its encoder and `oadtr-streaming` its core, the
same layers, each with one linear layer for the present: what is compared is whether 65 tokens are encoded for a frame
or one. With a horizon of 8 frames `oadtr` has a decoder of one layer and `oadtr-streaming` one linear layer. The
latter is measured a second time without its compiled step, through the operations of torch that `oadtr` consists of.
All take turns in one process, in inference mode; ratios are medians of the ratios within a round. Times are those of
the processor, so that other work on the machine counts little. A record that has its rounds is not run again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import torch
from steps_a_second import circumstances, main, ratio, write
from torch import Tensor

from rlkit.perception.detection.detector import Detections, DetectionTask, DetectorClass, Memory
from rlkit.perception.detection.oadtr import OadTR
from rlkit.perception.detection.recurrent import GRUDetector
from rlkit.perception.detection.streaming_oadtr import StreamingOadTR

RESULTS = Path(__file__).parent / "results" / "streaming_detection"
STREAMS, FEATURES, WIDTH, WINDOW, LAYERS = 8, 512, 128, 64, 4
HORIZONS = (0, 8)
GOAL = 20.0


class WithoutCompiledStep(StreamingOadTR):
    """The same numbers by the core's own step."""

    def _step(self, x: Tensor, memory: Memory) -> tuple[Detections, Memory]:
        y, memory = self.core.step(x, memory)
        return self.head(self.dropout(y)), memory


DETECTORS: dict[str, tuple[DetectorClass, int, dict[str, int]]] = {  # class, calls that are timed together, options
    "oadtr": (OadTR, 10, {"layers": LAYERS, "expansion": 4, "decoder_layers": 1}),
    "oadtr-streaming": (StreamingOadTR, 300, {"layers": LAYERS}),
    "oadtr-streaming without its compiled step": (WithoutCompiledStep, 100, {"layers": LAYERS}),
    "gru": (GRUDetector, 300, {}),
}


def step_of(name: str, horizon: int) -> Callable[[], object]:
    """One step of all streams, whose windows are full."""
    detector_class, _, options = DETECTORS[name]
    given: dict[str, Any] = {"width": WIDTH, "window": WINDOW, "horizon": horizon, **options}
    classes = tuple(f"class {number}" for number in range(8))
    detector = detector_class(detector_class.Config(**given), DetectionTask(FEATURES, classes)).eval()
    x = torch.randn(2 * WINDOW, STREAMS, FEATURES, generator=torch.Generator().manual_seed(0))
    memory = detector.empty(STREAMS)
    for frame in x:
        memory = detector.step(frame, memory)[1]

    def step() -> None:
        nonlocal memory
        memory = detector.step(x[0], memory)[1]

    return step


def milliseconds(step: Callable[[], object], calls: int) -> float:
    """The processor's, of one call."""
    step()
    began = time.thread_time()
    for _ in range(calls):
        step()
    return (time.thread_time() - began) / calls * 1e3


@torch.inference_mode()
def run(rounds: int, results: Path) -> None:
    """Measure everything `rounds` times, in turns."""
    results.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for horizon in HORIZONS:
        path = results / f"horizon-{horizon}.json"
        rows = json.loads(path.read_text())["milliseconds"] if path.exists() else []
        steps = {name: (step_of(name, horizon), calls) for name, (_, calls, _) in DETECTORS.items()}
        while len(rows) < rounds:
            rows.append({name: milliseconds(*each) for name, each in steps.items()})
        write(path, {"horizon": horizon, "milliseconds": rows, **circumstances(), "torch": torch.__version__})


def table(results: Path) -> str:
    """A row for each detector and horizon."""
    lines = ["| horizon | detector | ms a step of 8 streams | steps in the time of one of oadtr | goal |"]
    lines.append("|---|---|---|---|---|")
    for horizon in HORIZONS:
        path = results / f"horizon-{horizon}.json"
        if not path.exists():
            continue
        rows = json.loads(path.read_text())["milliseconds"]
        for name in DETECTORS:
            taken = median(row[name] for row in rows)
            goal = f"≥ {GOAL:g}" if name == "oadtr-streaming" else ""
            lines.append(f"| {horizon} | {name} | {taken:.3f} | {ratio(rows, 'oadtr', name)} | {goal} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, RESULTS, run, table)
