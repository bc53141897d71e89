"""Records from a table that names images, labels and masks; the files are looked up, never opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from zeroflaw.listing import Files, count, names
from zeroflaw.records import Record

from .tables import contradiction


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table; paths are relative to the folder that the table speaks of, ``""`` for no mask."""

    line: int
    split: Literal["train", "test"]
    label: int
    defect: str
    image: str
    mask: str = ""
    domain: str | None = None


@dataclass
class Labelled:
    """The rows of one category, and what became of them.

    Attributes:
        table: the file that the rows come from, for messages.
        root: folder that the paths in the rows are relative to.
        train, test: records of the images that are there, sorted by path.
        absent: image paths of test rows without a file, in the order of the table.
        problems: what was left out, one sentence each.
    """

    table: Path
    root: Path
    dataset: str
    category: str
    train: list[Record] = field(default_factory=list)
    test: list[Record] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Add a problem; ``sentence`` comes without its full stop."""
        self.problems.append(f"{self.category}: {sentence}.")


def read_rows(found: Labelled, rows: Iterable[Row], files: Files) -> Labelled:
    """Turn rows into records: missing files and repeated rows are left out and named in ``problems``.

    Raises:
        DatasetError: two rows say different things of one image.
    """
    kept = _once(found, rows)
    absent_train: list[str] = []
    absent_masks: list[str] = []
    spare_masks: list[str] = []
    for row in kept:
        image = files.find(found.root / row.image)
        if image is None:
            (found.absent if row.split == "test" else absent_train).append(row.image)
            continue
        mask = files.find(found.root / row.mask) if row.mask and row.label else None
        if row.mask and row.label and mask is None:
            absent_masks.append(row.mask)
        elif row.mask and not row.label:
            spare_masks.append(row.mask)
        (found.test if row.split == "test" else found.train).append(
            Record(found.dataset, found.category, row.split, row.label, row.defect, row.domain, image, mask)
        )
    for part in (found.train, found.test):
        part.sort(key=lambda record: record.image)
    tests = sum(row.split == "test" for row in kept)
    _note_absent(found, "test image", found.absent, tests)
    _note_absent(found, "train image", absent_train, len(kept) - tests)
    _note_absent(found, "mask", absent_masks, sum(bool(row.mask and row.label) for row in kept))
    if spare_masks:
        found.note(f"left out {count(len(spare_masks), 'mask')} of good images: {names(spare_masks)}")
    _note_bare(found)
    return found


def _once(found: Labelled, rows: Iterable[Row]) -> list[Row]:
    """Drop rows that repeat another one."""
    first: dict[str, Row] = {}
    repeated = []
    for row in rows:
        known = first.setdefault(row.image, row)
        if known is row:
            continue
        if (known.split, known.label, known.mask) != (row.split, row.label, row.mask):
            raise contradiction(found.table, row.line, row.image)
        repeated.append(row.image)
    if repeated:
        rows_ = count(len(repeated), "row")
        found.note(f"{rows_} of {found.table.name} repeated an earlier one: {names(repeated)}")
    return list(first.values())


def _note_absent(found: Labelled, what: str, absent: list[str], total: int) -> None:
    if absent:
        of = f"{len(absent)} of {count(total, what)}"
        are = "is" if len(absent) == 1 else "are"
        found.note(f"{of} of {found.table.name} {are} not there and left out: {names(absent)}")


def _note_bare(found: Labelled) -> None:
    """Name the defective images without a mask, where others have one."""
    defective = [record for record in found.test if record.label]
    bare = [record.image for record in defective if record.mask is None]
    if bare and len(bare) < len(defective):
        of = f"{len(bare)} of {count(len(defective), 'defective image')}"
        found.note(f"pixel metrics leave out {of}, without a mask: {names(bare)}")


def note_one_sided(found: Labelled) -> None:
    """Say where there is no good test image, or no defective one."""
    labels = {record.label for record in found.test}
    for label, kind in enumerate(("good", "defective")):
        if label not in labels:
            found.note(f"there is no {kind} test image, so that metrics are undefined")
