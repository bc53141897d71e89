"""What became of learned words: whether they are of use, and what they are nearest to.

Three degenerate solutions are known beforehand. Words that are only pushed apart may drown what the prompt
says; words that are only drawn to the anchors may leave all prompts the same; more words than dimensions
cannot all be at right angles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zeroflaw.detectors.learned import Encoder, Tower
from zeroflaw.detectors.shift_words.words import Pairs, ShiftPrompts, diversity_loss
from zeroflaw.runtime.stream import Step

_BATCH = 256  # prompts embedded at a time


@torch.no_grad()
def embed_pairs(
    prompts: ShiftPrompts,
    diversity: Tensor,
    distribution: Tensor,
    *,
    pairs: Pairs,
    progress: Step | None = None,
) -> tuple[Tensor, Tensor]:
    """Embed all pairs of prompts with diversity words (K, M, C) and distribution words (J, M, C).

    Returns:
        Normal and anomalous prompts, each normalised float32 (N, E) on the CPU.
    """
    sentences, found = torch.cat([pairs.normal, pairs.anomalous]), []
    for batch in torch.arange(len(sentences)).split(_BATCH):
        rows = batch % len(pairs)
        words = [diversity[pairs.diversity[rows]], distribution[pairs.distribution[rows]]]
        found.append(prompts.joined(words, sentences[batch]).cpu())
        if progress is not None:
            progress(int(batch[-1]) + 1, len(sentences))
    normal, anomalous = torch.cat(found).split(len(pairs))
    return normal, anomalous


def least_mean_cosine(count: int, width: int) -> float:
    """Return a lower bound of the mean of ``|cos|`` over all pairs of ``count`` vectors of length ``width``.

    The mean of ``cos^2`` is at least ``(K - w) / (w (K - 1))`` (Welch, IEEE Trans. Inform. Theory 1974), and
    ``|cos| >= cos^2``. It is reached where an orthogonal basis is repeated.
    """
    return max(0.0, (count - width) / (width * (count - 1))) if count > 1 else 0.0


def measure(normal: Tensor, anomalous: Tensor, anchors: Tensor, pairs: Pairs) -> dict[str, float]:
    """Measure whether learned words led to one of the degenerate solutions.

    Args:
        normal, anomalous: embeddings of the prompts of ``pairs``, each (N, E).
        anchors: embeddings of the prompts without learned words, (S, E).
        pairs: which prompts those are.

    Returns:
        ``anchor_cosine_mean`` and ``anchor_cosine_min``: of prompts and their anchors; low where the words
        drown what the prompt says. ``prompt_cosine``: mean over pairs of different prompts with the same
        sentence; near one where learned words make no difference. ``accuracy``: share of prompts nearer to
        their own anchor than to the other side's. ``order``: share of pairs whose anomalous prompt lies
        further towards the anomalous anchor than its normal one.
    """
    features, own = torch.cat([normal, anomalous]), torch.cat([pairs.normal, pairs.anomalous])
    other = torch.cat([pairs.anomalous, pairs.normal])
    near, far = ((features * anchors[side]).sum(-1) for side in (own, other))
    towards = ((anomalous - normal) * (anchors[pairs.anomalous] - anchors[pairs.normal])).sum(-1)
    return {
        "anchor_cosine_mean": float(near.mean()),
        "anchor_cosine_min": float(near.min()),
        "prompt_cosine": _mean_cosine(features.double(), own),
        "accuracy": float((near > far).float().mean()),
        "order": float((towards > 0).float().mean()),
    }


def _mean_cosine(features: Tensor, group: Tensor) -> float:
    """Mean over all pairs of different rows (N, E) of one group (N,), in linear time; zero without pairs.

    Rows have length one, so the cosines of a group of n, each with each, sum up to ``|sum of rows|^2 - n``.
    """
    total, count = 0.0, 0
    for number in group.unique():
        rows = features[group == number]
        total += float(rows.sum(0).square().sum()) - len(rows)
        count += len(rows) * (len(rows) - 1)
    return total / max(count, 1)


@torch.no_grad()
def spread(prompts: ShiftPrompts, words: Mapping[str, Tensor]) -> dict[str, float]:
    """Measure how far apart learned words of a kind are, and how far apart so many could be.

    Returns:
        For each KIND of words (N, M, C) the mean of ``|cos|`` between the text features of its words, as
        ``KIND``, and its lower bound, as ``KIND_bound``.
    """
    found = {}
    for kind, vectors in words.items():
        features = torch.cat([prompts.alone(part) for part in vectors.split(_BATCH)])
        found[kind] = float(diversity_loss(features))
        found[f"{kind}_bound"] = least_mean_cosine(*features.shape)
    return found


def nearest_words(
    tower: Tower, tokenizer: Encoder, candidates: Sequence[str], words: Tensor
) -> list[list[tuple[str, float]]]:
    """Return, for the reader, the vocabulary word nearest to each vector of each learned word (N, M, C).

    Word embeddings of the tower are compared; candidates of more than one token are left out.

    Returns:
        For each word M pairs of a vocabulary word and its cosine.
    """
    ids, ends = tokenizer.encode(candidates)
    single = (ends == 2).nonzero()[:, 0]  # start, word, end
    table = tower.token_embedding.weight.detach().float().cpu()
    known = F.normalize(table[ids[single, 1]], dim=-1)
    best = (F.normalize(words.detach().float().cpu(), dim=-1) @ known.T).max(-1)  # (N, M)
    return [
        [(candidates[int(single[i])], round(float(c), 3)) for i, c in zip(places, cosines, strict=True)]
        for places, cosines in zip(best.indices, best.values, strict=True)
    ]
