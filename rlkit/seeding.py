"""Random streams: every generator is spawned from the run's seed by name, and every state can be stored."""

from __future__ import annotations

import random
import sys
import zlib
from typing import TYPE_CHECKING

import numpy as np

from rlkit.errors import CheckpointError
from rlkit.types import State

if TYPE_CHECKING:
    import torch


def child_seed(seed: int, stream: str) -> np.random.SeedSequence:
    """Seed of the stream named `stream`; independent of which other streams exist and of their order."""
    return np.random.SeedSequence(entropy=seed, spawn_key=(zlib.crc32(stream.encode()),))


def generator(seed: int, stream: str) -> np.random.Generator:
    """A numpy generator (PCG64) for one stream of a run."""
    return np.random.Generator(np.random.PCG64(child_seed(seed, stream)))


def integer_seed(seed: int, stream: str) -> int:
    """A 31-bit seed for libraries that take an int."""
    return int(child_seed(seed, stream).generate_state(1)[0] >> 1)


def row_seed(seed: int, index: int, generation: int = 0) -> int:
    """Seed of row `index`: independent between rows, the same however the rows are spread over processes.

    `generation` counts env steps before a restart of lost episodes, so that a resumed run meets new ones.
    """
    entropy = [seed, index] if generation == 0 else [seed, index, generation]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def torch_generator(seed: int, stream: str) -> torch.Generator:
    """A torch CPU generator for one stream of a run."""
    import torch

    return torch.Generator().manual_seed(integer_seed(seed, stream))


def seed_global_generators(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (where imported); only foreign code draws from them."""
    random.seed(seed)
    np.random.seed(integer_seed(seed, "numpy-global"))
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def global_generators_state() -> State:
    """States of the global generators, because libraries draw from them."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state: State = {
        "python": random.getstate(),
        "numpy": {"keys": keys, "position": position, "has_gauss": has_gauss, "gauss": gauss},
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        state["torch"] = torch.get_rng_state()
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def load_global_generators_state(state: State) -> None:
    """Restore `global_generators_state`. Raises CheckpointError for a numpy position that would read out of bounds."""
    random.setstate(state["python"])
    legacy = state["numpy"]
    if not 0 <= legacy["position"] <= 624 or legacy["keys"].shape != (624,):
        raise CheckpointError(f"damaged generator state: position {legacy['position']} is outside 0..624")
    np.random.set_state(("MT19937", legacy["keys"], legacy["position"], legacy["has_gauss"], legacy["gauss"]))
    if "torch" in state:
        import torch

        torch.set_rng_state(state["torch"])
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
