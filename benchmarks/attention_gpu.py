"""Attention of reinforcement learning's shapes on an NVIDIA GPU: rlkit's kernels beside torch's.

    PYTHONPATH=. python benchmarks/attention_gpu.py                    # under ten minutes
    PYTHONPATH=. python benchmarks/attention_gpu.py --dry              # all of it, tiny, on the CPU: does it run?
    PYTHONPATH=. python benchmarks/attention_gpu.py sweep --shapes S1 S2      # tiles of rlkit's kernels
    PYTHONPATH=. python benchmarks/attention_gpu.py table

Needs torch and triton alone. Shapes S1 to S8: PPO with memory, packed PPO, Decision Transformer, ViT, entities, DiT,
OadTR, and a step with a cache. Against SDPA by each backend, with the mask in dense form and without it (then it
computes something else, and says so), FlexAttention with a block mask that is there or built anew, and varlen_attn.

Each contender's outputs and gradients are compared with float64 on its first two rows. Times are medians of replays of
a CUDA graph over several sets of buffers, so that nothing is found in the L2; what cannot be captured is timed by
events, launches included, and marked. Backward is forward and backward in one graph, less forward. A contender that
fails is kept with what it said. Floors: the notes' for an H100 at 3.0 TB/s, and bytes over what a copy reaches here.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

if "--dry" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported

import torch
from attention_contenders import (
    DECODES,
    SHAPES,
    Attend,
    Decode,
    Shape,
    buffers,
    contenders,
    decoders,
    own,
    timed,
)
from attention_table import table
from torch import Tensor

from rlkit.attention.mask import AttentionMask
from rlkit.attention.reference import attention_reference

RESULTS = Path(__file__).parent / "results" / "attention_gpu"
WRONG = 2e-2
"""Relative error beyond which an output in bfloat16 is not rounding."""
UPDATES = 1_000
TILES = [(16, 32), (32, 32), (32, 64), (64, 32), (64, 64), (64, 128), (128, 32), (128, 64), (128, 128)]
Record: TypeAlias = dict[str, Any]


def error(x: Tensor, right: Tensor) -> float:
    """Of x, relative and in norm."""
    return float((x.double() - right).norm() / right.norm().clamp(min=1e-30))


def first_rows(mask: AttentionMask, rows: int) -> AttentionMask:
    """The mask of a batch's first rows."""
    parts = {name: getattr(mask, name) for name in ("start", "stop", "key_length")}
    return replace(mask, **{name: None if x is None else x[:rows] for name, x in parts.items()})


def right_answers(given: list[Tensor], mask: AttentionMask) -> list[Tensor]:
    """Outputs and gradients of the first two rows, in float64."""
    q, k, v, by_out = (x[:2].detach().double() for x in given)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    out, _ = attention_reference(*inputs, first_rows(mask, 2))
    return [out.detach(), *torch.autograd.grad(out, inputs, by_out)]


def measure(
    prepare: Callable[[], Attend], sets: list[list[Tensor]], right: list[Tensor] | None, shape: Shape, device: str
) -> Record:
    """Errors, times and memory of one contender; raises what it raises forward."""
    attend = prepare()
    leaves = [[x.detach().requires_grad_() for x in given[:3]] for given in sets]

    def forward(given: list[Tensor]) -> Tensor:
        with torch.no_grad():
            return attend(*given)

    def both(inputs: list[Tensor], by_out: Tensor) -> tuple[Tensor, ...]:
        out = attend(*inputs)
        return (out, *torch.autograd.grad(out, inputs, by_out))

    record: Record = {}
    if right is not None:
        record["error"] = error(forward(sets[0][:3])[:2], right[0])
    forward_us, record["how"] = timed([partial(forward, given[:3]) for given in sets], device)
    record |= {"forward_us": forward_us, "forward_gb_s": shape.moved(False) / forward_us / 1e3}
    steps = [partial(both, inputs, given[3]) for inputs, given in zip(leaves, sets, strict=True)]

    def backward() -> Record:
        found = steps[0]()
        worst = max(error(x[:2], y) for x, y in zip(found[1:], right[1:], strict=True)) if right else None
        del found
        size = peak(steps[0], device)
        total_us, how = timed(steps, device)
        return {"gradient_error": worst, "peak_bytes": size, "total_us": total_us, "how_backward": how,
                "backward_us": max(total_us - forward_us, 0.0)}  # fmt: skip

    told = guarded(backward, math.inf)
    record |= {"backward_problem" if name == "problem" else name: value for name, value in told.items()}
    record["wrong"] = max(record.get("error") or 0.0, record.get("gradient_error") or 0.0) > WRONG
    return record


