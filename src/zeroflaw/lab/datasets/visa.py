"""VisA (Zou et al., ECCV 2022), as downloaded or converted::

    <root>/<class>/Data/Images/Normal/0000.JPG
    <root>/<class>/Data/Images/Anomaly/000.JPG
    <root>/<class>/Data/Masks/Anomaly/000.png      0 normal, above 0 the kind of defect
    <root>/split_csv/1cls.csv                      object,split,label,image,mask

    <root>/1cls/<class>/{train/good,test/good,test/bad,ground_truth/bad}     after the official conversion

The split of one-class methods, ``1cls.csv``, says which images are scored; the other tables of ``split_csv``
are those of supervised methods. The converted form is MVTec AD's. The extension is upper-case in the archive,
and masks number their defects (:func:`zeroflaw.lab.datasets.read_mask` takes all of them).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from zeroflaw.errors import DatasetError
from zeroflaw.finding import shown
from zeroflaw.listing import (
    Files,
    count,
    folder_name,
    found_in,
    is_folder,
    list_folder,
    names,
    require_folder,
    scan,
)
from zeroflaw.records import Category, Dataset

from .category import GOOD
from .labelled import Labelled, Row, note_one_sided, read_rows
from .mvtec import open_mvtec
from .tables import read_label, read_table

_SPLIT = Path("split_csv") / "1cls.csv"
_IMAGES = Path("Data") / "Images"
_MASKS = Path("Data") / "Masks"
_COLUMNS = ("object", "split", "label", "image", "mask")


def is_visa(folder: Path) -> bool:
    """Whether a folder looks like VisA as downloaded, one class of it, or the folder above ``1cls``."""
    if is_folder(folder / "split_csv") or is_folder(folder / _IMAGES):
        return True
    children = list_folder(folder).folders
    return _converted(folder) or any(is_folder(child / _IMAGES) for child in children)


def open_visa(root: str | os.PathLike[str]) -> Dataset:
    """List VisA without opening an image.

    Args:
        root: the folder with ``split_csv``, the folder of one class beside it, or the folder of the converted
            form (with or without its ``1cls``).

    Raises:
        DatasetError: ``root`` is no folder or has neither form; the table is missing, lacks a column, or says
            two things of one image; none of its images is there.
    """
    folder = require_folder(root)
    if is_folder(folder / _IMAGES):
        return _from_table(folder.resolve().parent, folder.resolve().name)
    if (folder / _SPLIT).is_file() or is_folder(folder / "split_csv"):
        return _from_table(folder)
    if _converted(folder):
        return _as_visa(open_mvtec(folder / "1cls"), folder_name(folder))
    if any(is_folder(child / "test") for child in (folder, *list_folder(folder).folders)):
        return _as_visa(open_mvtec(folder))
    raise DatasetError(
        f"VisA is wanted with {_SPLIT.as_posix()} and <class>/{_IMAGES.as_posix()}, or converted with "
        f"1cls/<class>/test, but '{shown(folder)}' holds {found_in(folder)}; check the path, or unpack the "
        "archive again"
    )


def _converted(folder: Path) -> bool:
    return any(is_folder(child / "test") for child in list_folder(folder / "1cls").folders)


def _as_visa(dataset: Dataset, name: str | None = None) -> Dataset:
    if name is None:
        return replace(dataset, layout="visa")
    categories = []
    for category in dataset:
        train, test = ([replace(r, dataset=name) for r in part] for part in (category.train, category.test))
        categories.append(replace(category, dataset=name, train=tuple(train), test=tuple(test)))
    return Dataset(name, tuple(categories), dataset.problems, "visa")


def _from_table(root: Path, only: str | None = None) -> Dataset:
    table = root / _SPLIT
    if not table.is_file():
        raise DatasetError(
            f"the table '{shown(table)}' is wanted, which says which images are scored, but it is not there; "
            "unpack the archive again"
        )
    rows = _by_class(table)
    if only is not None and only not in rows:
        known = names(sorted(rows), 20)
        raise DatasetError(
            f"'{shown(table)}' has no rows of '{shown(only)}', only of {known}; check the path"
        )
    dataset, files = folder_name(root), Files()
    categories, problems = [], []
    for name in sorted(rows) if only is None else [only]:
        found = read_rows(Labelled(table, root, dataset, name), rows[name], files)
        if found.test:
            categories.append(_finished(found, rows[name]))
        else:
            problems.append(
                f"{name}: none of its {count(len(found.absent), 'test image')} is there, left out."
            )
    if not categories:
        raise DatasetError(
            f"'{shown(table)}' names images, but none of them is in '{shown(root)}', which holds "
            f"{found_in(root)}; unpack the archive again"
        )
    if only is None:
        problems += _strangers(root, set(rows))
    return Dataset(dataset, tuple(categories), tuple(problems), "visa")


def _by_class(table: Path) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for name, row in _rows(table):
        rows.setdefault(name, []).append(row)
    if not rows:
        raise DatasetError(f"rows are wanted in '{shown(table)}', but it has none; unpack the archive again")
    return rows


def _rows(table: Path) -> Iterator[tuple[str, Row]]:
    for line, (name, split, said, image, mask) in read_table(table, _COLUMNS):
        if split not in ("train", "test"):
            raise DatasetError(
                f"'train' or 'test' is wanted in line {line} of '{shown(table)}', but it is "
                f"'{shown(split)}'; unpack the archive again"
            )
        label = read_label(table, line, said)
        if split == "train" and label:
            raise DatasetError(
                f"only good images are wanted for training, but line {line} of '{shown(table)}' has a "
                "defective one; unpack the archive again"
            )
        yield (
            name,
            Row(line, "train" if split == "train" else "test", label, "bad" if label else GOOD, image, mask),
        )


def _finished(found: Labelled, rows: list[Row]) -> Category:
    note_one_sided(found)
    _note_unnamed(found, rows)
    train, test = tuple(found.train), tuple(found.test)
    return Category(
        found.dataset, found.category, train, test, tuple(found.problems), missing=len(found.absent)
    )


def _note_unnamed(found: Labelled, rows: list[Row]) -> None:
    """Name images and masks on disk that no row of the table names."""
    named = {part.casefold() for row in rows for part in (row.image, row.mask)}
    for below, what in ((_IMAGES, "image"), (_MASKS, "mask")):
        where = Path(found.category) / below
        kinds = list_folder(found.root / where).folders
        paths = [(where / kind.name / name).as_posix() for kind in kinds for name in scan(kind)[1]]
        if extra := sorted(path for path in paths if path.casefold() not in named):
            found.note(
                f"{count(len(extra), what)} in no row of {found.table.name}: {names(map(Path, extra))}"
            )


def _strangers(root: Path, known: set[str]) -> list[str]:
    """Name folders with images of a class that the table does not have."""
    strange = [
        child for child in list_folder(root).folders if is_folder(child / _IMAGES) and child.name not in known
    ]
    where = folder_name(root)
    return (
        [f"{where}: classes in no row of {_SPLIT.name} were left out: {names(strange)}."] if strange else []
    )
