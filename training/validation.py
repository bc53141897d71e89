"""How well towers do on synthetic pairs they were not trained on; no real defect is looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import rankdata
from torch import Tensor

from training.bank_states import Bank
from training.features import Shards
from training.objective import PATCH_ANOMALOUS, PATCH_NORMAL, Seen
from zeroflaw.towers.model import CLIP

See = Callable[[CLIP, Tensor, None], Seen]


def auroc(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> float:
    """Area under the ROC curve by ranks, ties counted half."""
    ranks, positive = rankdata(scores), truth.sum()
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (~truth).sum()))


@torch.no_grad()
def validate(
    clip: CLIP, shards: Shards, pairs: NDArray[np.int64], bank: Bank, see: See, batch: int = 20
) -> dict[str, float]:
    """Score pairs with the mean direction of 512 caption pairs.

    Returns:
        ``image``: AUROC of the class token; ``top``: of the highest patch; ``both``: of their mean logit;
        ``pair``: share of pairs whose defective image scores higher; ``patch``: AUROC over patches;
        ``photo``: ``image`` on pairs built from photographs; ``peak``: median over flawless pictures of the
        highest probability of a patch; ``loss``: cross entropy of the class token.
    """
    rows = np.arange(512)
    normal = bank.embed(clip.text, bank.groups["normal"].start + rows).mean(0)
    anomalous = bank.embed(clip.text, bank.groups["anomalous"].start + rows).mean(0)
    direction = clip.logit_scale.exp() * (anomalous - normal)
    image, top, truths, patch, patch_truth = [], [], [], [], []
    for start in range(0, len(pairs), batch):
        part = shards.read(pairs[start : start + batch])
        seen = see(clip, part.features, None)
        dense = seen.patches @ direction
        image.append(seen.image @ direction)
        top.append(dense.amax(1))
        share = part.cover.flatten(1)
        truths.append(share.amax(1) > 0)
        known = (share <= PATCH_NORMAL) | (share > PATCH_ANOMALOUS)
        patch.append(dense[known])
        patch_truth.append(share[known] > PATCH_ANOMALOUS)
    images, tops = torch.cat(image).numpy(), torch.cat(top).numpy()
    truth = torch.cat(truths).numpy()
    photo = np.repeat([shards.facts[int(pair)]["base"] == "photo" for pair in pairs], 2)
    found = {
        "image": auroc(truth, images),
        "top": auroc(truth, tops),
        "both": auroc(truth, images + tops),
        "pair": float((images[1::2] > images[::2])[truth[1::2]].mean()),
        "patch": auroc(torch.cat(patch_truth).numpy(), torch.cat(patch).numpy()),
        "photo": auroc(truth[photo], images[photo]) if photo.any() else float("nan"),
        "peak": float(np.median(expit(tops[~truth]))),
        "loss": float(np.logaddexp(0, np.where(truth, -images, images)).mean()),
    }
    return {name: round(value, 4) for name, value in found.items()}
