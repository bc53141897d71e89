"""From many sentences for normal and anomalous to one direction: the ways in which public code does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

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
    from zeroflaw.detectors.heads import linear, prototype_pair  # torch, which prediction does without

    if mean == "normalised":
        return prototype_pair(backbone.embed_texts(normal), backbone.embed_texts(anomalous), 1 / temperature)
    sides = [backbone.embed_texts(sentences, normalise=False) for sentences in (normal, anomalous)]
    if mean == "raw":
        return prototype_pair(sides[0], sides[1], 1 / temperature)
    return linear((sides[1].mean(0) - sides[0].mean(0)) / temperature)
