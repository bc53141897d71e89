"""What a fit is given beside words: photos of good products, or a data set of other products."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from zeroflaw.detectors.contract import Needs
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.images import read_image
from zeroflaw.runtime.stream import Array

if TYPE_CHECKING:
    from zeroflaw.records import Dataset

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
        images = _listed(reference)
        require(detector, needs, reference=bool(images), auxiliary=auxiliary is not None)
        _require_dataset(auxiliary)
        pictures = tuple(read_image(image) for image in images)
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
    def check_seen(detector: str, needs: Needs, seen: Mapping[str, Any]) -> None:
        """Compare what a saved folder says was seen with what `describe` returns.

        Raises:
            DetectorError: it is something else, or not what a detector of this kind was fitted on.
        """
        wanted = {"reference": needs.reference_images, "auxiliary": needs.auxiliary_set}
        good = {"reference": _is_reference, "auxiliary": _is_auxiliary}
        named = {name for name, need in wanted.items() if need}
        if set(seen) != named or not all(good[name](seen[name]) for name in named):
            listed = " and ".join(sorted(named)) or "nothing"
            raise DetectorError(
                f"'seen' in config.json must say what a detector '{detector}' was fitted on ({listed} beside "
                "words); save the detector again"
            )

    @staticmethod
    def in_words(seen: Mapping[str, Any]) -> str:
        """Return a sentence for the model card about what `describe` returned."""
        parts = []
        if "reference" in seen:
            count = seen["reference"]["images"]
            parts.append(f"{count} photo{'s' * (count != 1)} of good products")
        if "auxiliary" in seen:
            names = ", ".join(seen["auxiliary"]["categories"])
            parts.append(f"the data set {seen['auxiliary']['dataset']} ({names})")
        return " and ".join(parts) or "none"


def _listed(reference: Iterable[Any] | None) -> list[Any]:
    if reference is None:
        return []
    # The rows of one picture would be taken for pictures; several are (N, H, W, 3).
    one = isinstance(reference, np.ndarray) and reference.ndim < 4
    if one or isinstance(reference, (str, bytes, Image.Image)) or not isinstance(reference, Iterable):
        raise UsageError(
            f"reference wants a list of images, got one {type(reference).__name__}; write [image]"
        )
    return list(reference)


def _require_dataset(auxiliary: Any) -> None:
    from zeroflaw.records import Dataset

    if auxiliary is not None and not isinstance(auxiliary, Dataset):
        raise UsageError(
            f"auxiliary wants a data set, got {type(auxiliary).__name__}; write "
            "auxiliary=zeroflaw.lab.datasets.open_auxiliary(folder)"
        )


def _is_reference(said: Any) -> bool:
    if not isinstance(said, dict) or set(said) != {"images", "sha256_of_pixels"}:
        return False
    digests = said["sha256_of_pixels"]
    if not isinstance(digests, list) or not all(isinstance(digest, str) for digest in digests):
        return False
    return type(said["images"]) is int and said["images"] == len(digests) > 0


def _is_auxiliary(said: Any) -> bool:
    if not isinstance(said, dict) or set(said) != {"dataset", "categories"}:
        return False
    categories = said["categories"]
    if not isinstance(said["dataset"], str) or not isinstance(categories, dict):
        return False
    return all(_is_counts(splits) for splits in categories.values())


def _is_counts(splits: Any) -> bool:
    # Published prompts say on which data set they were learned, but not on how many images.
    if not isinstance(splits, dict) or set(splits) not in ({"train", "test"}, set()):
        return False
    return all(type(count) is int and count >= 0 for count in splits.values())


def _digest(picture: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()
