"""Anybody's own photos, sorted into folders or labelled in a table::

    <root>/good/*                         <root>/<category>/good/*
    <root>/<any other name>/*      or     <root>/<category>/<any other name>/*
    <root>/train/good/*                   good images of training, if there are any
    <root>/ground_truth/<name>/*          masks as in the layout of MVTec AD, if there are any

    <name>.csv      columns image, label and, if there are masks, mask; paths relative to the table

A label is 0 or ``good`` (``normal``, ``ok``), or 1 or ``defective`` (``bad``, ``anomaly``, ...). Nothing can
be measured on photos without labels, which is said.
"""

from __future__ import annotations

import os
from pathlib import Path

from zeroflaw.errors import DatasetError
from zeroflaw.finding import shown
from zeroflaw.listing import Files, count, folder_name, list_folder, require_folder
from zeroflaw.records import Category, Dataset

from .category import GOOD, MASKS, Form
from .labelled import Labelled, Row, note_one_sided, read_rows
from .mvtec import open_form
from .tables import columns, read_label, read_table

FOLDERS = Form("folder", test="")
_COLUMNS = ("image", "label")
_PARTS = ("train", "test", "validation", MASKS)


def is_sorted(folder: Path) -> bool:
    """Whether a folder, or one in it, sorts images into ``good`` and other folders."""
    children = [child for child in list_folder(folder).folders if child.name not in _PARTS]
    return FOLDERS.is_category(folder) or any(FOLDERS.is_category(child) for child in children)


def is_table(path: Path) -> bool:
    """Whether a file is a table with the columns that are wanted."""
    return path.suffix.lower() == ".csv" and set(_COLUMNS) <= set(columns(path))


def open_folders(root: str | os.PathLike[str]) -> Dataset:
    """List photos that are sorted into ``good`` and other folders, which name the kinds of defect.

    Args:
        root: the folder above ``good``, or the folder of several such ones.

    Raises:
        DatasetError: ``root`` is no folder, cannot be read, or nothing in it says which images are good.
    """
    folder = require_folder(root)
    if not is_sorted(folder):
        refuse_unlabelled(folder)
    return open_form(folder, FOLDERS)


def refuse_unlabelled(folder: Path) -> None:
    """Raise an error for a folder of images that nothing labels.

    Raises:
        DatasetError: the folder holds images, and no table that labels them.
    """
    listing = list_folder(folder)
    if not listing.images:
        return
    tables = [f"'{shown(path)}'" for path in listing.others if is_table(path)]
    advice = (
        f"give the table: {', '.join(tables)}"
        if tables
        else "sort them into good/ and other folders, or write a table with the columns image and label; "
        "for images without labels there is 'zeroflaw detect'"
    )
    raise DatasetError(
        f"labels are wanted, but '{shown(folder)}' holds {count(len(listing.images), 'image')} and "
        f"nothing that says which are good; {advice}"
    )


def open_table(path: str | os.PathLike[str]) -> Dataset:
    """List the images that a table labels, without opening one; all are test images of one category.

    The table names the category. A column ``mask`` may name the mask of each defective image.

    Raises:
        DatasetError: the table cannot be read, lacks a column, has a label that is none, says two things of
            one image, or names no image that is there.
    """
    table = Path(path)
    root = table.parent
    rows = []
    for line, (image, said, mask) in read_table(table, _COLUMNS, ("mask",)):
        label = read_label(table, line, said)
        rows.append(Row(line, "test", label, "defective" if label else GOOD, image, mask))
    if not rows:
        raise DatasetError(
            f"rows are wanted in '{shown(table)}', but it has only a first line; add the images"
        )
    found = read_rows(Labelled(table, root, folder_name(root), table.stem), rows, Files())
    if not found.test:
        raise DatasetError(
            f"images that '{shown(table)}' names are wanted, but none of {count(len(rows), 'row')} has a "
            f"file, for one '{shown(root / rows[0].image)}'; paths are relative to the table"
        )
    note_one_sided(found)
    category = Category(
        found.dataset, found.category, (), tuple(found.test), tuple(found.problems), missing=len(found.absent)
    )
    return Dataset(found.dataset, (category,), (), "csv")
