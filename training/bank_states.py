"""The caption bank, run once through all text blocks but the last.

Only the last block, the norm and the projection of the text tower learn together with the image tower, so
what comes before them is computed once and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from training.language import CONFIG, OUTPUT_DIM
from training.tokenizer import encode
from zeroflaw.towers.model import TextTower


def load_student(work: Path) -> TextTower:
    """Return the distilled text tower."""
    tower = TextTower(CONFIG, OUTPUT_DIM)
    tower.load_state_dict(load_file(work / "text_student.safetensors"))
    return tower


def until_last(tower: TextTower, ids: Tensor) -> Tensor:
    """Run token ids (N, T) through all blocks but the last: (N, T, C)."""
    length = ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    x = tower.token_embedding(ids) + tower.positions[:length]
    for block in tower.blocks[:-1]:
        x = block(x, mask=causal)
    return x  # type: ignore[no-any-return]


def last(tower: TextTower, hidden: Tensor, ends: Tensor) -> Tensor:
    """Finish what `until_last` began: states (N, T, C) and positions of the end tokens (N,) to (N, E)."""
    seen = torch.arange(hidden.shape[1]) <= ends[:, None]
    x = tower.blocks[-1](hidden, mask=seen[:, None, None], only=ends)
    return F.normalize((tower.ln_final(x[:, 0]) @ tower.projection).float(), dim=-1)


@dataclass(frozen=True)
class Bank:
    """Captions as states.

    Attributes:
        hidden: states after the last block but one, float16 (N, T, C).
        ends: position of the end token, (N,).
        original: embeddings by the tower as it was distilled, (N, E).
        groups: rows of every group, name to range.
    """

    hidden: Tensor
    ends: Tensor
    original: Tensor
    groups: dict[str, range]

    def draw(self, rng: np.random.Generator, group: str, count: int) -> NDArray[np.int64]:
        """Return ``count`` row numbers of a group, with replacement."""
        rows = self.groups[group]
        return rng.integers(rows.start, rows.stop, count)

    def embed(self, tower: TextTower, rows: NDArray[np.int64]) -> Tensor:
        """Embed rows with the last block as it is now: (len(rows), E)."""
        index = torch.from_numpy(rows)
        ends = self.ends[index]
        longest = int(ends.max()) + 1
        with torch.autocast("cpu", torch.bfloat16):
            return last(tower, self.hidden[index, :longest].float(), ends)


@torch.no_grad()
def make_bank(
    tower: TextTower, tokenizer: Tokenizer, captions: dict[str, list[str]], batch: int = 256
) -> Bank:
    """Run all captions (group name to texts) through the tower."""
    groups, texts = _rows(captions)
    ids, ends = (
        torch.from_numpy(part.astype(np.int64)) for part in encode(tokenizer, texts, CONFIG.context_length)
    )
    hidden = torch.zeros(len(texts), int(ends.max()) + 1, CONFIG.width, dtype=torch.float16)
    original = torch.empty(len(texts), OUTPUT_DIM)
    order = torch.argsort(ends)
    for rows in tqdm(order.split(batch), desc="caption bank", unit="batch"):
        longest = int(ends[rows].max()) + 1
        states = until_last(tower, ids[rows, :longest])
        hidden[rows, :longest] = states.half()
        original[rows] = last(tower, states, ends[rows])
    return Bank(hidden, ends, original, groups)


def _rows(captions: dict[str, list[str]]) -> tuple[dict[str, range], Sequence[str]]:
    groups, texts = {}, list[str]()
    for name, group in captions.items():
        groups[name] = range(len(texts), len(texts) + len(group))
        texts += group
    return groups, texts
