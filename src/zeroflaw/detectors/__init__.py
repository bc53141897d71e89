"""Detectors: what they are, which there are, and how to get a fitted one by name."""

from zeroflaw.detectors.contract import Detector, Needs
from zeroflaw.detectors.presets import PRESETS, is_folder, load, make, open_fitted, parse_settings, read_words
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.stream import Progress

__all__ = [
    "PRESETS",
    "Detector",
    "Needs",
    "Prediction",
    "Progress",
    "is_folder",
    "load",
    "make",
    "open_fitted",
    "parse_settings",
    "read_words",
]
