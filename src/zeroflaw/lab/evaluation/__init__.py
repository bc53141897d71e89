"""Detectors on labelled images: one pass over the images shared by all detectors, and rows of metrics."""

from .outcome import METRICS, SCHEMA, Entry, Outcome
from .sharing import evaluate_category
from .summary import is_incomplete, is_partial, mean_of, summary_of

__all__ = [
    "METRICS",
    "SCHEMA",
    "Entry",
    "Outcome",
    "evaluate_category",
    "is_incomplete",
    "is_partial",
    "mean_of",
    "summary_of",
]
