"""Noticing, while photos come, that light, lens or camera have changed."""

from __future__ import annotations

from collections import deque

from zeroflaw.runtime.calibration import Calibration
from zeroflaw.runtime.drift import Watch as Drift
from zeroflaw.runtime.prediction import Prediction

RECENT = 48  # photos that a change is told from
EVERY = 8  # photos, after which it is looked for again


class Changes:
    """Notices that recent photos are unlike the good ones of a calibration, and says so when that begins.

    Args:
        calibration: of the detector.
    """

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._recent: deque[Prediction] = deque(maxlen=RECENT)
        self._new = 0
        self._state: tuple[bool, tuple[str, ...]] = (False, ())

    def add(self, prediction: Prediction) -> None:
        """Take in what is said about one more photo."""
        self._recent.append(prediction)
        self._new += 1

    def said(self) -> str | None:
        """Return what is to be said now, if anything."""
        if self._new < EVERY:
            return None
        self._new = 0
        drift = Drift(self._calibration)
        for prediction in self._recent:
            drift.add(prediction)
        alarm, changes = drift.alarm(), tuple(drift.changes())
        state = alarm is not None, changes
        if state == self._state:
            return None
        was, self._state = any(self._state), state
        return drift.notice() or ("the photos are like the good ones again" if was else None)
