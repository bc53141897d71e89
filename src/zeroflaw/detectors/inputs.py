"""What a fit is given beside words: photos of good products, or a data set of other products."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.tiled import TiledPhoto
from zeroflaw.errors import UsageError
from zeroflaw.images import read_image
from zeroflaw.records import Dataset
from zeroflaw.runtime.folder import AuxiliarySeen, ReferenceSeen, Seen
from zeroflaw.runtime.stream import Array, Progress, is_one_picture

Step = Callable[[int, int], None]  # steps done, steps in all


def silent(done: int, total: int) -> None:
    """Tell nobody of a step."""


_MISSING = {
    "reference": "photos of good products; give them with --reference, or as fit(reference=[...])",
    "auxiliary": "a data set of other products to learn from; give it with --auxiliary, or as "
    "fit(auxiliary=...)",
}
_NO_SET = Dataset("none", ())
_OTHERS = {"reference": "memory", "auxiliary": "anomalyclip"}  # detectors that use it


def require(detector: str, needs: Needs, *, reference: bool, auxiliary: bool) -> None:
    """Compare what was given with what a detector needs.

    Raises:
        UsageError: something is missing, or is of no use to this detector.
    """
    for name, given, need in (
        ("reference", reference, needs.reference_images),
        ("auxiliary", auxiliary, needs.auxiliary_set),
    ):
        if need and not given:
            raise UsageError(f"{detector} needs {_MISSING[name]}")
        if given and not need:
            raise UsageError(
                f"{detector} does not use {name} images; drop --{name}, or take --detector {_OTHERS[name]}"
            )


@dataclass(frozen=True)
class FitInputs:
    """Inputs of a fit, checked against what the detector needs.

    Attributes:
        reference: pictures of good products, uint8 (H, W, 3); none where they are cut into tiles.
        tiled: pictures of good products that are cut into tiles.
        auxiliary: data set of other products; one without categories where none is needed.
        checkpoint: file that keeps the state of the fit, or None.
        progress: see `Detector.fit`.
    """

    reference: tuple[Array, ...] = ()
    tiled: tuple[TiledPhoto, ...] = ()
    auxiliary: Dataset = _NO_SET
    checkpoint: Path | None = None
    progress: Progress | None = None

    @classmethod
    def from_arguments(
        cls,
        detector: str,
        needs: Needs,
        reference: Sequence[Any] | None = None,
        auxiliary: object = None,
        checkpoint: str | Path | None = None,
        progress: Progress | None = None,
        tile: int = 0,
        white: float | None = None,
    ) -> FitInputs:
        """Check what was given against what is needed, and read the reference images.

        Raises:
            UsageError: something is missing, or is of no use to this detector.
            ImageError: a reference image cannot be read.
        """
        if is_one_picture(reference) or not isinstance(reference, Iterable | None):
            raise UsageError(
                f"reference wants a list of images, got one {type(reference).__name__}; write [image]"
            )
        if auxiliary is not None and not isinstance(auxiliary, Dataset):
            raise UsageError(
                f"auxiliary wants a data set, got {type(auxiliary).__name__}; write "
                "auxiliary=zeroflaw.lab.datasets.open_auxiliary(folder)"
            )
        images = [] if reference is None else list(reference)
        require(detector, needs, reference=bool(images), auxiliary=auxiliary is not None)
        return cls(
            () if tile else tuple(read_image(image, white=white) for image in images),
            tuple(TiledPhoto.of(image, tile, white) for image in images) if tile else (),
            _NO_SET if auxiliary is None else auxiliary,
            None if checkpoint is None else Path(checkpoint),
            progress,
        )

    def stage(self, name: str) -> Step:
        """Return a progress callback for one stage of a fit."""
        return silent if self.progress is None else partial(self.progress, name)

    def seen(self) -> Seen:
        """Return what was seen, for the saved folder."""
        digests = (*map(digest, self.reference), *(photo.sha256 for photo in self.tiled))
        reference = ReferenceSeen(images=len(digests), sha256_of_pixels=digests) if digests else None
        counts = {c.name: {"train": len(c.train), "test": len(c.test)} for c in self.auxiliary}
        auxiliary = AuxiliarySeen(dataset=self.auxiliary.name, categories=counts) if counts else None
        return Seen(reference=reference, auxiliary=auxiliary)


def digest(picture: Array) -> str:
    """Return the SHA-256 of a picture's pixels."""
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()
