"""Style words: learned vectors S in "a S style of a [class]", and what makes a good one.

PromptStyler (Cho et al., ICCV 2023, section 3). A style word should lead to sentences unlike those of the
styles before it (`style_loss`), while a class said in that style is still told from the other classes
(`content_loss`). Three kinds of sentences are compared in the embedding space of a frozen text tower::

    style            "a S style of a"
    content          "[class]"
    style-content    "a S style of a [class]"
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zeroflaw.detectors.learned import Encoder, Tower, assemble, embed_pieces
from zeroflaw.words.articles import Articles, fill

BEFORE_STYLE = "a"
AFTER_STYLE = "style of a"


class StylePrompts:
    """The sentences around a style word of ``length`` vectors, for N contents in words, ready to take one.

    All sentences begin alike, so the style stands in the same place in each, and one pass through the tower
    embeds them all; what is padded behind the end of the shorter ones is never looked at.

    Attributes:
        texts: the sentences; the first is without content.
        contents: embeddings of the contents alone, normalised float32 (N, E) on the CPU.
    """

    def __init__(
        self,
        tower: Tower,
        tokenizer: Encoder,
        contents: Sequence[str],
        *,
        length: int = 1,
        articles: Articles = "literal",
    ) -> None:
        self._tower = tower
        ends = [AFTER_STYLE, *(fill(f"{AFTER_STYLE} {{}}", content, articles) for content in contents)]
        self.texts = [f"{BEFORE_STYLE} S {end}" for end in ends]
        blank = tower.token_embedding.weight.new_zeros(length, tower.token_embedding.weight.shape[1])
        rows = [assemble(tower, tokenizer, [BEFORE_STYLE, blank, end]) for end in ends]
        longest = max(vectors.shape[1] for vectors, _ in rows)
        self._frame = torch.cat([F.pad(v, (0, 0, 0, longest - v.shape[1])) for v, _ in rows])  # (1 + N, T, C)
        self._ends = torch.cat([end for _, end in rows])
        self._place = int(assemble(tower, tokenizer, [BEFORE_STYLE])[1])  # where the end would stand
        with torch.no_grad():
            plain = [embed_pieces(tower, tokenizer, [content]) for content in contents]
        self.contents = torch.cat(plain).cpu()

    def embed(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """Embed the style prompt, (E,), and the style-content prompts, (N, E), of one style (M, C).

        Both are normalised float32 on the CPU, and gradients flow back to the style.
        """
        start, stop = self._place, self._place + len(style)
        put = style.to(self._frame).expand(len(self._frame), *style.shape)
        vectors = torch.cat([self._frame[:, :start], put, self._frame[:, stop:]], 1)
        found = self._tower.from_vectors(vectors, self._ends).cpu()
        return found[0], found[1:]


def style_loss(style: Tensor, earlier: Tensor) -> Tensor:
    """How much a style says what earlier ones said: the mean of |cos|, 0 for the first (equation 1).

    Args:
        style: embedding of the style prompt, normalised (E,).
        earlier: those of the earlier styles, normalised (J, E).
    """
    if len(earlier) == 0:
        return style.new_zeros(())
    return (earlier @ style).abs().mean()


def content_loss(styled: Tensor, contents: Tensor, temperature: float = 1.0) -> Tensor:
    """How far a style blurs what is said in it: cross entropy over cosines (equations 2 and 3).

    Row m of ``styled`` should be closer to content m than to the others.

    Args:
        styled, contents: of style-content prompts and of contents alone, normalised (N, E).
        temperature: what cosines are divided by; the paper's softmax has none, which is 1.
    """
    return F.cross_entropy(styled @ contents.T / temperature, torch.arange(len(contents)))


def mean_overlap(styles: Tensor) -> float:
    """Mean |cos| between the style prompts (K, E) of different styles; 0 for one style."""
    count = len(styles)
    if count < 2:
        return 0.0
    cosines = (styles @ styles.T).abs()
    return float((cosines.sum() - cosines.diagonal().sum()) / (count * (count - 1)))


def contents_kept(styled: Tensor, contents: Tensor) -> float:
    """Return the share of style-content prompts (K, N, E) that lie closest to their own content (N, E)."""
    nearest = (styled @ contents.T).argmax(-1)
    return float((nearest == torch.arange(len(contents))).float().mean())
