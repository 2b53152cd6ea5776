"""Compiles each kernel as it would be launched on an H100, which needs no GPU, and prints what it takes.

    python tests/attention/hopper.py

One JSON object a line: kernel, dtype, head size, queries, and by thread or program registers, stack and shared memory
in bytes. A stack means that registers did not suffice. Not to be run in Triton's interpreter.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from rlkit.attention import decode, kernels

H100 = GPUTarget("cuda", 90, 32)
TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.int32: "*i32"}
DISASSEMBLER = next(Path(triton.__file__).parent.rglob("cuobjdump"))


class Launched:
    """Stands for a kernel: compiles it for the arguments it is launched with, and keeps what that takes."""

    taken: list[dict[str, Any]] = []  # noqa: RUF012 - of all kernels

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Launched:
        return self

    def __call__(self, *given: Any, num_warps: int, num_stages: int, **named: Any) -> None:
        values = dict(zip(self.kernel.arg_names, given, strict=False)) | named
        constants: dict[tuple[int, ...], Any] = {}
        attributes: dict[tuple[int, ...], Any] = {}

        def described(value: Any, path: tuple[int, ...], fixed: bool) -> Any:
            """The argument's type, as Triton itself would see it at a launch."""
            if isinstance(value, tuple):
                return tuple(described(item, (*path, place), fixed) for place, item in enumerate(value))
            if fixed or value is None or (isinstance(value, int) and value == 1):
                constants[path] = value
                return "constexpr"
            if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0):
                attributes[path] = [["tt.divisibility", 16]]
            return TYPES[value.dtype] if isinstance(value, Tensor) else "fp32" if isinstance(value, float) else "i32"

        signature = {
            parameter.name: described(values[parameter.name], (place,), parameter.is_constexpr)
            for place, parameter in enumerate(self.kernel.params)
        }
        source = ASTSource(self.kernel, signature, constants, attributes)
        binary = triton.compile(source, target=H100, options={"num_warps": num_warps, "num_stages": num_stages})
        self.taken.append(
            {"kernel": self.kernel.fn.__name__, "shared": binary.metadata.shared, **resources(binary.asm["cubin"])}
        )


def resources(code: bytes) -> dict[str, int]:
    """Registers and bytes of stack of each thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        told = subprocess.run([DISASSEMBLER, "-res-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", told.stdout)
    assert found, told.stdout
    return {"registers": int(found[1]), "stack": int(found[2])}


def launch(dtype: torch.dtype, size: int, queries: int) -> None:
    """Each kernel once, with the arguments that may be None where heads have size 64."""
    joint = torch.zeros(2, queries, 3, 2, size, dtype=dtype)
    q, k, v = (joint[:, :, part].transpose(1, 2) for part in range(3))
    bound = torch.zeros(2, queries, dtype=torch.int32)
    out, log_sum = kernels._interval_attention(q, k, v, bound, bound, 0.5)
    by_log_sum, angle = (log_sum, torch.zeros(2, size // 2)) if size == 64 else (None, None)
    kernels._interval_attention_backward(q, k, v, bound, bound, out, log_sum, out, by_log_sum, 0.5)
    token, cache = (x[:, :, 0] for x in (q, k, v)), (torch.zeros(2, 2, 64, size, dtype=dtype) for _ in range(2))
    decode._decode_step(*token, *cache, bound[:, 0], 0.5, angle, angle)


def main() -> None:
    """Compile, print."""
    for module, names in ((kernels, ("_forward", "_by_queries", "_by_keys")), (decode, ("_step",))):
        for name in names:
            setattr(module, name, Launched(vars(module)[name]))
    for dtype, size, queries in (
        (torch.bfloat16, 16, 90), (torch.bfloat16, 32, 128), (torch.bfloat16, 64, 16), (torch.bfloat16, 64, 512),
        (torch.bfloat16, 128, 65), (torch.float16, 64, 64), (torch.float32, 64, 128),
    ):  # fmt: skip
        Launched.taken.clear()
        launch(dtype, size, queries)
        for taken in Launched.taken:
            print(json.dumps(taken | {"dtype": str(dtype), "size": size, "queries": queries}), flush=True)


if __name__ == "__main__":
    main()
