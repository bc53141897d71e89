"""What AnomalyCLIP learns from: the test split of another data set, as frozen image features and masks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zeroflaw.errors import UsageError
from zeroflaw.files import sha256
from zeroflaw.images import read_image
from zeroflaw.records import Dataset, Record, read_mask
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.runtime.stream import Progress
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
    progress: Progress | None,
) -> LabelledFeatures:
    """Embed the images, one after the other so that no result depends on its neighbours.

    Args:
        backbone: on the image size that prediction uses.
        path: the local path, its layers named.
        records: see `training_records`.
        maps: whether patches and masks are wanted.
        memory: GiB that the features may take.
        progress: see `Detector.fit`.

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
            masks[row] = torch.from_numpy(_mask(backbone.preprocess, record.mask, pixels.shape[:2]))
        if progress is not None:
            progress("image features", row + 1, len(records))
    labels = torch.tensor([record.label for record in records])
    return LabelledFeatures(image, labels, patches, masks, grid)


def _mask(preprocess: Preprocess, path: Path, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask as the network sees its image, (S, S): resized like it, then cut at one half."""
    white = read_mask(path, size).astype(np.uint8) * 255
    plain = replace(preprocess, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear")
    return np.asarray(plain([np.repeat(white[..., None], 3, axis=2)])[0, 0] > 0.5)


def digest(records: Sequence[Record]) -> str:
    """SHA-256 over labels and the bytes of all images and masks: what a checkpoint belongs to.

    Raises:
        UsageError: a file cannot be read.
    """
    whole = hashlib.sha256()
    try:
        for record in records:
            masks = record.mask.iterdir() if record.mask and record.mask.is_dir() else [record.mask]
            files = [record.image, *sorted(path for path in masks if path and path.is_file())]
            whole.update(f"{record.category}/{record.label}{[sha256(path) for path in files]}".encode())
    except OSError as error:
        raise UsageError(
            f"{error.filename} of the auxiliary data set cannot be read: {error.strerror}; check it"
        ) from error
    return whole.hexdigest()
