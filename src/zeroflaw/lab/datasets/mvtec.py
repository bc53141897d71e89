"""The folder layout of MVTec AD (Bergmann et al., CVPR 2019), which many data sets share, MPDD among them::

    <root>/<category>/train/good/000.png
    <root>/<category>/test/good/000.png
    <root>/<category>/test/<defect>/000.png
    <root>/<category>/ground_truth/<defect>/000_mask.png     (or 000.png)

``train`` and ``ground_truth`` may be absent. Kinds of defect are whatever folders there are. Extensions may
be mixed. Nothing is skipped silently, except hidden files and files beside the folders above that are no
images, such as a licence.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from zeroflaw.errors import DatasetError
from zeroflaw.finding import shown
from zeroflaw.listing import Listing, folder_name, list_folder, names, require_folder
from zeroflaw.records import Dataset

from .category import Form, read_category

_MVTEC = Form("mvtec")


def open_mvtec(root: str | os.PathLike[str]) -> Dataset:
    """List a data set in the layout of MVTec AD without opening an image.

    Args:
        root: the folder of the data set, which names it, or the folder of a single category; then the data
            set is named after the folder above, so that results of one category and of all have one name.

    Raises:
        DatasetError: ``root`` is no folder, cannot be read, or holds no category with a test image.
    """
    return open_form(root, _MVTEC)


def open_form(root: str | os.PathLike[str], form: Form) -> Dataset:
    """List a data set in a variation of this layout; see :func:`open_mvtec`."""
    folder = require_folder(root)
    if form.is_category(folder):
        above = folder_name(folder.resolve().parent)
        category = read_category(folder, above, folder_name(folder), form)
        return _not_empty(folder, form, Dataset(above, (category,), layout=form.layout))
    listing = list_folder(folder)
    inside = [child for child in listing.folders if form.is_category(child)]
    if not inside:
        raise DatasetError(_nothing_here(folder, form, listing.folders))
    name = folder_name(folder)
    categories = tuple(read_category(child, name, child.name, form) for child in inside)
    beside = _beside(name, form, listing, inside)
    return _not_empty(folder, form, Dataset(name, categories, beside, form.layout))


def _not_empty(folder: Path, form: Form, dataset: Dataset) -> Dataset:
    if any(category.test for category in dataset):
        return dataset
    problems = " ".join([*dataset.problems, *(p for category in dataset for p in category.problems)])
    wanted = f"images are wanted in {_wanted(form)}"
    raise DatasetError(f"{wanted}, but '{shown(folder)}' has none there; add them ({problems})")


def _wanted(form: Form) -> str:
    return f"<category>/{form.below(form.good)} and <category>/{form.below('<defect>')}"


def _nothing_here(folder: Path, form: Form, folders: Sequence[Path]) -> str:
    """Say what is wanted where the layout is another one."""
    without = f"its folders ({names(folders)}) hold no folder '{form.marker}'"
    fitting = _fitting(folder, form)
    advice = f"these would work: {fitting}" if fitting else "check the path and the layout"
    return (
        f"a data set with folders {_wanted(form)} is wanted, "
        f"but '{shown(folder)}' is none: {without if folders else 'it holds no folder'}; {advice}"
    )


def _fitting(folder: Path, form: Form, most: int = 8) -> str:
    """Name the nearby folders that :func:`open_form` would accept: those below, or those above."""
    categories = [path for path in folder.glob("[!.]*/[!.]*") if form.is_category(path)]
    above = [parent for parent in list(folder.resolve().parents)[:2] if form.is_category(parent)]
    fitting = [f"'{shown(path)}'" for path in sorted({path.parent for path in categories}) or above]
    return ", ".join(fitting[:most]) + (f" and {len(fitting) - most} more" if len(fitting) > most else "")


def _beside(name: str, form: Form, listing: Listing, categories: Sequence[Path]) -> tuple[str, ...]:
    problems = []
    if left_out := [path for path in listing.folders if path not in set(categories)]:
        problems.append(f"{name}: folders without a folder '{form.marker}' were left out: {names(left_out)}.")
    if listing.images:
        problems.append(f"{name}: images beside the categories were left out: {names(listing.images)}.")
    return tuple(problems)
