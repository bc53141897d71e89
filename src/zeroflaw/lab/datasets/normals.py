"""Good images only, for detectors that learn from other products::

    <root>/<product>/000.jpg                 the images of a product in its folder, or
    <root>/<product>/train/good/000.jpg      as in the layout of MVTec AD

A root that holds ``train/good``, or images and no product, is one product. Extensions may be mixed; what is
left out is named in the problems, except hidden files and, beside ``train``, the other parts of the layout.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from zeroflaw.errors import DatasetError
from zeroflaw.finding import shown
from zeroflaw.listing import (
    Listing,
    count,
    folder_name,
    found_in,
    is_folder,
    list_folder,
    names,
    require_folder,
)
from zeroflaw.records import Category, Dataset, Record

from .opening import _matches, open_dataset

_GOOD = "good"


def open_normals(root: str | os.PathLike[str]) -> Dataset:
    """List good images of several products without opening one; all become training records.

    Args:
        root: a folder with one folder for each product, which names the data set; or the folder of one
            product, then the data set is named after the folder above.

    Raises:
        DatasetError: ``root`` is no folder, cannot be read, holds no image where one is wanted, or looks like
            the folders of defects of one product, which are no products.
    """
    folder = require_folder(root)
    listing, name = list_folder(folder), folder_name(folder)
    whole = list_folder(folder / "train" / _GOOD).images
    inside = [] if whole else [child for child in listing.folders if _source(child) is not None]
    if not inside and (whole or listing.images):
        above = folder_name(folder.resolve().parent)
        return Dataset(above, (_category(folder, above, name),))
    if not inside:
        raise DatasetError(
            "good images are wanted in <product>/ or <product>/train/good/, but "
            f"'{shown(folder)}' has no such folder, only {found_in(folder)}; check the path"
        )
    if any(child.name == _GOOD for child in inside):
        raise DatasetError(
            f"a folder of products is wanted, but '{shown(folder)}' has a folder 'good' among "
            f"{names(inside)}, as one product with flawed images has; give that folder itself, or rename it"
        )
    categories = tuple(_category(child, name, child.name) for child in inside)
    return Dataset(name, categories, tuple(_beside(name, listing, inside)))


def _beside(name: str, listing: Listing, inside: list[Path]) -> Iterator[str]:
    if left_out := [child for child in listing.folders if child not in inside]:
        yield f"{shown(name)}: folders without good images were left out: {names(left_out)}."
    if listing.images:
        yield f"{shown(name)}: images beside the products were left out: {names(listing.images)}."


def open_auxiliary(root: str | os.PathLike[str]) -> Dataset:
    """List a data set to learn from: one of any known layout, or one of good images only.

    The first is tried first; see `open_dataset` and `open_normals`.

    Raises:
        DatasetError: ``root`` is neither.
    """
    folder = Path(root)
    if is_folder(folder) and not _matches(folder):
        return open_normals(root)
    return open_dataset(root)


def _source(folder: Path) -> Path | None:
    """Return the folder that holds the good images of a product, or None where there are none."""
    return next((place for place in (folder / "train" / _GOOD, folder) if list_folder(place).images), None)


def _category(folder: Path, dataset: str, name: str) -> Category:
    source = _source(folder)
    assert source is not None
    listing, where = list_folder(source), shown(source.relative_to(folder.parent).as_posix())
    problems = []
    if listing.others:
        files = count(len(listing.others), "entry", "entries")
        problems.append(f"{where}: left out {files} that cannot be images: {names(listing.others)}.")
    if listing.folders:
        problems.append(f"{where}: folders inside were left out: {names(listing.folders)}.")
    beside = list_folder(folder).images if source != folder else ()
    if beside:
        problems.append(f"{shown(name)}: images beside train/good were left out: {names(beside)}.")
    train = tuple(Record(dataset, name, "train", 0, _GOOD, None, path, None) for path in listing.images)
    return Category(dataset, name, train, (), tuple(problems))
