"""Learned words: vectors in the place of word embeddings, between words that are written out.

A learned word lives in the input space of a frozen text tower (PromptStyler, ICCV 2023; AnomalyCLIP, ICLR
2024). A prompt is put together from pieces: texts, and tensors of learned words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zeroflaw.errors import WordsError
from zeroflaw.towers.model import TextTower
from zeroflaw.towers.tokenizer import Tokenizer

Piece = str | Tensor | Sequence[str]


def random_vectors(count: int, length: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw learned words before any learning, N(0, 0.02^2) as in the papers: (count, length, width)."""
    return 0.02 * torch.randn(count, length, width, generator=generator)


def word_vectors(tower: TextTower, tokenizer: Tokenizer, text: str) -> Tensor:
    """Return the word embeddings of a text without start and end, (M, C)."""
    ids, ends = tokenizer.encode([text])
    return tower.token_embedding.weight[ids[0, 1 : int(ends[0])].to(tower.token_embedding.weight.device)]


def assemble(tower: TextTower, tokenizer: Tokenizer, pieces: Sequence[Piece]) -> tuple[Tensor, Tensor]:
    """Put prompts together, word by word, between the start and the end token.

    Args:
        tower: whose word embeddings are taken for texts.
        tokenizer: of that tower.
        pieces: texts, the same in every prompt; learned words (B, M, C), or (M, C) for the same ones in every
            prompt; and as the last piece perhaps a list of B texts, one for each prompt, of which shorter
            ones are padded behind the end, where no tower looks.

    Returns:
        Word vectors (B, T, C), through which gradients flow back to the learned words, and the position of
        the end token in each row (B,); B is 1 where no piece has a batch.

    Raises:
        WordsError: a prompt is longer than the tower's context.
    """
    table = tower.token_embedding.weight
    several = not isinstance(pieces[-1], str | Tensor)
    ids, ends = tokenizer.encode(pieces[-1] if several else [""])  # type: ignore[arg-type]
    whole = table[ids.to(table.device)]  # start, words, end
    parts = [whole[:1, :1]]
    for piece in pieces[:-1] if several else pieces:
        vectors = piece if isinstance(piece, Tensor) else word_vectors(tower, tokenizer, str(piece))
        parts.append(vectors.to(table).expand(vectors.shape[0] if vectors.ndim == 3 else 1, -1, -1))
    parts.append(whole[:, 1:])
    rows, before = max(map(len, parts)), sum(part.shape[1] for part in parts[:-1])
    length, context = before + int(ends.max()), len(tower.positions)
    if length > context:
        raise WordsError(
            f"a prompt may have {context} tokens, learned words included, but this one has {length}; use "
            "fewer or shorter words"
        )
    joined = torch.cat([part.expand(rows, -1, -1) for part in parts], 1)
    return joined, (ends + before - 1).expand(rows).to(table.device)


def embed_pieces(
    tower: TextTower, tokenizer: Tokenizer, pieces: Sequence[Piece], deep: Sequence[Tensor] = ()
) -> Tensor:
    """Embed prompts made of pieces (see `assemble`): normalised float32 (B, E), with gradients.

    ``deep`` tokens are those of `zeroflaw.towers.model.TextTower.from_vectors`.
    """
    return tower.from_vectors(*assemble(tower, tokenizer, pieces), deep)
