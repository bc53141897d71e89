"""Learned words: vectors in the place of word embeddings, between words that are written out.

A learned word lives in the input space of a frozen text tower (PromptStyler, ICCV 2023; AnomalyCLIP, ICLR
2024). A prompt is put together from pieces: texts, and tensors of learned words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from zeroflaw.errors import WordsError


class Encoder(Protocol):
    """What is needed of a tokenizer."""

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids (B, T) with start and end tokens, and the positions of the ends (B,)."""


class Tower(Protocol):
    """What is needed of a text tower."""

    token_embedding: nn.Embedding
    positions: nn.Parameter

    def from_vectors(self, vectors: Tensor, ends: Tensor) -> Tensor:
        """Embed word vectors (B, T, C): normalised (B, E)."""


def random_vectors(count: int, length: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw learned words before any learning, N(0, 0.02^2) as in the papers: (count, length, width)."""
    return 0.02 * torch.randn(count, length, width, generator=generator)


def assemble(tower: Tower, tokenizer: Encoder, pieces: Sequence[str | Tensor]) -> tuple[Tensor, Tensor]:
    """Put prompts together, word by word, between the start and the end token.

    Args:
        tower: whose word embeddings are taken for texts.
        tokenizer: of that tower.
        pieces: texts, the same in every prompt, and learned words (B, M, C), or (M, C) for the same ones in
            every prompt.

    Returns:
        Word vectors (B, T, C), through which gradients flow back to the learned words, and the position of
        the end token in each row (B,); B is 1 where no piece has a batch.

    Raises:
        WordsError: the prompt is longer than the tower's context.
    """
    rows = max([1, *(len(piece) for piece in pieces if isinstance(piece, Tensor) and piece.ndim == 3)])
    table = tower.token_embedding.weight
    bare, end = tokenizer.encode([""])
    start, stop = bare[0, 0], bare[0, int(end[0])]
    inner = [
        _words(table, tokenizer, piece) if isinstance(piece, str) else piece.to(table) for piece in pieces
    ]
    parts = [table[start.to(table.device)][None], *inner, table[stop.to(table.device)][None]]
    vectors = torch.cat([part.expand(rows, *part.shape[-2:]) for part in parts], 1)
    require_room(tower, vectors)
    return vectors, torch.full((rows,), vectors.shape[1] - 1, device=vectors.device)


def require_room(tower: Tower, vectors: Tensor) -> None:
    """Refuse prompts (B, T, C) that are longer than the tower's context.

    Raises:
        WordsError: with both lengths.
    """
    length, context = vectors.shape[1], len(tower.positions)
    if length > context:
        raise WordsError(
            f"a prompt may have {context} tokens, learned words included, but this one has {length}; use "
            "fewer or shorter words"
        )


def _words(table: Tensor, tokenizer: Encoder, text: str) -> Tensor:
    """Return the word embeddings of a text without start and end, (M, C)."""
    ids, ends = tokenizer.encode([text])
    return table[ids[0, 1 : int(ends[0])].to(table.device)]


def embed_pieces(tower: Tower, tokenizer: Encoder, pieces: Sequence[str | Tensor]) -> Tensor:
    """Embed prompts made of pieces (see `assemble`): normalised float32 (B, E), with gradients."""
    return tower.from_vectors(*assemble(tower, tokenizer, pieces))
