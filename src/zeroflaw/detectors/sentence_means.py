"""From many sentences for normal and anomalous to one direction: the ways in which public code does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from zeroflaw.detectors.heads import linear, prototype_pair
from zeroflaw.runtime.heads import LinearHead

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone

SentenceMean = Literal["normalised", "raw", "unnormalised"]


def prototype_head(
    backbone: Backbone,
    normal: Sequence[str],
    anomalous: Sequence[str],
    mean: SentenceMean,
    temperature: float,
) -> LinearHead:
    """Make the head whose logit is ``f . (t_a - t_n) / temperature`` (WinCLIP, section 4.1).

    Args:
        backbone: its text tower embeds the sentences.
        normal: sentences whose mean is t_n; one that is there twice counts twice.
        anomalous: sentences whose mean is t_a.
        mean: "normalised": each sentence normalised, mean, normalised; "raw": mean of raw features,
            normalised; "unnormalised": mean of raw features, so that the two sides differ in length too.
        temperature: what the cosines are divided by.

    Raises:
        WordsError: a sentence cannot be encoded.
    """
    if mean == "normalised":
        return prototype_pair(backbone.embed_texts(normal), backbone.embed_texts(anomalous), 1 / temperature)
    sides = raw_embeddings(backbone, normal), raw_embeddings(backbone, anomalous)
    if mean == "raw":
        return prototype_pair(*sides, 1 / temperature)
    return linear((sides[1].mean(0) - sides[0].mean(0)) / temperature)


def raw_embeddings(backbone: Backbone, texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
    """Embed prompts as `Backbone.embed_texts` does, but of the length they have: float32 (N, E) on the CPU.

    Raises:
        WordsError: a prompt cannot be encoded.
    """
    distinct = list(dict.fromkeys(texts))
    ids, ends = backbone.tokenizer.encode(distinct)
    pairs = zip(ids.split(batch_size), ends.split(batch_size), strict=True)
    found = torch.cat([_raw(backbone, *pair) for pair in pairs])
    place = {text: number for number, text in enumerate(distinct)}
    return found[[place[text] for text in texts]]


@torch.inference_mode()
def _raw(backbone: Backbone, ids: Tensor, ends: Tensor) -> Tensor:
    tower = backbone.model.text
    ids, ends = ids[:, : int(ends.max()) + 1].to(backbone.device), ends.to(backbone.device)
    places = torch.arange(ids.shape[1], device=ids.device)
    causal = places <= places[:, None]  # (T, T)
    x = tower.token_embedding(ids) + tower.positions[: ids.shape[1]]
    for block in tower.blocks:
        x = block(x, mask=causal)
    last = x[torch.arange(len(x), device=x.device), ends]
    raw: Tensor = tower.ln_final(last) @ tower.projection
    return raw.float().cpu()
