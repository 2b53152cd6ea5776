"""The network of the decision transformer (Chen et al. 2021, https://arxiv.org/abs/2106.01345, figure 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlkit.attention.layers import Block
from rlkit.attention.mask import AttentionMask
from rlkit.nn.cores import initialise_transformer


class DecisionTransformer(nn.Module):
    """What to do at every step of a window, from what return is still asked for and what was seen and done so far.

    A step is three tokens, (return-to-go, observation, action), each with the learned embedding of the step's number in
    the episode. A token sees itself and those before it, so what the network gives at a step depends neither on that
    step's action nor on anything later.

    Args:
        observation_size: Numbers of an observation.
        action_size: Numbers of an action, as the network is told of it.
        outputs: Numbers that it gives for each step.
        width: Of the tokens.
        layers: Number of blocks.
        heads: Of each block.
        max_timesteps: Number of steps with an embedding of their own; later ones share the last.
        generator: Source of the first weights, see `initialise_transformer`; embeddings of steps with deviation 0.02.
    """

    def __init__(
        self, observation_size: int, action_size: int, outputs: int, *, width: int, layers: int, heads: int,
        max_timesteps: int, generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed_return = nn.Linear(1, width)
        self.embed_observation = nn.Linear(observation_size, width)
        self.embed_action = nn.Linear(action_size, width)
        self.embed_step = nn.Parameter(torch.empty(max_timesteps, width))
        self.token_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        embeddings = (self.embed_return, self.embed_observation, self.embed_action)
        initialise_transformer(self, layers, embeddings, generator)
        nn.init.normal_(self.embed_step, std=0.02, generator=generator)

    def forward(self, to_go: Tensor, observations: Tensor, actions: Tensor, first_step: Tensor) -> Tensor:
        """Outputs [B, T, outputs] for the actions of T steps.

        Args:
            to_go: Returns still to be got at each step, [B, T].
            observations: What was seen, [B, T, O].
            actions: What was done, [B, T, A]; any number where it is not known yet.
            first_step: Number of each window's first step in its episode, integer [B].
        """
        rows, steps = to_go.shape
        number = first_step[:, None] + torch.arange(steps, device=to_go.device)
        when = self.embed_step[number.clamp(max=len(self.embed_step) - 1)]
        parts = (
            self.embed_return(to_go[..., None]),
            self.embed_observation(observations),
            self.embed_action(actions),
        )
        tokens = torch.stack([part + when for part in parts], 2).view(rows, 3 * steps, -1)
        tokens = self.token_norm(tokens)
        mask = AttentionMask(causal=True)
        for block in self.blocks:
            tokens = block(tokens, mask)
        outputs: Tensor = self.head(self.norm(tokens[:, 1::3]))
        return outputs
