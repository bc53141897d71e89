"""What a benchmark has found so far, on disk: one file per unit, each written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroflaw.benchmark.plan import Unit
from zeroflaw.errors import InputError
from zeroflaw.evaluation import Outcome
from zeroflaw.files import write_text

Result = dict[str, Any]


@dataclass(frozen=True)
class Store:
    """The folder of a benchmark."""

    folder: Path

    def load(self, unit: Unit) -> dict[str, Result]:
        """Return the results of a unit by the key of their cells; empty where there are none yet.

        Raises:
            InputError: the file is damaged.
        """
        path = self._path(unit)
        if not path.exists():
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} should hold results but cannot be read ({error}); delete it to measure it again"
            ) from error
        if not isinstance(found, dict):
            raise InputError(f"{path} should hold results but does not; delete it to measure it again")
        return found

    def save(self, unit: Unit, results: Mapping[str, Result]) -> None:
        """Replace the results of a unit."""
        text = json.dumps(results, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        write_text(self._path(unit), text + "\n")

    def _path(self, unit: Unit) -> Path:
        return self.folder / "cells" / f"{unit.name}.json"

    def detector(self, name: str, digest: str) -> Path:
        """Return the folder where a fitted detector is kept."""
        plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
        return self.folder / "detectors" / f"{plain}-{digest[:16]}"


def result_of(outcome: Outcome) -> Result:
    """Return the JSON values of an outcome."""
    scored = [[image.image, image.label, image.logit] for image in outcome.scored]
    return {"row": outcome.row, "domains": outcome.domains, "scored": scored}
