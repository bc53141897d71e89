"""What a fit is given beside words: photos of good products, or a data set of other products."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from zeroflaw.detectors.contract import Array, Needs
from zeroflaw.errors import UsageError
from zeroflaw.images import read_image

if TYPE_CHECKING:
    from zeroflaw.datasets import Dataset

_MISSING = {
    "reference": "photos of good products; give them with --reference, or as fit(reference=[...])",
    "auxiliary": "a data set of other products to learn from; give it with --auxiliary, or as "
    "fit(auxiliary=...)",
}


def require(detector: str, needs: Needs, *, reference: bool, auxiliary: bool) -> None:
    """Compare what was given with what a detector needs.

    Raises:
        UsageError: something is missing, or is of no use to this detector.
    """
    present = {"reference": reference, "auxiliary": auxiliary}
    wanted = {"reference": needs.reference_images, "auxiliary": needs.auxiliary_set}
    for name, need in wanted.items():
        if need and not present[name]:
            raise UsageError(f"detector '{detector}' needs {_MISSING[name]}")
        if present[name] and not need:
            raise UsageError(f"detector '{detector}' has no use for {name} images; leave them out")


@dataclass(frozen=True)
class Given:
    """Inputs of a fit, checked against what the detector needs.

    Attributes:
        reference: pictures of good products, uint8 (H, W, 3).
        digests: SHA-256 of the pixels of each, for the model card.
        auxiliary: data set of other products, or None.
    """

    reference: tuple[Array, ...] = ()
    digests: tuple[str, ...] = ()
    auxiliary: Dataset | None = None

    @classmethod
    def take(
        cls, detector: str, needs: Needs, reference: Sequence[Any] | None, auxiliary: Dataset | None
    ) -> Given:
        """Check what was given against what is needed, and read the reference images.

        Raises:
            UsageError: something is missing, or is of no use to this detector.
            ImageError: a reference image cannot be read.
        """
        if isinstance(reference, (str, bytes, Path, Image.Image)):
            raise UsageError(
                f"reference wants a list of images, got one {type(reference).__name__}; write [image]"
            )
        has_reference = reference is not None and len(reference) > 0
        require(detector, needs, reference=has_reference, auxiliary=auxiliary is not None)
        pictures = tuple(read_image(image) for image in reference or ())
        return cls(pictures, tuple(_digest(picture) for picture in pictures), auxiliary)

    def describe(self) -> dict[str, Any]:
        """Return what was seen, as JSON values, for the saved folder."""
        seen: dict[str, Any] = {}
        if self.reference:
            seen["reference"] = {"images": len(self.reference), "sha256_of_pixels": list(self.digests)}
        if self.auxiliary is not None:
            seen["auxiliary"] = {
                "dataset": self.auxiliary.name,
                "categories": {
                    category.name: {"train": len(category.train), "test": len(category.test)}
                    for category in self.auxiliary
                },
            }
        return seen

    @staticmethod
    def in_words(seen: Mapping[str, Any]) -> str:
        """Return a sentence for the model card about what `describe` returned."""
        parts = []
        if "reference" in seen:
            parts.append(f"{seen['reference']['images']} photos of good products")
        if "auxiliary" in seen:
            names = ", ".join(seen["auxiliary"]["categories"])
            parts.append(f"the data set {seen['auxiliary']['dataset']} ({names})")
        return " and ".join(parts) or "none"


def _digest(picture: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()
