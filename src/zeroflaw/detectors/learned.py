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


def random_vectors(count: int, length: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw learned words before any learning, N(0, 0.02^2) as in the papers: (count, length, width)."""
    return 0.02 * torch.randn(count, length, width, generator=generator)


def word_vectors(tower: TextTower, tokenizer: Tokenizer, text: str) -> Tensor:
    """Return the word embeddings of a text without start and end, (M, C)."""
    ids, ends = tokenizer.encode([text])
    return tower.token_embedding.weight[ids[0, 1 : int(ends[0])].to(tower.token_embedding.weight.device)]


def assemble(
    tower: TextTower, tokenizer: Tokenizer, pieces: Sequence[str | Tensor], endings: Sequence[str] = ("",)
) -> tuple[Tensor, Tensor]:
    """Put prompts together, word by word, between the start and the end token.

    Args:
        tower: whose word embeddings are taken for texts.
        tokenizer: of that tower.
        pieces: texts, the same in every prompt, and learned words: (B, M, C), or (M, C) for the same ones in
            every prompt.
        endings: texts after the pieces, one for each prompt or one for all; prompts with shorter ones are
            padded behind the end, where no tower looks.

    Returns:
        Word vectors (B, T, C), through which gradients flow back to the learned words, and the position of
        the end token in each row (B,); B is 1 where nothing has a batch.

    Raises:
        WordsError: a prompt is longer than the tower's context.
    """
    table = tower.token_embedding.weight
    ids, ends = tokenizer.encode(endings)
    whole = table[ids.to(table.device)]  # start, words, end
    inner = [word_vectors(tower, tokenizer, p) if isinstance(p, str) else p.to(table) for p in pieces]
    parts = [whole[:1, :1], *(part if part.ndim == 3 else part[None] for part in inner), whole[:, 1:]]
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
    tower: TextTower,
    tokenizer: Tokenizer,
    pieces: Sequence[str | Tensor],
    endings: Sequence[str] = ("",),
    deep: Sequence[Tensor] = (),
) -> Tensor:
    """Embed prompts made of pieces and endings (see `assemble`): normalised float32 (B, E), with gradients.

    ``deep`` tokens are those of `zeroflaw.towers.model.TextTower.from_vectors`.
    """
    return tower.from_vectors(*assemble(tower, tokenizer, pieces, endings), deep)