def peak(call: Any, device: str) -> int | None:
    """Bytes that a call takes at most, besides what was there."""
    if device == "cpu":
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    kept = call()
    torch.cuda.synchronize()
    del kept
    return torch.cuda.max_memory_allocated() - before


def attention_records(options: argparse.Namespace, deadline: float) -> Iterator[Record]:
    """All shapes with those that need no compiler, then all with FlexAttention, as long as there is time."""
    for compiling in (False, True):
        for name in options.shapes:
            if name not in SHAPES:
                continue
            shape = SHAPES[name].tiny() if options.dry else SHAPES[name]
            torch.manual_seed(0)
            mask = shape.mask(options.device)
            sets = buffers(shape, options.device, options.dtype)
            right = right_answers(sets[0], mask)
            for contender, prepare in contenders(shape, mask, options.device):
                if contender.startswith("Flex") == compiling:
                    same = "anew" not in contender and "ignored" not in contender
                    record: Record = {"shape": name, "contender": contender, "floors_us": shape.floors}
                    work = partial(measure, prepare, sets, right if same else None, shape, options.device)
                    record |= guarded(work, deadline)
                    yield record | {"moved": [shape.moved(False), shape.moved(True)]}


def guarded(work: Any, deadline: float) -> Record:
    """What the work found, or what it failed with in words."""
    if time.monotonic() > deadline:
        return {"problem": "left out: no time was left (--minutes)"}
    try:
        return dict(work())
    except Exception as problem:  # no contender may take the others with it
        return {"problem": f"{type(problem).__name__}: {problem}".strip().splitlines()[0][:300]}


def decode_records(options: argparse.Namespace, deadline: float) -> Iterator[Record]:
    """S8: one step per layer."""
    for name in options.shapes:
        if name in DECODES:
            shape: Decode = DECODES[name].tiny() if options.dry else DECODES[name]
            for contender, prepare in decoders(shape, options.device, options.dtype):
                record: Record = {"shape": name, "contender": contender, "floors_us": [shape.floor]}
                work = partial(measure_decode, prepare, shape, options.device)
                yield record | {"moved": [shape.moved()]} | guarded(work, deadline)


@torch.no_grad()
def measure_decode(prepare: Callable[[], list[Callable[[], Tensor]]], shape: Decode, device: str) -> Record:
    """Time per layer."""
    found, how = timed(prepare(), device)
    return {"forward_us": found, "how": how, "forward_gb_s": shape.moved() / found / 1e3}


def steady_record(options: argparse.Namespace, deadline: float) -> Record:
    """Goal 8: many updates with boundaries drawn anew, where waiting for the GPU is an error and compiling counted."""

    def work() -> Record:
        from rlkit.attention import kernels

        shape = SHAPES["S2"].tiny() if options.dry else SHAPES["S2"]
        attend = own(shape, None, options.device)
        *inputs, by_out = buffers(shape, options.device, options.dtype)[0]
        inputs = [x.detach().requires_grad_() for x in inputs]
        torch.autograd.grad(attend(*inputs), inputs, by_out)
        kernel = {"_forward", "_by_queries", "_by_keys"}
        before = compiled(kernels, kernel)
        if options.device != "cpu":
            torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(2 if options.dry else UPDATES):
                torch.autograd.grad(attend(*inputs), inputs, by_out)
        finally:
            if options.device != "cpu":
                torch.cuda.set_sync_debug_mode("default")
        return {"updates": UPDATES, "compiled": compiled(kernels, kernel) - before}

    return {"shape": "steady", "contender": "own"} | guarded(work, deadline)


def compiled(module: Any, names: set[str]) -> int:
    """How many variants of these kernels there are; none in the interpreter."""
    if module.INTERPRETED:
        return 0
    return sum(len(caches[0]) for name in names for caches in vars(module)[name].device_caches.values())


def policy_record(options: argparse.Namespace, deadline: float) -> Record:
    """Goal 6, whole policy steps: to be measured here when `rlkit.attention.layers` steps with `decode_step`."""
    problem = "not measured: rlkit.attention.layers does not use decode_step yet"
    return {"shape": "policy", "contender": "own", "problem": problem}


