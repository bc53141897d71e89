"""What a benchmark has found so far, on disk: one file per unit, each written whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroflaw.errors import InputError, UsageError
from zeroflaw.files import write_text
from zeroflaw.lab.benchmark.plan import Unit
from zeroflaw.lab.evaluation import Outcome

Result = dict[str, Any]


@dataclass(frozen=True)
class Store:
    """The folder of a benchmark."""

    folder: Path

    def prepare(self) -> None:
        """Make the folder, before anything that takes time.

        Raises:
            UsageError: it cannot be made or written, or it holds something else than a benchmark.
        """
        cells = self.folder / "cells"
        try:
            if self.folder.is_dir() and not cells.is_dir() and any(self.folder.iterdir()):
                raise UsageError(
                    f"a new, an empty or a benchmark's folder was wanted, but {self.folder} holds something "
                    "else; choose another"
                )
            cells.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=cells).close()
        except OSError as error:
            raise UsageError(
                f"results cannot be written to {self.folder}: {error.strerror or error}; choose another"
            ) from error

    def load(self, unit: Unit) -> dict[str, Result]:
        """Return the results of a unit by the key of their cells; empty where there are none yet.

        Raises:
            InputError: the file is damaged.
        """
        path = self._path(unit)
        if not path.exists():
            return {}
        try:
            found: dict[str, Result] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} should hold results but cannot be read ({error}); delete it to measure it again"
            ) from error
        if not _is_results(found):
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


def _is_results(found: Any) -> bool:
    kinds = {"row": dict, "domains": list, "scored": list}
    return isinstance(found, dict) and all(
        isinstance(result, dict)
        and all(isinstance(result.get(name), kind) for name, kind in kinds.items())
        and "error" in result["row"]
        for result in found.values()
    )


def result_of(outcome: Outcome) -> Result:
    """Return the JSON values of an outcome."""
    scored = [[image.image, image.label, image.logit] for image in outcome.scored]
    return {"row": outcome.row, "domains": outcome.domains, "scored": scored}
