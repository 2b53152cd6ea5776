"""Prioritised replay: transitions are drawn in proportion to how wrong their values were.

Schaul et al. 2016 (https://arxiv.org/abs/1511.05952), the proportional variant: P(i) = p_i / Σ p with p_i =
(|δ_i| + ε)^α (equation 1), draws from equal shares of the total, weights (N P(i))^-β divided by the batch's largest
(section 3.4), and the highest priority so far for what is new (algorithm 1).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rlkit.data.memory import check_budget, megabytes
from rlkit.data.replay import Batch
from rlkit.data.store import Indices, TransitionStore
from rlkit.data.sum_tree import Doubles, SumTree
from rlkit.errors import CheckpointError, NonFiniteError, UsageError
from rlkit.types import Floats, State, Transition

_SMALLEST_ERROR = 1e-6  # ε, which the paper leaves open: far below usual errors, so that every priority is positive


class PrioritizedReplay:
    """Draws from `store` by priority; implements `rlkit.data.replays.Replay`.

    Args:
        store: The transitions; hand them over through `add` of this class only.
        alpha: Exponent of the priorities, above 0; 1 is in proportion to the error (the paper: 0.6).

    Raises:
        MemoryBudgetError: transitions and priorities together would not fit when full.
    """

    def __init__(self, store: TransitionStore, *, alpha: float = 0.6) -> None:
        if alpha <= 0:
            raise UsageError(f"alpha is {alpha}, it must be above 0; draw uniformly instead (`make_replay`, alpha 0)")
        self._store = store
        self._alpha = alpha
        self._highest = 1.0  # highest priority so far; before any error is known, 1 (algorithm 1)
        needed = store.memory_bytes + SumTree.memory_bytes(store.capacity)
        check_budget(self.describe(), needed, "Choose a smaller buffer_size.")
        self._tree = SumTree(store.capacity)

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return len(self._store)

    def describe(self) -> str:
        """A sentence such as `replay: 1,000,000 transitions, 172 MB; priorities 8 MB`."""
        return f"{self._store.describe()}; priorities {megabytes(SumTree.memory_bytes(self._store.capacity))}"

    def add(self, step: Transition) -> None:
        """Append one step of all environments; what is new gets the highest priority so far."""
        self._store.add(step)
        gained, lost = self._store.last_change()
        if lost.size:
            self._tree.set(lost, 0.0)
        if gained.size:
            self._tree.set(gained, self._highest)

    def sample(self, batch_size: int, rng: np.random.Generator, beta: float = 1.0) -> Batch:
        """`batch_size` transitions by priority, one from each of as many equal shares of the total, with weights.

        `beta` is how much of the bias the weights correct: 0 nothing, 1 all of it.

        Raises:
            UsageError: nothing can be sampled yet.
        """
        if not len(self):
            raise UsageError("the replay holds no complete transition yet: add more before sampling")
        shares = (np.arange(batch_size) + rng.random(batch_size)) * (self._tree.total / batch_size)
        slots = self._tree.find(shares)
        return replace(self._store.gather(slots), weights=self._weights(slots, beta))

    def _weights(self, slots: Indices, beta: float) -> Floats:
        """(N P(i))^-β divided by the largest; N and the total are in every one of them, so they fall out."""
        priorities = self._tree.values[slots]
        weights: Doubles = (priorities.min() / priorities) ** beta
        return weights.astype(np.float32)

    def update(self, indices: Indices, errors: npt.ArrayLike) -> None:
        """Give the transitions `indices` [B] of the latest batch the priorities of their errors δ [B].

        Call it before the next `add`, which may put other transitions into these slots.

        Raises:
            NonFiniteError: an error is NaN or infinite.
        """
        magnitudes = np.abs(np.asarray(errors, dtype=np.float64))
        priorities: Doubles = (magnitudes + _SMALLEST_ERROR) ** self._alpha
        highest = float(priorities.max(initial=0.0))
        if not np.isfinite(highest):  # NaN too: it wins every maximum
            raise NonFiniteError(f"an error given to prioritised replay has the magnitude {magnitudes.max()}")
        self._highest = max(self._highest, highest)
        held = self._tree.values[indices] > 0  # zero: a slot that can no longer be sampled stays so
        self._tree.set(indices, np.where(held, priorities, 0.0))

    def stored(self) -> State:
        """For `training_state`: rows as an append-only log, priorities [rows held] in the order of their arrival."""
        store = self._store
        held = store.slots_of(store.oldest_held, store.total_added)
        return {"rows": store, "priorities": self._tree.values[held], "highest_priority": self._highest}

    def restore(self, state: State) -> None:
        """Take over what `stored` returned, also after it has been to a checkpoint."""
        if "priorities" not in state:
            raise CheckpointError("the stored replay was sampled uniformly: it holds no priorities to go on with")
        store = self._store
        store.restore(state["rows"])
        held = store.slots_of(store.oldest_held, store.total_added)
        if len(held) != len(state["priorities"]):
            raise CheckpointError(f"the stored replay has {len(state['priorities'])} priorities for {len(held)} slots")
        self._tree = SumTree(store.capacity)
        self._tree.set(held, state["priorities"])
        self._highest = state["highest_priority"]
