"""Detectors on labelled images: one pass over the images shared by all detectors, and rows of metrics."""

from .judging import NamedDetector, evaluate_category, read_corruption, reason_of
from .rows import METRICS, SCHEMA, Result, Row, Summary, mean_of, summary_of

__all__ = [
    "METRICS",
    "SCHEMA",
    "NamedDetector",
    "Result",
    "Row",
    "Summary",
    "evaluate_category",
    "mean_of",
    "read_corruption",
    "reason_of",
    "summary_of",
]
