"""Reference association: how far each part of an image is from all of good ones (WinCLIP, section 4.3)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from zeroflaw.towers.windows import Windows, harmonic_map

NEAR = 1e-12  # smallest distance: an exact copy of a reference still has finite log-odds
_AT_ONCE = 4096  # queries and references compared at a time; bounds the memory, however many there are

Spread = Literal["harmonic", "mean"]


def distances(queries: Tensor, memory: Tensor) -> Tensor:
    """Return ``min (1 - cos) / 2`` over the memory for every query, float64 in [NEAR, 1 - NEAR].

    Computed in double precision: of near copies, single precision would only see its own rounding.

    Args:
        queries: features (T, Q, C), of any length.
        memory: features of good images, (N, C).

    Returns:
        Distances (T, Q).
    """
    normal = F.normalize(queries.double(), dim=-1).flatten(0, 1)  # (T * Q, C)
    best = torch.full(normal.shape[:1], -1.0, dtype=torch.double)
    for part in memory.split(_AT_ONCE):
        known = F.normalize(part.double(), dim=-1).T
        highest = [(some @ known).amax(-1) for some in normal.split(_AT_ONCE)]
        best = torch.maximum(best, torch.cat(highest))
    return ((1 - best) / 2).clamp(NEAR, 1 - NEAR).reshape(queries.shape[:2])


def spread_distances(found: Tensor, windows: Windows, how: Spread) -> Tensor:
    """Bring distances of windows (T, W) back to the patches as log-odds (T, P).

    Args:
        found: distances in (0, 1).
        windows: which patches each window holds.
        how: by the "harmonic" or the plain "mean" of the windows that hold a patch.
    """
    if how == "harmonic":
        return harmonic_map(torch.logit(found), windows)
    return torch.logit(found @ windows.cover.double() / windows.count.double())
