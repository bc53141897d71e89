"""What the two towers learn: say "anomalous" where a defect is, and stay neutral to words about other things.

The logit of "anomalous" is ``scale * x · (t_anomalous - t_normal)`` without a bias, for the embedding x of an
image, a window or a patch: then the softmax over two prompts, which is what a detector computes, is the
probability that was trained. Shapes: B images, W windows, P patches, E embedding, D pairs of captions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.bank_states import Bank
from zeroflaw.towers.model import TextTower

PATCH_ANOMALOUS, PATCH_NORMAL = 0.12, 0.005  # defective share of a patch; between the two it is not taught
WINDOW_ANOMALOUS, WINDOW_NORMAL = 0.2, 0.01  # of a window's most defective patch


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Share of every term in the loss."""

    image: float = 1.0
    window: float = 1.0
    patch: float = 1.0
    top: float = 1.0
    kind: float = 0.5
    align: float = 0.3
    neutral: float = 0.3
    geometry: float = 2.0


@dataclass(frozen=True)
class Seen:
    """Embeddings by the image tower: ``image`` (B, E), ``windows`` (B, W, E), ``patches`` (B, P, E)."""

    image: Tensor
    windows: Tensor
    patches: Tensor


@dataclass(frozen=True)
class Truth:
    """What was painted.

    Attributes:
        image: 1 where the image has a defect, (B,).
        windows: largest defective share of a patch in every window, (B, W).
        patches: defective share of every patch, (B, P).
        kinds: kind of defect of every second image, numbers of the bank's groups, -1 for none, (B / 2,).
    """

    image: Tensor
    windows: Tensor
    patches: Tensor
    kinds: NDArray[np.int64]


@dataclass(frozen=True)
class Said:
    """Embedded captions.

    Attributes:
        normal, anomalous: (D, E); the first half of the rows share their frame in pairs.
        kinds: captions of every kind of defect in the batch, (K, 4, E).
        names: which kinds those are, numbers of the bank's groups, (K,).
        neutral: pairs of captions that say nothing about a state, (D, 2, E).
        geometry: mean squared change of all similarities since the distillation.
    """

    normal: Tensor
    anomalous: Tensor
    kinds: Tensor
    names: NDArray[np.int64]
    neutral: Tensor
    geometry: Tensor


