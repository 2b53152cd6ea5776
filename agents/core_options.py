"""Options of an agent's core and of an encoder by attention, and what they name."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import gymnasium
import torch
from pydantic import Field

from rlkit.agents.observations import token_parts
from rlkit.config import AgentConfig
from rlkit.nn.attention_encoder import AttentionDesign
from rlkit.nn.cores import Core, Encoder, RecurrentCore, TransformerCore

CoreName: TypeAlias = Literal["none", "gru", "lstm", "transformer"]


class CoreOptions(AgentConfig):
    """What networks remember by."""

    core: CoreName = "none"
    """memory of what was seen before, which the networks then stand on"""
    core_width: int = Field(64, ge=1)
    """width of the core's state or tokens"""
    core_layers: int = Field(2, ge=1)
    """blocks of a transformer"""
    core_heads: int = Field(4, ge=1)
    """heads of each block, a divisor of the width"""
    core_context: int = Field(64, ge=1)
    """steps that each block sees, and inputs that are remembered for when the weights change"""
    core_gate: Literal["residual", "gru"] = "residual"
    """what joins a block's parts to the stream: a sum, or GTrXL's gate (Parisotto 2019)"""


class EncoderOptions(AgentConfig):
    """What an encoder by attention is like, where it is chosen."""

    encoder_width: int = Field(64, ge=1)
    """width of the tokens and features of the encoder attention"""
    encoder_layers: int = Field(2, ge=0)
    """its blocks"""
    encoder_heads: int = Field(4, ge=1)
    """heads of each block, a divisor of the width"""


def attention_of(config: EncoderOptions, space: gymnasium.Space[Any]) -> AttentionDesign:
    """The encoder by attention for flat observations of this space.

    Raises:
        UnsupportedTaskError: they have but one part.
    """
    return AttentionDesign(token_parts(space), config.encoder_width, config.encoder_layers, config.encoder_heads)


def core_of(config: CoreOptions, inputs: int, weights: torch.Generator, encoder: Encoder | None = None) -> Core:
    """The core that the options name, for features of so many numbers, which go through the encoder first."""
    if config.core == "transformer":
        return TransformerCore(
            inputs, config.core_width, layers=config.core_layers, heads=config.core_heads,
            context=config.core_context, gate=config.core_gate, generator=weights, encoder=encoder,
        )  # fmt: skip
    assert config.core != "none"
    return RecurrentCore(config.core, inputs, config.core_width, weights, encoder)
