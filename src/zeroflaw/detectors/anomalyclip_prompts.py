"""The two learned prompts of AnomalyCLIP: "[V1]...[V12] object." and "[W1]...[W12] damaged object."."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from zeroflaw.detectors.base import take_tensors
from zeroflaw.detectors.learned import assemble, random_vectors

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone


@dataclass(frozen=True)
class PromptShape:
    """How many learned tokens there are.

    Attributes:
        length: tokens M before the words of each prompt.
        width: C of the text tower.
        depth: text blocks, from the first, that are given learned tokens; 1 is the input alone.
        deep_length: tokens N put into each of the blocks 2 to ``depth``.
    """

    length: int
    width: int
    depth: int
    deep_length: int


@dataclass
class Prompts:
    """Learned tokens.

    Attributes:
        normal: before the words for normal, (M, C).
        anomalous: before the words for anomalous, (M, C).
        deep: for the text blocks 2, 3, ..., each (N, C), in both prompts.
    """

    normal: Tensor
    anomalous: Tensor
    deep: list[Tensor]

    @classmethod
    def random(cls, shape: PromptShape, generator: torch.Generator) -> Prompts:
        """Draw all tokens from N(0, 0.02^2), as they are before learning."""
        pair = random_vectors(2, shape.length, shape.width, generator)
        deep = random_vectors(shape.depth - 1, shape.deep_length, shape.width, generator)
        return cls(pair[0].clone(), pair[1].clone(), [tokens.clone() for tokens in deep])

    @classmethod
    def take(cls, tensors: Mapping[str, Tensor], shape: PromptShape) -> Prompts:
        """Take what `tensors` returned.

        Raises:
            DetectorError: a tensor is missing, superfluous or of another shape.
        """
        blocks = range(2, shape.depth + 1)
        wanted = dict.fromkeys(("normal", "anomalous"), (shape.length, shape.width))
        wanted |= {f"deep.{block}": (shape.deep_length, shape.width) for block in blocks}
        found = take_tensors(tensors, wanted)
        return cls(found["normal"], found["anomalous"], [found[f"deep.{block}"] for block in blocks])

    def tensors(self) -> dict[str, Tensor]:
        """Return all tokens by name, deep ones by the block that they are for, counted from 1."""
        deep = {f"deep.{block}": tokens for block, tokens in enumerate(self.deep, 2)}
        return {"normal": self.normal, "anomalous": self.anomalous, **deep}

    def learnable(self, device: torch.device) -> Prompts:
        """Return copies on ``device`` that gather gradients."""

        def leaf(tokens: Tensor) -> Tensor:
            return tokens.detach().to(device, torch.float32, copy=True).requires_grad_(True)

        return Prompts(leaf(self.normal), leaf(self.anomalous), [leaf(tokens) for tokens in self.deep])

    def embed(self, backbone: Backbone, words: tuple[str, str]) -> Tensor:
        """Embed the normal and the anomalous prompt, which end in ``words``: (2, E), with gradients.

        Raises:
            WordsError: a prompt is longer than the text tower's context.
        """
        tower = backbone.model.text
        pieces = zip((self.normal, self.anomalous), words, strict=True)
        rows = [assemble(tower, backbone.tokenizer, [tokens, text]) for tokens, text in pieces]
        longest = max(vectors.shape[1] for vectors, _ in rows)
        padded = [F.pad(vectors, (0, 0, 0, longest - vectors.shape[1])) for vectors, _ in rows]
        return tower.from_vectors(torch.cat(padded), torch.cat([end for _, end in rows]), self.deep)
