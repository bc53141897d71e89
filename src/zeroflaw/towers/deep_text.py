"""Learned tokens inside the text tower, not only before it ("deep" prompts).

AnomalyCLIP (Zhou et al., ICLR 2024, section 3.1): before each of the text blocks 2, 3, ... the states of the
first words after the start token are thrown away and learned ones put in their place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zeroflaw.errors import UsageError
from zeroflaw.towers.model import TextTower


def embed_deep(tower: TextTower, vectors: Tensor, ends: Tensor, deep: Sequence[Tensor]) -> Tensor:
    """Embed word vectors with learned tokens inside; gradients flow back to both.

    Args:
        tower: frozen or not.
        vectors: word vectors with start and end tokens, (B, T, C), without positions; padding after the end
            is never looked at.
        ends: position of the end token in each row, (B,).
        deep: learned tokens (N, C) for the blocks 2, 3, ..., the same ones in every prompt; they take the
            positions 1 to N.

    Returns:
        Normalised embeddings, (B, E).

    Raises:
        UsageError: there are more sets than blocks after the first, or a set reaches a prompt's end.
    """
    blocks = list(tower.blocks)
    _check(len(blocks), int(ends.min()), deep)
    x = vectors + tower.positions[: vectors.shape[1]]
    places = torch.arange(x.shape[1], device=x.device)
    causal, until_end = places <= places[:, None], places <= ends[:, None]  # (T, T), (B, T)
    for number, block in enumerate(blocks):
        if 1 <= number <= len(deep):
            x = _overwritten(x, deep[number - 1])
        if number < len(blocks) - 1:
            x = block(x, mask=causal)
    return tower.project(blocks[-1](x, mask=until_end[:, None, None], only=ends)[:, 0])


def _overwritten(x: Tensor, tokens: Tensor) -> Tensor:
    """Put tokens (N, C) in the place of the states 1 to N of x, (B, T, C)."""
    spread = tokens.to(x).expand(len(x), -1, -1)
    return torch.cat([x[:, :1], spread, x[:, 1 + len(tokens) :]], 1)


def _check(blocks: int, shortest: int, deep: Sequence[Tensor]) -> None:
    if len(deep) > blocks - 1:
        raise UsageError(
            f"a text tower of {blocks} blocks takes at most {blocks - 1} sets of deep tokens, got "
            f"{len(deep)}; use a smaller depth"
        )
    if any(len(tokens) >= shortest for tokens in deep):
        raise UsageError(
            f"deep tokens must leave the end token of the shortest prompt at position {shortest}, got "
            f"{max(map(len, deep))}; use fewer tokens, or longer prompts"
        )
