"""Detectors: what they are, which there are, and how to get a fitted one by name."""

from zeroflaw.detectors.contract import Detector, Needs, Prediction, Progress
from zeroflaw.detectors.named import PRESETS, is_folder, load, make, open_fitted, parse_settings, read_words

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
