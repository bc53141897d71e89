"""Find flaws in photos of products never seen before: no training images, only words.

Higher scores are more anomalous. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zeroflaw._version import __version__

if TYPE_CHECKING:
    from zeroflaw.api import detect
    from zeroflaw.detectors.acr import ACR
    from zeroflaw.detectors.anomalyclip import AnomalyCLIP
    from zeroflaw.detectors.check import check_detector
    from zeroflaw.detectors.clip_pair import ClipPair
    from zeroflaw.detectors.contract import Detector, Needs
    from zeroflaw.detectors.maeday import MAEDAY
    from zeroflaw.detectors.presets import load
    from zeroflaw.detectors.promptstyler import PromptStyler
    from zeroflaw.detectors.rwda import RWDA
    from zeroflaw.detectors.shift_words import ShiftWords
    from zeroflaw.detectors.winclip import WinCLIP
    from zeroflaw.detectors.winclip_plus import WinCLIPPlus
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
    from zeroflaw.lab.corruptions import corrupt
    from zeroflaw.lab.datasets import open_dataset
    from zeroflaw.runtime.prediction import Prediction
    from zeroflaw.towers.weights import load_backbone

_HOMES = {
    "ACR": "zeroflaw.detectors.acr",
    "AnomalyCLIP": "zeroflaw.detectors.anomalyclip",
    "ClipPair": "zeroflaw.detectors.clip_pair",
    "DatasetError": "zeroflaw.errors",
    "Detector": "zeroflaw.detectors.contract",
    "DetectorError": "zeroflaw.errors",
    "ImageError": "zeroflaw.errors",
    "InputError": "zeroflaw.errors",
    "Limits": "zeroflaw.images",
    "MAEDAY": "zeroflaw.detectors.maeday",
    "Needs": "zeroflaw.detectors.contract",
    "NotFittedError": "zeroflaw.errors",
    "Prediction": "zeroflaw.runtime.prediction",
    "PromptStyler": "zeroflaw.detectors.promptstyler",
    "RWDA": "zeroflaw.detectors.rwda",
    "ShiftWords": "zeroflaw.detectors.shift_words",
    "UsageError": "zeroflaw.errors",
    "WeightsError": "zeroflaw.errors",
    "WinCLIP": "zeroflaw.detectors.winclip",
    "WinCLIPPlus": "zeroflaw.detectors.winclip_plus",
    "WordsError": "zeroflaw.errors",
    "ZeroflawError": "zeroflaw.errors",
    "check_detector": "zeroflaw.detectors.check",
    "corrupt": "zeroflaw.lab.corruptions",
    "detect": "zeroflaw.api",
    "find_images": "zeroflaw.images",
    "load": "zeroflaw.detectors.presets",
    "load_backbone": "zeroflaw.towers.weights",
    "open_dataset": "zeroflaw.lab.datasets",
    "read_image": "zeroflaw.images",
}

__all__ = [
    "ACR",
    "MAEDAY",
    "RWDA",
    "AnomalyCLIP",
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
    "PromptStyler",
    "ShiftWords",
    "UsageError",
    "WeightsError",
    "WinCLIP",
    "WinCLIPPlus",
    "WordsError",
    "ZeroflawError",
    "__version__",
    "check_detector",
    "corrupt",
    "detect",
    "find_images",
    "load",
    "load_backbone",
    "open_dataset",
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
