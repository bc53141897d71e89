"""Learned words for distribution shift."""

from zeroflaw.detectors.shift_words.detector import ShiftWords

__all__ = ["ShiftWords"]