def sweep_records(options: argparse.Namespace, deadline: float) -> Iterator[Record]:
    """Our kernels by tile; the tables in `rlkit/attention/kernels.py` are to hold the fastest."""
    for name in options.shapes:
        if name in SHAPES:
            shape = SHAPES[name].tiny() if options.dry else SHAPES[name]
            mask = shape.mask(options.device)
            sets = buffers(shape, options.device, options.dtype)
            right = right_answers(sets[0], mask)
            for rows, columns in TILES[:2] if options.dry else TILES:
                for warps, stages in ((1, 2),) if options.dry else ((1, 2), (2, 2), (4, 2), (4, 3), (8, 2)):
                    tile = (rows, columns, warps, stages)
                    if warps * 512 <= rows * columns <= warps * 4096:
                        record: Record = {"shape": name, "contender": f"own {tile}", "floors_us": shape.floors}
                        record |= {"moved": [shape.moved(False), shape.moved(True)]}
                        prepare = partial(own, shape, mask, options.device, tile)
                        yield record | guarded(partial(measure, prepare, sets, right, shape, options.device), deadline)


def copy_bandwidth(device: str) -> float | None:
    """GB/s of a copy on the device, bytes read and written."""
    if device == "cpu":
        return None
    source = torch.randn(1 << 28, device=device)
    target = torch.empty_like(source)
    microseconds, _ = timed([lambda: target.copy_(source)], device)
    return 2 * source.numel() * 4 / microseconds / 1e3


def circumstances(options: argparse.Namespace) -> Record:
    """Machine, GPU, versions and command."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    try:
        import triton

        of_triton = triton.__version__
    except ImportError:
        of_triton = None
    return {
        "gpu": torch.cuda.get_device_name() if options.device != "cpu" else None,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(), "triton": of_triton,
        },
        "copy_gb_s": copy_bandwidth(options.device),
        "code": commit.stdout.strip(),
        "dry": options.dry,
        "command": shlex.join(["python", *sys.argv]),
        "finished": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["run", "sweep", "table"], default="run")
    parser.add_argument("--dry", action="store_true", help="tiny, on the CPU; results are not kept unless --results")
    parser.add_argument("--shapes", nargs="+", choices=[*SHAPES, *DECODES], default=[*SHAPES, *DECODES])
    parser.add_argument("--minutes", type=float, default=8.5, help="after which contenders are left out")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args(arguments)
    options.device = "cpu" if options.dry else "cuda"
    options.dtype = torch.float32 if options.dry else torch.bfloat16
    if options.results is None and not options.dry:
        options.results = RESULTS / "sweep" if options.command == "sweep" else RESULTS
    return options


def run(options: argparse.Namespace) -> Record:
    """Measure; each record is printed and kept at once, so that what is stopped has lost one."""
    deadline = time.monotonic() + 60 * options.minutes
    about = circumstances(options)
    kept = loaded(options.results)
    if any(kept["about"][name] != about[name] for name in ("gpu", "versions", "dry")) if kept else True:
        kept = {"records": []}  # of another machine, or none
    kept["about"] = about
    if options.command == "sweep":
        work: list[Iterator[Record]] = [sweep_records(options, deadline)]
    else:
        work = [decode_records(options, deadline), iter([steady_record(options, deadline)]),
                iter([policy_record(options, deadline)]), attention_records(options, deadline)]  # fmt: skip
    for record in (record for part in work for record in part):
        same = [(old["shape"], old["contender"]) == (record["shape"], record["contender"]) for old in kept["records"]]
        kept["records"] = [old for old, is_same in zip(kept["records"], same, strict=True) if not is_same] + [record]
        times = [f"{record[field]:.1f} µs" for field in ("forward_us", "backward_us") if field in record]
        problems = [record[field] for field in ("problem", "backward_problem") if field in record]
        print(record["shape"], record["contender"], *times, *problems, sep="  ", flush=True)
        if options.results:
            options.results.mkdir(parents=True, exist_ok=True)
            (options.results / "results.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return kept


def loaded(results: Path | None) -> Record:
    """Earlier records, to which a run on the same GPU and versions adds."""
    if results is None or not (results / "results.json").exists():
        return {}
    return dict(json.loads((results / "results.json").read_text(encoding="utf-8")))


def main() -> int:
    """Measure, and print the table."""
    options = parsed()
    if options.command != "table" and options.device == "cuda" and not torch.cuda.is_available():
        print("attention_gpu.py measures on an NVIDIA GPU, and torch sees no CUDA device here", file=sys.stderr)
        return 1
    kept = loaded(options.results) if options.command == "table" else run(options)
    if not kept:
        print(f"{options.results} holds no results", file=sys.stderr)
        return 1
    text = table(kept["records"], kept["about"])
    if options.results:
        (options.results / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
