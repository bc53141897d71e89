"""What AnomalyCLIP's prompts are learned for: the losses (Zhou et al., ICLR 2024, section 3.3).

Shapes: B images, L map layers, P patches, E embedding, S side of the network's input in pixels.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from zeroflaw.detectors.anomalyclip.features import LabelledFeatures
from zeroflaw.detectors.blur import stretching
from zeroflaw.parameters import parameters


@parameters
class Losses:
    """What the prompts are learned for, as parameters of `AnomalyCLIP`.

    Attributes:
        temperature: what cosines are divided by, in learning and in scores.
        image_loss: learn from the image's label, by cross entropy.
        focal_loss: learn from masks, by focal loss.
        dice_loss: learn from masks, by the Dice losses of the anomalous and of the normal pixels.
        map_weight: what the losses from masks are multiplied with.
        focal_gamma: exponent of the focal loss.
        focal_smoothing: keeps its logarithm finite.
        dice_smoothing: keeps the Dice losses defined for empty masks; 1 in the authors' loss.
    """

    temperature: Annotated[float, Field(ge=1e-6, le=1e6)] = 0.07
    image_loss: bool = True
    focal_loss: bool = True
    dice_loss: bool = True
    map_weight: Annotated[float, Field(ge=0, le=1e6)] = 4.0
    focal_gamma: Annotated[float, Field(ge=0, le=100)] = 2.0
    focal_smoothing: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-5
    dice_smoothing: Annotated[float, Field(ge=1e-12, le=1e6)] = 1.0

    @property
    def learns_maps(self) -> bool:
        """Whether any term looks at patches and masks."""
        return self.map_weight > 0 and (self.focal_loss or self.dice_loss)

    def loss_terms(self, text: Tensor, batch: LabelledFeatures) -> dict[str, Tensor]:
        """Return the terms of the loss by name, to be added up; ``text`` (2, E) is normal and anomalous."""
        found = {}
        if self.image_loss:
            found["image"] = F.cross_entropy(batch.image @ text.T / self.temperature, batch.labels)
        if not self.learns_maps:
            return found
        layers, masks = self._maps(text, batch).unbind(1), batch.masks  # L of (B, S, S)
        if self.focal_loss:
            focal = [focal_loss(m, masks, self.focal_gamma, self.focal_smoothing) for m in layers]
            found["focal"] = self.map_weight * torch.stack(focal).sum()
        if self.dice_loss:
            smoothing = self.dice_smoothing
            dice = [dice_loss(m, masks, smoothing) + dice_loss(1 - m, ~masks, smoothing) for m in layers]
            found["dice"] = self.map_weight * torch.stack(dice).sum()
        return found

    def _maps(self, text: Tensor, batch: LabelledFeatures) -> Tensor:
        """Probability of anomalous, brought to the size of the masks bilinearly, (B, L, S, S).

        As a product of matrices: the way back is then the same on every run, which that of CUDA's own
        resizing is not.
        """
        found = torch.sigmoid(batch.patches @ (text[1] - text[0]) / self.temperature)  # (B, L, P)
        tall, wide = (
            torch.from_numpy(stretching(patches, pixels)).to(found)
            for patches, pixels in zip(batch.grid, batch.masks.shape[-2:], strict=True)
        )
        return torch.einsum("yr,blrc,xc->blyx", tall, found.unflatten(-1, batch.grid), wide)


def focal_loss(anomalous: Tensor, masks: Tensor, gamma: float, smoothing: float) -> Tensor:
    """Mean over all pixels of ``-(1 - p)^gamma log p``, p the probability of the true class.

    Targets are ``smoothing`` and ``1 - smoothing`` instead of 0 and 1, and ``smoothing`` is added to p, so
    that the logarithm stays finite (Lin et al., ICCV 2017, without class weights).

    Probabilities of anomalous and masks, True where that is right, are (B, S, S).
    """
    right = torch.where(masks, anomalous, 1 - anomalous)
    p = (1 - smoothing) * right + smoothing * (1 - right) + smoothing
    return -((1 - p).clamp_min(1e-12) ** gamma * p.log()).mean()


def dice_loss(probabilities: Tensor, masks: Tensor, smoothing: float) -> Tensor:
    """Mean over images of ``1 - (2 sum(p g) + smoothing) / (sum p + sum g + smoothing)``.

    Probabilities p and masks g are (B, S, S).
    """
    p, g = probabilities.flatten(1), masks.flatten(1).to(probabilities)
    overlap = (2 * (p * g).sum(1) + smoothing) / (p.sum(1) + g.sum(1) + smoothing)
    return (1 - overlap).mean()