def speak(
    bank: Bank, tower: TextTower, kinds: NDArray[np.int64], rng: np.random.Generator, count: int = 32
) -> Said:
    """Draw and embed the captions of one step; ``kinds`` are the defects in the batch, as in `Truth`."""
    names, present = list(bank.groups), np.unique(kinds[kinds >= 0])
    paired = rng.integers(0, len(bank.groups["normal"]), count // 2)
    rows = {
        name: np.concatenate([bank.groups[name].start + paired, bank.draw(rng, name, count - count // 2)])
        for name in ("normal", "anomalous")
    }
    both = rng.integers(0, len(bank.groups["neutral_pairs_a"]), count // 2)
    first = np.concatenate(
        [bank.groups["neutral_pairs_a"].start + both, bank.draw(rng, "neutral", count // 2)]
    )
    second = np.concatenate(
        [bank.groups["neutral_pairs_b"].start + both, bank.draw(rng, "neutral", count // 2)]
    )
    typed = np.concatenate([bank.draw(rng, names[kind], 4) for kind in present])
    order = [rows["normal"], rows["anomalous"], first, second, typed]
    index = np.concatenate(order)
    found = bank.embed(tower, index)
    normal, anomalous, one, other, kind = found.split([len(part) for part in order])
    known = bank.original[torch.from_numpy(index)]
    return Said(
        normal,
        anomalous,
        kind.unflatten(0, (len(present), 4)),
        present,
        torch.stack([one, other], 1),
        (found @ found.T - known @ known.T).square().mean(),
    )


def loss(
    seen: Seen, truth: Truth, said: Said, scale: Tensor, weights: Weights
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of all terms, and each term."""
    directions = scale * _directions(said)
    patch_known = (truth.patches <= PATCH_NORMAL) | (truth.patches > PATCH_ANOMALOUS)
    patch = (truth.patches > PATCH_ANOMALOUS).float()
    window_known = (truth.windows <= WINDOW_NORMAL) | (truth.windows > WINDOW_ANOMALOUS)
    window = (truth.windows > WINDOW_ANOMALOUS).float()
    typed = torch.from_numpy(truth.kinds >= 0)
    parts = {
        "image": _judge(seen.image, directions, truth.image, torch.ones_like(truth.image)),
        "window": _judge(seen.windows, directions, window, window_known * (1 + window)),
        "patch": _judge(seen.patches, directions, patch, patch_known * (1 + patch)),
        "top": _judge_top(seen.patches, directions, truth.image),
        "kind": _kind(seen.image[1::2][typed], truth.kinds[truth.kinds >= 0], said, scale),
        "align": _align(seen, truth, window, window_known, said),
        "neutral": _neutral(seen.image, said, scale.detach()),
        "geometry": said.geometry,
    }
    total = torch.stack([getattr(weights, name) * part for name, part in parts.items()]).sum()
    return total, {name: part.item() for name, part in parts.items()}


def _directions(said: Said) -> Tensor:
    """From normal to anomalous, by state words and by words for kinds of defects: (D, E)."""
    kinds = said.kinds.flatten(0, 1)[: len(said.normal)]
    anomalous = torch.cat([said.anomalous, kinds])
    normal = torch.cat([said.normal, said.normal.flip(0)[: len(kinds)]])
    return anomalous - normal


def _judge(x: Tensor, directions: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Binary cross entropy, averaged over the directions: x (..., E), truth and weight (...)."""
    logits = x @ directions.T
    each = F.softplus(logits).mean(-1) - truth * logits.mean(-1)
    return (each * weight).sum() / weight.sum()


def _judge_top(patches: Tensor, directions: Tensor, truth: Tensor, count: int = 3) -> Tensor:
    """Binary cross entropy of an image by its most anomalous patches: a clean image may have none."""
    logits = (patches @ directions.mean(0)).topk(count, dim=1).values.mean(1)
    return F.binary_cross_entropy_with_logits(logits, truth)


def _kind(defective: Tensor, kinds: NDArray[np.int64], said: Said, scale: Tensor) -> Tensor:
    """Cross entropy of naming the defect, "normal" being one more choice."""
    choices = torch.cat([said.kinds.mean(1), said.normal.mean(0, keepdim=True)])
    wanted = torch.from_numpy(np.searchsorted(said.names, kinds))
    return F.cross_entropy(scale * defective @ F.normalize(choices, dim=-1).T, wanted)


def _align(seen: Seen, truth: Truth, window: Tensor, window_known: Tensor, said: Said) -> Tensor:
    """How far images and windows are from captions that fit them: keeps the gap between the towers small."""
    image = 1 - _fitting(seen.image, truth.image, said)
    windows = 1 - _fitting(seen.windows, window, said)
    there = truth.kinds >= 0
    typed = said.kinds[np.searchsorted(said.names, truth.kinds[there])].mean(1)
    kind = 1 - (seen.image[1::2][torch.from_numpy(there)] * typed).sum(-1)
    windows_mean = (windows * window_known).sum() / window_known.sum().clamp_min(1)
    return 0.6 * image.mean() + 0.4 * kind.mean() + 0.5 * windows_mean


def _fitting(x: Tensor, truth: Tensor, said: Said) -> Tensor:
    """Mean cosine to the captions that are true of x."""
    normal, anomalous = x @ said.normal.mean(0), x @ said.anomalous.mean(0)
    return torch.where(truth > 0, anomalous, normal)


def _neutral(image: Tensor, said: Said, scale: Tensor) -> Tensor:
    """Mean squared logit between captions that differ in nothing that concerns a state."""
    return (scale * image @ (said.neutral[:, 0] - said.neutral[:, 1]).T).square().mean()
