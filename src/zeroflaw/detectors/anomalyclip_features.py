"""What AnomalyCLIP learns from: the test split of another data set, as frozen image features and masks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zeroflaw.errors import UsageError
from zeroflaw.images import read_image
from zeroflaw.records import read_mask
from zeroflaw.towers.local import LocalPath

if TYPE_CHECKING:
    from pathlib import Path

    from zeroflaw.records import Dataset, Record
    from zeroflaw.runtime.stream import Progress
    from zeroflaw.towers.backbone import Backbone

GIB = 2**30


@dataclass(frozen=True)
class Features:
    """Some images of the auxiliary set.

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

    def to(self, device: torch.device) -> Features:
        """Return the same on a device."""
        names = ("image", "labels", "patches", "masks")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass
class AuxiliaryFeatures:
    """Frozen features of the whole auxiliary set; masks are packed, eight pixels a byte."""

    image: Tensor
    labels: Tensor
    patches: Tensor
    packed: npt.NDArray[np.uint8]
    grid: tuple[int, int]
    side: int

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, rows: Tensor) -> Features:
        """Return the images with these numbers, (B,)."""
        some = rows if len(self.patches) else rows[:0]
        masks = np.unpackbits(self.packed[some.numpy()], axis=1, count=self.side**2).astype(bool)
        return Features(
            image=self.image[rows],
            labels=self.labels[rows],
            patches=self.patches[some],
            masks=torch.from_numpy(masks).unflatten(1, (self.side, self.side)),
            grid=self.grid,
        )


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
            "detector 'anomalyclip' learns from masks of flaws, but no flawed test image of "
            f"'{dataset.name}' has one; give a data set with masks, or learn from labels alone with "
            "focal_loss=false and dice_loss=false"
        )
    if not found[0] or not found[1]:
        raise UsageError(
            "detector 'anomalyclip' learns from good and flawed test images of other products, but "
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
) -> AuxiliaryFeatures:
    """Embed the images, one after the other so that no result depends on its neighbours.

    Args:
        backbone: on the image size that prediction uses.
        path: the local path.
        records: see `training_records`.
        maps: whether patches and masks are wanted.
        memory: GiB that the features may take.
        progress: see `Detector.fit`.

    Raises:
        UsageError: the features would take more memory; nothing has been computed then.
        ImageError: an image or mask cannot be read.
        DatasetError: a mask does not fit its image.
    """
    found = _reserve(backbone, path, len(records), maps, memory)
    for row, record in enumerate(records):
        pixels = read_image(record.image)
        one = backbone.embed_local([pixels], path, patches=maps)
        found.image[row], found.labels[row] = one.image[0], record.label
        if maps:
            found.patches[row] = torch.stack([one.layers[layer][0] for layer in sorted(one.layers)])
            found.packed[row] = np.packbits(_mask(backbone, record, pixels.shape[:2]).ravel())
        if progress is not None:
            progress("image features", row + 1, len(records))
    return found


def _reserve(backbone: Backbone, path: LocalPath, count: int, maps: bool, memory: float) -> AuxiliaryFeatures:
    side, grid, width = backbone.preprocess.image_size, backbone.grid, backbone.embed_dim
    dense = count if maps else 0
    shape = (dense, len(set(path.layers)) or 1, grid[0] * grid[1], width)
    mask = -(-side * side // 8)
    needed = (4 * (count * width + int(np.prod(shape))) + dense * mask) / GIB
    if needed > memory:
        raise UsageError(
            f"the features of {count} images would take {needed:.2f} GiB of memory, more than feature_memory "
            f"allows ({memory:g} GiB); set feature_memory higher, or learn from fewer images or with a "
            "smaller image_size"
        )
    return AuxiliaryFeatures(
        image=torch.empty(count, width),
        labels=torch.empty(count, dtype=torch.long),
        patches=torch.empty(shape),
        packed=np.zeros((dense, mask), dtype=np.uint8),
        grid=grid,
        side=side,
    )


def _mask(backbone: Backbone, record: Record, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask as the network sees its image, (S, S): resized like it, then cut at one half."""
    side = backbone.preprocess.image_size
    if record.mask is None:
        return np.zeros((side, side), dtype=bool)
    white = read_mask(record.mask, size).astype(np.uint8) * 255
    plain = replace(backbone.preprocess, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear")
    resized = plain([np.repeat(white[..., None], 3, axis=2)])
    return (resized[0, 0] > 0.5).numpy()


def digest(records: Sequence[Record]) -> str:
    """SHA-256 over labels and the bytes of all images and masks: what a checkpoint belongs to.

    Raises:
        UsageError: a file cannot be read.
    """
    whole = hashlib.sha256()
    for record in records:
        whole.update(f"{record.category}/{record.label}".encode())
        for path in (record.image, record.mask):
            whole.update(b"-" if path is None else _digest(path))
    return whole.hexdigest()


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise UsageError(
            f"{path} of the auxiliary data set cannot be read ({error.strerror or error}); check the data set"
        ) from error
