"""Keys and values of the steps so far, so that a policy acts without computing them again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlkit.attention.mask import AttentionMask


class Place(NamedTuple):
    """Where the running step is written, and what it sees: the same in every layer."""

    slot: Tensor  # int64 [B, K, 1, D]
    mask: AttentionMask


class KVCache(NamedTuple):
    """Keys and values of the last `capacity` steps of each row, of every layer: a ring.

    Step p of an episode stands in slot p % capacity, its key already rotated, so that the order of slots does not
    matter. An episode begins at slot 0 by setting its position to 0: nothing is erased, and what is valid is always the
    first min(p + 1, capacity) slots. Memory is changed in place, positions are not: the same cache and step give the
    same result again, as long as no later step has been taken.

    Attributes:
        keys: [layers, B, K, capacity, D].
        values: [layers, B, K, capacity, D].
        position: Steps of the running episode so far, int32 [B].
        version: Of the weights that the keys were made with.
        place: Of the running step, as `placed` works it out for all layers; None: each layer does.
    """

    keys: Tensor
    values: Tensor
    position: Tensor
    version: int
    place: Place | None = None

    @classmethod
    def empty(
        cls, layers: int, rows: int, kv_heads: int, capacity: int, head_size: int, *, version: int = 0,
        dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    ) -> KVCache:  # fmt: skip
        """Nothing remembered."""
        keys = torch.zeros(layers, rows, kv_heads, capacity, head_size, dtype=dtype, device=device)
        return cls(keys, torch.zeros_like(keys), torch.zeros(rows, dtype=torch.int32, device=device), version)

    @property
    def capacity(self) -> int:
        """Steps that a row holds."""
        return self.keys.shape[3]

    def reset(self, ended: Tensor) -> KVCache:
        """Rows [B] whose episode ended begin anew; no host sync."""
        return self._replace(position=torch.where(ended, 0, self.position), place=None)

    def placed(self) -> KVCache:
        """With the place of the running step, before its layers append."""
        return self._replace(place=self._running_place())

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, AttentionMask]:
        """Write the running step's key and value [B, K, 1, D].

        Returns:
            All keys and values of that layer, [B, K, capacity, D], and the mask of those that are there.
        """
        place = self._running_place() if self.place is None else self.place
        keys, values = self.keys[layer], self.values[layer]
        keys.scatter_(2, place.slot, key)
        values.scatter_(2, place.slot, value)
        return keys, values, place.mask

    def advanced(self) -> KVCache:
        """After every layer has appended: on to the next step."""
        return self._replace(position=self.position + 1, place=None)

    def _running_place(self) -> Place:
        _, rows, kv_heads, capacity, size = self.keys.shape
        slot = (self.position % capacity).long()[:, None, None, None].expand(rows, kv_heads, 1, size)
        # a full ring hides nothing; asking a GPU would make it wait
        is_full = self.position.is_cpu and bool((self.position >= capacity - 1).all())
        mask = AttentionMask() if is_full else AttentionMask(key_length=(self.position + 1).clamp(max=capacity))
        return Place(slot, mask)
