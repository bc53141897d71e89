"""Which patches are hidden: many maskings of one grid, from one seed."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from zeroflaw.errors import UsageError

Drawing = Literal["random", "balanced"]


def visible_count(patches: int, ratio: float) -> int:
    """Return how many of so many patches stay visible; rounded down, as in the training of autoencoders.

    Raises:
        UsageError: none or all would.
    """
    count = int(patches * (1 - ratio))
    if not 0 < count < patches:
        raise UsageError(
            f"mask_ratio must leave some of {patches} patches visible and hide some, got {ratio}, which "
            f"leaves {count}; 0.75 is what autoencoders are trained with"
        )
    return count


def draw_visible(count: int, patches: int, ratio: float, *, seed: int, drawing: Drawing = "random") -> Tensor:
    """Draw maskings; the result says which patches stay visible, in rising order.

    Args:
        count: number of maskings N.
        patches: number of patches P.
        ratio: share of patches that are hidden.
        seed: of a generator of its own.
        drawing: "random" draws every masking anew, as the training of autoencoders does. "balanced" cuts
            each random order of the patches into as many maskings as it holds, so that no patch is visible a
            second time before every other was (up to a remainder): fewer maskings hide every patch.

    Returns:
        int64 (N, V).

    Raises:
        UsageError: no or all patches would be visible.
    """
    visible = visible_count(patches, ratio)
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    while len(found) < count:
        order = torch.randperm(patches, generator=generator)
        whole = patches // visible if drawing == "balanced" else 1
        found += order[: whole * visible].view(whole, visible)
    return torch.stack(found[:count]).sort(dim=1).values


def hidden_counts(visible: Tensor, patches: int) -> Tensor:
    """Count in how many of the maskings (N, V) each patch is hidden: int64 (P,).

    Raises:
        UsageError: one never is; nothing could be said of it.
    """
    counts = len(visible) - torch.bincount(visible.flatten(), minlength=patches)
    never = int((counts == 0).sum())
    if never:
        raise UsageError(
            f"every patch must be hidden at least once, but {never} of {patches} never are in {len(visible)} "
            "masks; use more masks, mask_drawing='balanced' or error='all'"
        )
    return counts
