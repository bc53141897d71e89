"""What AnomalyCLIP learns from, the test split of another data set as frozen image features and masks; and
the losses (Zhou et al., ICLR 2024, section 3.3).

Shapes: B images, L map layers, P patches, E embedding, S side of the network's input in pixels.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from zeroflaw.detectors.blur import stretching
from zeroflaw.detectors.inputs import Step, silent
from zeroflaw.errors import UsageError
from zeroflaw.files import sha256
from zeroflaw.images import read_image
from zeroflaw.masks import open_mask
from zeroflaw.parameters import parameters
from zeroflaw.records import Dataset, Record
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.backbone import Backbone
from zeroflaw.towers.local import LocalPath

GIB = 2**30


@dataclass(frozen=True)
class LabelledFeatures:
    """Frozen features of images of the auxiliary set, and what is known of them.

    Attributes:
        image: embeddings of the class token, (B, E).
        labels: 0 normal, 1 anomalous, (B,).
        patches: embeddings of the local patch tokens, (B, L, P, E); without images where no map is learned.
        masks: True where a pixel is anomalous, (B, S, S); likewise.
        grid: patches (rows, columns).
    """

    image: Tensor
    labels: Tensor
    patches: Tensor
    masks: Tensor
    grid: tuple[int, int]

    def rows(self, rows: Tensor, device: torch.device) -> LabelledFeatures:
        """Return the images with these numbers, (B,), on a device."""
        some = rows if len(self.patches) else rows[:0]
        parts = self.image[rows], self.labels[rows], self.patches[some], self.masks[some]
        image, labels, patches, masks = (part.to(device) for part in parts)
        return LabelledFeatures(image, labels, patches, masks, self.grid)


def training_records(dataset: Dataset, *, masks: bool) -> list[Record]:
    """List the test images to learn from: all, or where ``masks`` are needed no flawed one without.

    Raises:
        UsageError: normal or anomalous images are missing, or no anomalous one has a mask.
    """
    every = [record for category in dataset for record in category.test]
    records = [record for record in every if record.label == 0 or record.mask is not None or not masks]
    found = {label: sum(record.label == label for record in records) for label in (0, 1)}
    if any(record.label == 1 for record in every) and not found[1]:
        raise UsageError(
            f"anomalyclip learns from masks of flaws, but no flawed test image of '{dataset.name}' has one; "
            "give a data set with masks, or learn from labels alone with focal_loss=false and dice_loss=false"
        )
    if not found[0] or not found[1]:
        raise UsageError(
            "anomalyclip learns from good and flawed test images of other products, but "
            f"'{dataset.name}' has {found[0]} good and {found[1]} flawed ones; give a data set with both"
        )
    return records


def compute(
    backbone: Backbone,
    path: LocalPath,
    records: Sequence[Record],
    *,
    maps: bool,
    memory: float,
    progress: Step = silent,
) -> LabelledFeatures:
    """Embed the images, one after the other so that no result depends on its neighbours.

    Args:
        backbone: on the image size that prediction uses.
        path: the local path, its layers named.
        records: see `training_records`.
        maps: whether patches and masks are wanted.
        memory: GiB that the features may take.
        progress: called after every image.

    Raises:
        UsageError: the features would take more memory; nothing has been computed then.
        ImageError: an image or mask cannot be read.
        DatasetError: a mask does not fit its image.
    """
    side, grid, width = backbone.preprocess.image_size, backbone.grid, backbone.embed_dim
    dense = len(records) if maps else 0
    shape = dense, len(path.layers), grid[0] * grid[1], width
    needed = (4 * (len(records) * width + math.prod(shape)) + dense * side**2) / GIB
    if needed > memory:
        raise UsageError(
            f"the features of {len(records)} images would take {needed:.2f} GiB, more than feature_memory "
            f"allows ({memory:g} GiB); set it higher, or learn from fewer images or with a smaller image_size"
        )
    image, patches = torch.empty(len(records), width), torch.empty(shape)
    masks = torch.zeros(dense, side, side, dtype=torch.bool)
    for row, record in enumerate(records):
        pixels = read_image(record.image)
        one = backbone.embed_local([pixels], path, patches=maps)
        image[row] = torch.from_numpy(one.image[0])
        if maps:
            patches[row] = torch.from_numpy(np.stack([one.layers[block][0] for block in path.layers]))
        if maps and record.mask is not None:
            masks[row] = torch.from_numpy(_mask(backbone.preprocess, record, pixels.shape[:2]))
        progress(row + 1, len(records))
    labels = torch.tensor([record.label for record in records])
    return LabelledFeatures(image, labels, patches, masks, grid)


def _mask(preprocess: Preprocess, record: Record, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask as the network sees its image, (S, S): resized like it, then cut at one half."""
    assert record.mask is not None
    white = open_mask(record.mask, size, image=record.image).marked.astype(np.uint8) * 255
    plain = replace(preprocess, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear")
    return np.asarray(plain([np.repeat(white[..., None], 3, axis=2)])[0, 0] > 0.5)


def digest(records: Sequence[Record]) -> str:
    """SHA-256 over labels and the bytes of all images and masks: what a checkpoint belongs to.

    Raises:
        InputError: a file cannot be read.
    """
    whole = hashlib.sha256()
    for record in records:
        files = [record.image, *(path for path in record.masks if path.is_file())]
        whole.update(f"{record.category}/{record.label}{[sha256(path) for path in files]}".encode())
    return whole.hexdigest()


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
