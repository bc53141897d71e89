"""Find flaws in photos of products never seen before: no training images, only words.

Higher scores are more anomalous. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zeroflaw._version import __version__

if TYPE_CHECKING:
    from zeroflaw.api import detect
    from zeroflaw.clip.weights import load_backbone
    from zeroflaw.detectors.check import check_detector
    from zeroflaw.detectors.clip_pair import ClipPair
    from zeroflaw.detectors.contract import Detector, Needs, Prediction
    from zeroflaw.detectors.named import load
    from zeroflaw.detectors.rwda import RWDA
    from zeroflaw.errors import (
        DatasetError,
        DetectorError,
        ImageError,
        InputError,
        NotFittedError,
        UsageError,
        WeightsError,
        WordsError,
        ZeroflawError,
    )
    from zeroflaw.images import Limits, find_images, read_image

_HOMES = {
    "RWDA": "zeroflaw.detectors.rwda",
    "ClipPair": "zeroflaw.detectors.clip_pair",
    "DatasetError": "zeroflaw.errors",
    "Detector": "zeroflaw.detectors.contract",
    "DetectorError": "zeroflaw.errors",
    "ImageError": "zeroflaw.errors",
    "InputError": "zeroflaw.errors",
    "Limits": "zeroflaw.images",
    "Needs": "zeroflaw.detectors.contract",
    "NotFittedError": "zeroflaw.errors",
    "Prediction": "zeroflaw.detectors.contract",
    "UsageError": "zeroflaw.errors",
    "WeightsError": "zeroflaw.errors",
    "WordsError": "zeroflaw.errors",
    "ZeroflawError": "zeroflaw.errors",
    "check_detector": "zeroflaw.detectors.check",
    "detect": "zeroflaw.api",
    "find_images": "zeroflaw.images",
    "load": "zeroflaw.detectors.named",
    "load_backbone": "zeroflaw.clip.weights",
    "read_image": "zeroflaw.images",
}

__all__ = [
    "RWDA",
    "ClipPair",
    "DatasetError",
    "Detector",
    "DetectorError",
    "ImageError",
    "InputError",
    "Limits",
    "Needs",
    "NotFittedError",
    "Prediction",
    "UsageError",
    "WeightsError",
    "WordsError",
    "ZeroflawError",
    "__version__",
    "check_detector",
    "detect",
    "find_images",
    "load",
    "load_backbone",
    "read_image",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'zeroflaw' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
