"""Find flaws in photos of products never seen before: from words, good photos, or the folder.

Higher scores are more anomalous. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zeroflaw._version import __version__ as __version__

if TYPE_CHECKING:
    from zeroflaw.api import detect as detect
    from zeroflaw.corruptions import corrupt as corrupt
    from zeroflaw.detectors.acr import ACR as ACR
    from zeroflaw.detectors.anomalyclip import AnomalyCLIP as AnomalyCLIP
    from zeroflaw.detectors.check import check_detector as check_detector
    from zeroflaw.detectors.clip_pair import ClipPair as ClipPair
    from zeroflaw.detectors.contract import Detector as Detector
    from zeroflaw.detectors.contract import Needs as Needs
    from zeroflaw.detectors.maeday import MAEDAY as MAEDAY
    from zeroflaw.detectors.memory import Memory as Memory
    from zeroflaw.detectors.mutual import Mutual as Mutual
    from zeroflaw.detectors.presets import load as load
    from zeroflaw.detectors.presets import register as register
    from zeroflaw.detectors.promptstyler import PromptStyler as PromptStyler
    from zeroflaw.detectors.rwda import RWDA as RWDA
    from zeroflaw.detectors.shift_words import ShiftWords as ShiftWords
    from zeroflaw.detectors.winclip import WinCLIP as WinCLIP
    from zeroflaw.detectors.winclip import WinCLIPPlus as WinCLIPPlus
    from zeroflaw.errors import DatasetError as DatasetError
    from zeroflaw.errors import DetectorError as DetectorError
    from zeroflaw.errors import HistoryError as HistoryError
    from zeroflaw.errors import ImageError as ImageError
    from zeroflaw.errors import InputError as InputError
    from zeroflaw.errors import MissingExtraError as MissingExtraError
    from zeroflaw.errors import NotFittedError as NotFittedError
    from zeroflaw.errors import OutputError as OutputError
    from zeroflaw.errors import UsageError as UsageError
    from zeroflaw.errors import WeightsError as WeightsError
    from zeroflaw.errors import WordsError as WordsError
    from zeroflaw.errors import ZeroflawError as ZeroflawError
    from zeroflaw.images import Limits as Limits
    from zeroflaw.images import find_images as find_images
    from zeroflaw.images import read_image as read_image
    from zeroflaw.images import reading as reading
    from zeroflaw.lab.datasets import open_dataset as open_dataset
    from zeroflaw.runtime.calibration import Calibration as Calibration
    from zeroflaw.runtime.prediction import Prediction as Prediction
    from zeroflaw.sharing import pull as pull
    from zeroflaw.sharing import push as push
    from zeroflaw.towers.weights import load_backbone as load_backbone

_HOMES = {
    "api": "detect",
    "corruptions": "corrupt",
    "detectors.acr": "ACR",
    "detectors.anomalyclip": "AnomalyCLIP",
    "detectors.check": "check_detector",
    "detectors.clip_pair": "ClipPair",
    "detectors.contract": "Detector Needs",
    "detectors.maeday": "MAEDAY",
    "detectors.memory": "Memory",
    "detectors.mutual": "Mutual",
    "detectors.presets": "load register",
    "detectors.promptstyler": "PromptStyler",
    "detectors.rwda": "RWDA",
    "detectors.shift_words": "ShiftWords",
    "detectors.winclip": "WinCLIP WinCLIPPlus",
    "errors": "DatasetError DetectorError HistoryError ImageError InputError MissingExtraError "
    "NotFittedError OutputError UsageError WeightsError WordsError ZeroflawError",
    "images": "Limits find_images read_image reading",
    "lab.datasets": "open_dataset",
    "runtime.calibration": "Calibration",
    "runtime.prediction": "Prediction",
    "sharing": "pull push",
    "towers.weights": "load_backbone",
}
_MODULES = {name: f"zeroflaw.{module}" for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted((*_MODULES, "__version__"))


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'zeroflaw' has no attribute '{name}'")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
