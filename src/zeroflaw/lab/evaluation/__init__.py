"""Detectors on labelled images: one pass over the images shared by all detectors, and rows of metrics."""

from .judging import NamedDetector, evaluate_category, read_corruption, reason_of
from .rows import FIGURES, METRICS, SCHEMA, VERDICTS, Result, Row, Summary, mean_of, summary_of

__all__ = [
    "FIGURES",
    "METRICS",
    "SCHEMA",
    "VERDICTS",
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
