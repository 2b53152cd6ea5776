"""Attention on a processor: acting with a cache, and packed episodes, each beside the ordinary way.

    python benchmarks/attention_speed.py run --rounds 5
    python benchmarks/attention_speed.py table

Acting: one step of 8 environments through 4 blocks of width 128, a context of 256 steps that is full, with the cache
and by encoding the whole window anew. Packed episodes: forward and backward of the attention operation against torch's
(`scaled_dot_product_attention`) under the dense mask of the same episodes, made beforehand. Both take turns in one
process, one thread; ratios are medians of the ratios within a round. One JSON each; one that has its rounds is not run
again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import torch
from steps_a_second import circumstances, main, ratio, write
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rlkit.attention.attention import attention
from rlkit.attention.mask import AttentionMask
from rlkit.nn.cores import TransformerCore

RESULTS = Path(__file__).parent / "results" / "attention_speed"
ROWS, WIDTH, LAYERS, HEADS, CONTEXT = 8, 128, 4, 4, 256
# batch, steps, steps of an episode: as a minibatch of PPO has them
PACKED = {"128": (8, 128, 64), "512": (8, 512, 64)}
Work = Mapping[str, Callable[[], object]]


def acting() -> Work:
    """A step of every row, with the cache full."""
    core = TransformerCore(
        17, WIDTH, layers=LAYERS, heads=HEADS, context=CONTEXT, generator=torch.Generator().manual_seed(0)
    )
    x = torch.randn(ROWS, CONTEXT, 17, generator=torch.Generator().manual_seed(1))
    is_first = torch.zeros(ROWS, CONTEXT, dtype=torch.bool)
    memory = core.empty(ROWS)
    for now in range(CONTEXT):
        _, memory = core.step(x[:, now], memory)
    return {"cache": lambda: core.step(x[:, 0], memory), "window": lambda: core.unroll(x, is_first)[:, -1]}


def packed(batch: int, steps: int, episode: int) -> Work:
    """Forward and backward; episodes of each row begin at another place."""
    generator = torch.Generator().manual_seed(0)
    is_first = torch.zeros(batch, steps, dtype=torch.bool)
    for row in range(batch):
        is_first[row, int(torch.randint(episode, (1,), generator=generator)) :: episode] = True
    mask = AttentionMask.episodes(is_first)
    dense = mask.dense(steps, steps)
    q, k, v, by_out = (torch.randn(batch, HEADS, steps, 32, generator=generator) for _ in range(4))
    for each in (q, k, v):
        each.requires_grad_()

    def both_ways(forward: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(forward(), (q, k, v), by_out)

    return {
        "rlkit": both_ways(lambda: attention(q, k, v, mask)),
        "torch": both_ways(lambda: scaled_dot_product_attention(q, k, v, dense)),
    }


def microseconds(work: Callable[[], object]) -> float:
    """Of one call, over about a third of a second."""
    work()
    began, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < 0.3:
        work()
        calls += 1
    return spent / calls * 1e6


def run(rounds: int, results: Path) -> None:
    """Measure everything `rounds` times, in turns."""
    results.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    works = {"acting": acting, **{f"packed-{name}": lambda s=shape: packed(*s) for name, shape in PACKED.items()}}
    for name, make in works.items():
        path = results / f"{name}.json"
        rows = json.loads(path.read_text())["microseconds"] if path.exists() else []
        with torch.inference_mode(name == "acting"):
            work = make()
            while len(rows) < rounds:
                rows.append({way: microseconds(call) for way, call in work.items()})
        write(path, {"work": name, "microseconds": rows, **circumstances(), "torch": torch.__version__})


def table(results: Path) -> str:
    """A row for each comparison."""
    lines = ["| work | ours, µs | other, µs | other / ours | goal |", "|---|---|---|---|---|"]
    goals = {"acting": "≥ 20", "packed-128": "≥ 1", "packed-512": "≥ 1.5"}
    for name, goal in goals.items():
        path = results / f"{name}.json"
        if not path.exists():
            continue
        rows = json.loads(path.read_text())["microseconds"]
        ours, other = ("cache", "window") if name == "acting" else ("rlkit", "torch")
        numbers = [f"{median(row[way] for row in rows):.0f}" for way in (ours, other)]
        lines.append(f"| {name} | {' | '.join(numbers)} | {ratio(rows, other, ours)} | {goal} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, RESULTS, run, table)
