"""Tokens that ask other tokens: the decoder of OadTR, the memories of LSTR and TeSTra.

Every part is normalised before and added after, as in the blocks of `rlkit/attention/layers.py`; the papers' layers
are normalised after (Vaswani et al. 2017), which needs a slow start of learning.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from rlkit.attention.attention import EVERYTHING
from rlkit.attention.layers import CrossAttention, SelfAttention
from rlkit.attention.mask import AttentionMask


class DecoderBlock(nn.Module):
    """Attention of tokens among themselves, then to a context, then a perceptron of one hidden layer.

    Args:
        width: Of the tokens and of the context.
        heads: Of either attention.
        expansion: Width of the perceptron's hidden layer in units of `width`.
    """

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.attention, self.cross = SelfAttention(width, heads), CrossAttention(width, width, heads)
        self.attention_norm, self.cross_norm, self.perceptron_norm = (nn.LayerNorm(width) for _ in range(3))
        self.widen, self.narrow = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)

    def forward(self, x: Tensor, context: Tensor, among: AttentionMask, to_context: AttentionMask) -> Tensor:
        """Tokens [N, T, width] after attention to the context [N, S, width]."""
        x = x + self.attention(self.attention_norm(x), among)
        x = x + self.cross(self.cross_norm(x), context, to_context)
        told: Tensor = x + self.narrow(functional.gelu(self.widen(self.perceptron_norm(x))))
        return told


class Decoder(nn.Module):
    """Blocks, one after the other, and a last norm. Arguments as of `DecoderBlock`, and the number of blocks."""

    def __init__(self, width: int, *, layers: int, heads: int, expansion: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DecoderBlock(width, heads, expansion) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, context: Tensor, among: AttentionMask = EVERYTHING, to_context: AttentionMask = EVERYTHING
    ) -> Tensor:
        """Tokens [N, T, width]; `among` says which of each other they see, `to_context` which of [N, S, width]."""
        for block in self.blocks:
            x = block(x, context, among, to_context)
        told: Tensor = self.norm(x)
        return told


def tokens_there(is_there: Tensor, queries: int, *, causal: bool = False) -> AttentionMask:
    """Hides keys that are missing at the beginning from all `queries` of their row.

    Args:
        is_there: bool [N, S], false up to some key and true from there on; further keys are there.
        queries: T, how many ask.
        causal: Whether the queries are the keys, and see none later than themselves.
    """
    if bool(is_there.all()):
        return AttentionMask(causal=causal)  # the usual case in a long stream, and the fastest
    missing = (~is_there).sum(1)
    return AttentionMask(causal=causal, start=missing[:, None].expand(-1, queries))
