"""Views of pictures, beside the network that learns from them, on one thread of a processor.

    python benchmarks/views_speed.py run --rounds 5
    python benchmarks/views_speed.py table

A batch of 256 pictures of 84 x 84 pixels, four grey frames or one in colours: forward and backward of the Nature CNN
alone, each change alone (with probability 1), and a view of each policy. All take turns in one process; shares are
medians of the shares within a round. Times are those of the processor, so that other work on the machine counts little.
One JSON for each kind of picture; one that has its rounds is not run again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import torch
from steps_a_second import circumstances, main, ratio, write

from rlkit.nn.encoders import ConvolutionEncoder
from rlkit.perception.views import Augmentation, augmented, view_policy

RESULTS = Path(__file__).parent / "results" / "views_speed"
BATCH, SIDE, CALLS = 256, 84, 3
PICTURES = {"grey": (4, False), "coloured": (3, True)}  # channels, and whether they are colours
CHANGES = {
    "shift": Augmentation(shift=4),
    "crop": Augmentation(crop=(0.08, 1.0)),
    "flip": Augmentation(flip=1.0),
    "jitter": Augmentation(jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "grey": Augmentation(grey=1.0),
    "blur": Augmentation(blur=1.0),
    "solarise": Augmentation(solarise=1.0),
}


def augmentations(coloured: bool) -> dict[str, Augmentation]:
    """Every change alone, and the first view of every policy; of a multi-crop the first of the small ones too."""
    found = CHANGES if coloured else {n: each.without_colours() for n, each in CHANGES.items() if n != "grey"}
    for name in ("simclr", "moco", "byol", "swav", "dino"):
        large, _, *small = view_policy(name, coloured=coloured, small_views=1).augmentations
        found = found | {f"a view of {name}": large} | {f"a small view of {name}": each for each in small}
    return found


def milliseconds(work: Callable[[], object]) -> float:
    """The processor's, of one call."""
    work()
    began = time.thread_time()
    for _ in range(CALLS):
        work()
    return (time.thread_time() - began) / CALLS * 1e3


def works(channels: int, coloured: bool) -> dict[str, Callable[[], object]]:
    """The network, and every augmentation."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, channels, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    net = ConvolutionEncoder("nature", (channels, SIDE, SIDE), generator)

    def learn() -> None:
        net.zero_grad()
        net(images).square().mean().backward()

    def viewed(augmentation: Augmentation) -> Callable[[], object]:
        return lambda: augmented(images, augmentation, generator, coloured=coloured)

    return {"network": learn} | {name: viewed(each) for name, each in augmentations(coloured).items()}


def run(rounds: int, results: Path) -> None:
    """Measure everything `rounds` times, in turns."""
    results.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name, (channels, coloured) in PICTURES.items():
        path = results / f"{name}.json"
        rows = json.loads(path.read_text())["milliseconds"] if path.exists() else []
        work = works(channels, coloured)
        while len(rows) < rounds:
            rows.append({each: milliseconds(call) for each, call in work.items()})
        write(path, {"work": name, "milliseconds": rows, **circumstances(), "torch": torch.__version__})


def table(results: Path) -> str:
    """A row for each augmentation."""
    lines = ["| pictures | work | ms a batch | in units of the network's | goal |", "|---|---|---|---|---|"]
    for name in PICTURES:
        path = results / f"{name}.json"
        if not path.exists():
            continue
        rows = json.loads(path.read_text())["milliseconds"]
        for each in rows[0]:
            goal = "≤ 0.15" if each == "shift" else ""
            milliseconds = median(row[each] for row in rows)
            lines.append(f"| {name} | {each} | {milliseconds:.1f} | {ratio(rows, each, 'network')} | {goal} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, RESULTS, run, table)
