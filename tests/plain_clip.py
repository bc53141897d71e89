"""The arithmetic of a CLIP written out in NumPy and double precision, for one sequence of tokens (T, C)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import erf

from zeroflaw.towers.model import CLIP


def unit(x: np.ndarray) -> np.ndarray:
    """Scale rows to length one."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Plain:
    """Both towers of a model."""

    def __init__(self, model: CLIP) -> None:
        self.config = model.config
        self.weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        whitened = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return whitened * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def attention(self, block: str, x: np.ndarray, *, values_only: bool, causal: bool = False) -> np.ndarray:
        """What the attention of a block adds to x."""
        q, k, v = np.split(self.linear(f"{block}.attn.qkv", self.norm(f"{block}.ln_1", x)), 3, axis=1)
        if values_only:
            q, k = v, v
        mixed = []
        for a, b, c in zip(
            *(np.split(part, self.config.text.heads, axis=1) for part in (q, k, v)), strict=True
        ):
            odds = np.exp(a @ b.T / math.sqrt(a.shape[1]))
            odds = np.tril(odds) if causal else odds
            mixed.append(odds / odds.sum(1, keepdims=True) @ c)
        return self.linear(f"{block}.attn.out", np.concatenate(mixed, axis=1))

    def block(self, name: str, x: np.ndarray, *, causal: bool = False) -> np.ndarray:
        x = x + self.attention(name, x, values_only=False, causal=causal)
        hidden = self.linear(f"{name}.mlp.0", self.norm(f"{name}.ln_2", x))
        return x + self.linear(f"{name}.mlp.2", hidden / 2 * (1 + erf(hidden / math.sqrt(2))))

    def patches(self, pixels: np.ndarray) -> np.ndarray:
        """Embed the patches of an image (3, Y, X), without positions: (rows, columns, C)."""
        size = self.config.vision.patch_size
        rows, columns = (side // size for side in pixels.shape[1:])
        cut = pixels.reshape(3, rows, size, columns, size)
        return np.einsum("kcab,cyaxb->yxk", self.weights["vision.patch_embedding.conv.weight"], cut)

    def with_class(self, tokens: np.ndarray) -> np.ndarray:
        """Put the class token before patch tokens (P, C), as the first block takes them."""
        first = self.weights["vision.class_embedding"] + self.weights["vision.positions"][0]
        x = np.vstack([first, tokens])
        return self.norm("vision.ln_pre", x) if self.config.vision.ln_pre else x

    def text(
        self, vectors: np.ndarray, end: int, deep: Sequence[np.ndarray] = (), *, normalise: bool = True
    ) -> np.ndarray:
        """Embed one prompt (T, C), with learned tokens before the blocks 2, 3, ..."""
        x = vectors + self.weights["text.positions"][: len(vectors)]
        for number in range(self.config.text.layers):
            if 1 <= number <= len(deep):
                x = np.concatenate([x[:1], deep[number - 1], x[1 + len(deep[number - 1]) :]])
            x = self.block(f"text.blocks.{number}", x, causal=True)
        found = self.norm("text.ln_final", x[end]) @ self.weights["text.projection"]
        return unit(found) if normalise else found

    def sentence(self, tokenizer: Any, *pieces: str | np.ndarray, normalise: bool = True) -> np.ndarray:
        """Embed texts and vectors between the start and the end token."""
        table = self.weights["text.token_embedding.weight"]
        start, end = table[tokenizer.encode([""])[0][0].numpy()]
        rows = [start]
        for piece in pieces:
            rows += (
                list(table[tokenizer.encode([piece])[0][0, 1:-1].numpy()])
                if isinstance(piece, str)
                else [piece]
            )
        return self.text(np.stack([*rows, end]), len(rows), normalise=normalise)
