"""Ready grids: the questions that the papers ask, to be run on any data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zeroflaw.errors import UsageError, closest
from zeroflaw.lab.benchmark.grid import Grid, read_grid
from zeroflaw.toml_file import read_toml

FOLDER = Path(__file__).parent / "grids"


def ready_names() -> Mapping[str, str]:
    """Return the names of the ready grids with their titles."""
    return {path.stem: str(_title(path)) for path in sorted(FOLDER.glob("*.toml"))}


def _title(path: Path) -> Any:
    return read_toml(path)["title"]


def ready_grid(name: str) -> Grid:
    """Return a ready grid.

    Raises:
        UsageError: there is none of that name.
    """
    path = FOLDER / f"{name}.toml"
    if name not in ready_names():
        raise UsageError(
            f"a TOML file or a ready grid ({', '.join(ready_names())}) was wanted, got '{name}'"
            f"{closest(name, ready_names())}"
        )
    return read_grid(path)
