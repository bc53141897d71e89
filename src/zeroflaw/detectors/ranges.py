"""Checks of parameters that several detectors make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zeroflaw.errors import UsageError, closest


def one_of(name: str, value: Any, known: Sequence[str]) -> None:
    """Refuse a value that is not one of the known ones.

    Raises:
        UsageError: with the known ones.
    """
    if value not in known:
        raise UsageError(
            f"{name} must be one of {', '.join(known)}, got {value!r}{closest(str(value), known)}"
        )


def check_range(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    """Refuse a value that is not a number from ``low`` to ``high``, whole where that is wanted.

    Raises:
        UsageError: with the range.
    """
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        number = "whole number" if whole else "number"
        raise UsageError(f"{name} must be a {number} from {low:,} to {high:,}, got {value!r}")
