"""The two learned prompts of AnomalyCLIP: "[V1]...[V12] object." and "[W1]...[W12] damaged object."."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from zeroflaw.detectors.learned import assemble
from zeroflaw.towers.backbone import Backbone

# Learned tokens by name: "normal" and "anomalous" (M, C), before the words of the two prompts; and "deep.2",
# "deep.3", ... (N, C), which both prompts get before the text block of that number, counted from 1.
Prompts = Mapping[str, Tensor]


def embed_prompts(backbone: Backbone, prompts: Prompts, words: tuple[str, str]) -> Tensor:
    """Embed the normal and the anomalous prompt, which end in ``words``: (2, E), with gradients.

    Raises:
        WordsError: a prompt is longer than the text tower's context.
    """
    tower = backbone.model.text
    pieces = zip((prompts["normal"], prompts["anomalous"]), words, strict=True)
    rows = [assemble(tower, backbone.tokenizer, [tokens, text]) for tokens, text in pieces]
    longest = max(vectors.shape[1] for vectors, _ in rows)
    padded = [F.pad(vectors, (0, 0, 0, longest - vectors.shape[1])) for vectors, _ in rows]
    deep = [prompts[f"deep.{block}"] for block in range(2, len(prompts))]
    return tower.from_vectors(torch.cat(padded), torch.cat([end for _, end in rows]), deep)
