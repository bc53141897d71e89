"""ELPV (Buerhop-Lutz et al., EU PVSEC 2018): solar cells in electroluminescence::

    labels.csv               path, probability of a defect, kind of module; blanks between them
    images/cell0001.png      8-bit grey, 300 x 300

People judged each cell: the probability is 0 for a functional cell, 1 for a defective one, and 1/3 or 2/3
where they were not sure. Only the sure ones are scored, 1,508 good and 715 defective; the other 401 are
counted and left out. The kind of module, ``mono`` or ``poly`` crystalline, is the domain. There is no split:
all are test images.

The images come with the package elpv-dataset, which is found but never imported.
"""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path

from zeroflaw.errors import DatasetError
from zeroflaw.finding import brief, shown
from zeroflaw.listing import Files, count, found_in, require_folder
from zeroflaw.records import Category, Dataset

from .category import GOOD
from .labelled import Labelled, Row, note_one_sided, read_rows

NAME = "elpv"
OBJECT = "solar cell"
_CATEGORY = "solar_cell"
_PACKAGE = "elpv_dataset"
_TABLE = "labels.csv"


def is_elpv(folder: Path) -> bool:
    """Whether a folder is the data folder of ELPV."""
    try:
        with (folder / _TABLE).open(encoding="utf-8") as file:
            first = file.readline().split()
    except (OSError, UnicodeDecodeError):
        return False
    return len(first) == 3 and first[0].startswith("images/cell")


def open_elpv(root: str | os.PathLike[str] | None = None) -> Dataset:
    """List ELPV without opening an image: one category, its domains ``mono`` and ``poly``.

    Args:
        root: the folder with ``labels.csv`` and ``images``; by default that of the installed package.

    Raises:
        DatasetError: the package is not installed, or the folder is not what it should be.
    """
    folder = require_folder(root) if root is not None else _installed()
    table = folder / _TABLE
    if not table.is_file():
        raise DatasetError(
            f"ELPV is wanted with {_TABLE} and images/, but '{shown(folder)}' holds {found_in(folder)}; "
            "install elpv-dataset again"
        )
    rows, unsure = _rows(table)
    found = read_rows(Labelled(table, folder, NAME, _CATEGORY), rows, Files())
    if not found.test:
        raise DatasetError(
            f"'{shown(table)}' names images, but none of them is in '{shown(folder / 'images')}'; install "
            "elpv-dataset again"
        )
    if unsure:
        of = f"{unsure} of {count(unsure + len(rows), 'cell')}"
        found.note(f"{of} were left out, judged neither surely good nor surely defective")
    note_one_sided(found)
    category = Category(
        NAME, _CATEGORY, (), tuple(found.test), tuple(found.problems), OBJECT, len(found.absent)
    )
    return Dataset(NAME, (category,), (), NAME)


def _installed() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        raise DatasetError(
            "the data set elpv comes with the package elpv-dataset, which is not installed; "
            "run: pip install 'zeroflaw[elpv]'"
        )
    return Path(places[0]) / "data"


def _rows(table: Path) -> tuple[list[Row], int]:
    """Return the rows that were judged surely, and how many were not."""
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"'{shown(table)}' should be a table but cannot be read ({brief(error)}); install "
            "elpv-dataset again"
        ) from error
    rows, unsure = [], 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        image, probability, module = _cells(table, number, line)
        if probability not in (0.0, 1.0):
            unsure += 1
            continue
        label = int(probability)
        rows.append(Row(number, "test", label, "defective" if label else GOOD, image, domain=module))
    return rows, unsure


def _cells(table: Path, number: int, line: str) -> tuple[str, float, str]:
    cells = line.split()
    try:
        image, probability, module = cells[0], float(cells[1]), cells[2]
        fits = len(cells) == 3 and 0 <= probability <= 1 and math.isfinite(probability)
    except (IndexError, ValueError):
        fits = False
    if not fits:
        raise DatasetError(
            f"an image, a probability from 0 to 1 and a kind of module are wanted in line {number} of "
            f"'{shown(table)}', but it is '{shown(line.strip()[:60])}'; install elpv-dataset again"
        )
    return image, probability, module
