"""Sewer-ML (Haurum and Moeslund, CVPR 2021): 1.3 million images of sewer pipes, labels in tables::

    <root>/SewerML_Val.csv         or in a folder of the root; scored
    <root>/SewerML_Train.csv       may be absent; its good images are those of training
    <root>/valid*/*.png            images of the first table, in one folder or several, up to three deep
    <root>/train*/*.png            images of the second

The column ``Defect`` is the label, the 17 codes of :data:`CODES` the kind of defect (``"RB+OB"`` for two);
VA, the level of water, and ND, no defect, are no defects. The labels of ``SewerML_Test.csv`` are not public,
so that it is not used. Where no folder begins with ``val`` (or ``train``) every folder is searched.

Listing reads a table once and every folder once; records are made when they are asked for.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from zeroflaw.errors import DatasetError
from zeroflaw.finding import shown
from zeroflaw.listing import count, folder_name, found_in, names, require_folder, scan
from zeroflaw.records import Category, Dataset, LazyRecords, Record

from .category import GOOD
from .tables import contradiction, read_label, read_table

CODES = (
    *("RB", "OB", "PF", "DE", "FS", "IS", "RO", "IN", "AF"),
    *("BE", "FO", "GR", "PH", "PB", "OS", "OP", "OK"),
)
OBJECT = "sewer pipe"
_NAME = "sewer"
_TABLES = {"train": "SewerML_Train.csv", "val": "SewerML_Val.csv", "test": "SewerML_Test.csv"}
_DEPTH = 3
_Split = Literal["train", "test"]


def is_sewerml(folder: Path) -> bool:
    """Whether a folder, or a folder in it, holds a table of Sewer-ML."""
    return bool(_find_tables(folder))


def open_sewerml(root: str | os.PathLike[str]) -> Dataset:
    """List Sewer-ML without opening an image: one category, the validation images as its test images.

    Raises:
        DatasetError: ``root`` is no folder, has no ``SewerML_Val.csv`` or two of them, or none of the images
            that it names; a table lacks a column or says two things of one image.
    """
    folder = require_folder(root)
    tables = _find_tables(folder)
    if "val" not in tables:
        raise DatasetError(
            f"the table {_TABLES['val']} is wanted in '{shown(folder)}' or a folder in it, but there is only "
            f"{found_in(folder)}; ask for the annotations where the images come from"
        )
    name, problems = folder_name(folder), list[str]()
    test, missing = _split(folder, name, "test", tables["val"], problems)
    if not test:
        raise DatasetError(
            f"images that '{shown(tables['val'])}' names are wanted in folders valid*, but '{shown(folder)}' "
            f"has none of them, only {found_in(folder)}; unpack the images there"
        )
    train: LazyRecords = LazyRecords(0, _no_record)
    if "train" in tables:
        train, _ = _split(folder, name, "train", tables["train"], problems)
    if "test" in tables:
        problems.append(f"{_NAME}: {_TABLES['test']} has no labels and is not used.")
    category = Category(name, _NAME, train, test, tuple(problems), OBJECT, missing)
    return Dataset(name, (category,), (), "sewerml")


def _no_record(number: int) -> Record:
    raise IndexError(number)


def _find_tables(root: Path) -> dict[str, Path]:
    """Return the tables in a folder and in the folders in it, by the part of the data set they are of."""
    kinds = {name.casefold(): part for part, name in _TABLES.items()}
    found: dict[str, Path] = {}
    folders, _ = scan(root)
    for folder in (root, *(root / name for name in sorted(folders))):
        for name in sorted(scan(folder)[1]):
            part = kinds.get(name.casefold())
            if part in found:
                raise DatasetError(
                    f"one {_TABLES[part]} is wanted, but there are '{shown(found[part])}' and "
                    f"'{shown(folder / name)}'; take one of them away"
                )
            if part is not None:
                found[part] = folder / name
    return found


def _split(
    root: Path, dataset: str, split: _Split, table: Path, problems: list[str]
) -> tuple[LazyRecords, int]:
    """Return the records of a table, and how many of its images are not there."""
    defects = _read(table, problems)
    folders, places, extra = _places(root, "train" if split == "train" else "val", defects)
    absent = [name for name in defects if name not in places]
    doubled = [name for name, place in places.items() if place < 0]
    if absent and len(absent) < len(defects):
        of = f"{len(absent)} of {count(len(defects), 'image')}"
        problems.append(f"{_NAME}: {of} of {table.name} are not there and left out: {names(absent)}.")
    elif absent:
        problems.append(f"{_NAME}: none of the {count(len(absent), 'image')} of {table.name} is there.")
    if doubled:
        one = count(len(doubled), "image")
        problems.append(f"{_NAME}: {one} left out that several folders have: {names(sorted(doubled))}.")
    if extra:
        problems.append(
            f"{_NAME}: left out {count(extra, 'file')} in {names(folders)} that {table.name} does not name."
        )
    usable = sorted(
        (place, name)
        for name, place in places.items()
        if place >= 0 and (split == "test" or defects[name] == GOOD)
    )
    return _records(dataset, split, folders, usable, defects), len(absent) + len(doubled)


def _read(table: Path, problems: list[str]) -> dict[str, str]:
    """Return the kind of defect of each image that a table names, ``"good"`` for none."""
    found: dict[str, str] = {}
    kinds: dict[tuple[str, ...], str] = {}  # so that equal kinds are one object, however many images have it
    repeated = []
    for line, (name, said, *marks) in read_table(table, ("Filename", "Defect"), CODES):
        key = tuple(code for code, mark in zip(CODES, marks, strict=True) if mark not in ("", "0", "0.0"))
        defect = kinds.setdefault(key, "+".join(key) or "defect") if read_label(table, line, said) else GOOD
        if name in found:
            if found[name] != defect:
                raise contradiction(table, line, name)
            repeated.append(name)
        else:
            found[name] = defect
    if repeated:
        rows = count(len(repeated), "row")
        problems.append(f"{_NAME}: {rows} of {table.name} repeated an earlier one: {names(repeated)}.")
    return found


def _places(root: Path, prefix: str, wanted: Mapping[str, str]) -> tuple[list[Path], dict[str, int], int]:
    """Look for images in the folders of a split.

    Returns the folders, the number of the folder of each image that is wanted (-1 where several have it), and
    how many files in folders of this split are not wanted.
    """
    listed = [*_walk(root, prefix)]
    folders: list[Path] = []
    places: dict[str, int] = {}
    extra = 0
    for folder, own in listed:
        if not own and any(is_own for _, is_own in listed):
            continue
        number = len(folders)
        folders.append(folder)
        for name in scan(folder)[1]:
            if name in wanted:
                places[name] = -1 if name in places else number
            elif own:
                extra += 1
    return folders, places, extra


def _walk(folder: Path, prefix: str, depth: int = _DEPTH, own: bool = False) -> Iterator[tuple[Path, bool]]:
    """Yield folders, sorted, and whether they or one above them begin with ``prefix``."""
    yield folder, own
    if depth:
        for name in sorted(scan(folder)[0]):
            yield from _walk(folder / name, prefix, depth - 1, own or name.casefold().startswith(prefix))


def _records(
    dataset: str,
    split: _Split,
    folders: list[Path],
    usable: list[tuple[int, str]],
    defects: Mapping[str, str],
) -> LazyRecords:
    places = array("l", [place for place, _ in usable])
    images = [name for _, name in usable]
    kinds = [defects[name] for name in images]

    def make(number: int) -> Record:
        defect = kinds[number]
        image = folders[places[number]] / images[number]
        return Record(dataset, _NAME, split, int(defect != GOOD), defect, None, image, None)

    return LazyRecords(len(images), make)
