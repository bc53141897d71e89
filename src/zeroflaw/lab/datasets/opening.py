"""Opening a data set of any layout: by its name, by a layout that is given, or by what lies in its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from zeroflaw.errors import DatasetError, UsageError, closest
from zeroflaw.images import shown
from zeroflaw.records import Category, Dataset

from .layouts import LAYOUTS, Layout
from .patterns import collect, open_patterns
from .tables import is_elpv, open_elpv, open_sewerml, open_table, open_visa
from .tree import Tree, count, names

AUTO = "auto"
_TABLES: Mapping[str, Callable[[str], Dataset]] = {
    "visa": open_visa,
    "sewerml": open_sewerml,
    "elpv": open_elpv,
    "csv": open_table,
}
_NORMAL = [
    Layout(name="mvtec", title="", licence="", source="", note="", train=(pattern,))
    for pattern in ("train/{good}/{image}", "{image}")
]
_PARTS = ("train", "test", "ground_truth", "Data")
_EXPECTED = (
    "<category>/test/good (MVTec AD, MPDD, LOCO), <category>/test/ok (BTAD), split_csv/1cls.csv or 1cls/ "
    "(VisA), AeBAD_S/ or AeBAD_V/, SewerML_Val.csv, kos01/ (KolektorSDD), good/ (or OK/, normal/) beside other "
    "folders, or a .csv file with the columns image and label"
)


def open_dataset(
    name_or_root: str | os.PathLike[str], layout: str = AUTO, *, aliases: bool = False
) -> Dataset:
    """List a data set without opening an image (but for the masks of KolektorSDD, which are its labels).

    Counts that differ from those published are said in ``problems``, for layouts that are of one data set.

    Args:
        name_or_root: the folder of a data set or of one category of it, a table of labels, or the name of a
            data set that is installed (``"elpv"``).
        layout: a key of :data:`LAYOUTS`, or ``"auto"`` to see what lies in the folder. The layout of MVTec AD
            is that of many data sets: ``"mvtec-ad"`` and ``"mpdd"`` are taken only when they are named.
        aliases: call products by the better words of :attr:`Layout.aliases` (``macaroni2`` by ``macaroni``)
            in prompts, in place of their literal names.

    Raises:
        UsageError: the layout is unknown.
        DatasetError: nothing is there, it fits no layout or several, or it is not what its layout wants.
    """
    if layout != AUTO and layout not in LAYOUTS:
        near = closest(layout, [*LAYOUTS, AUTO])
        raise UsageError(f"a layout is one of {', '.join([AUTO, *LAYOUTS])}, not '{shown(layout)}'{near}")
    given = os.fspath(name_or_root)
    if given == "elpv" and layout in (AUTO, "elpv"):
        dataset = open_elpv()
        if os.path.isdir(given):  # noqa: PTH112 - no Path yet
            problem = "elpv: the installed data set is meant, not the folder here; for that write ./elpv."
            dataset = replace(dataset, problems=(*dataset.problems, problem))
    else:
        kind = _detected(given) if layout == AUTO else layout
        opens = _TABLES.get(kind)
        dataset = opens(given) if opens else open_patterns(Tree(given), LAYOUTS[kind])
    better = LAYOUTS[dataset.layout].aliases if aliases else {}
    categories = [_compared(replace(c, object=better.get(c.name, c.object)), dataset.layout) for c in dataset]
    dataset = replace(dataset, categories=tuple(categories))
    return _whole(dataset, only=Path(os.path.abspath(given)).name in [c.name for c in dataset])  # noqa: PTH100


def open_mvtec(root: str | os.PathLike[str]) -> Dataset:
    """List a data set in the layout of MVTec AD; see `open_dataset`."""
    return open_dataset(root, "mvtec")


def open_normals(root: str | os.PathLike[str]) -> Dataset:
    """List good images of several products without opening one; all become training records.

    Args:
        root: a folder with one folder for each product, which names the data set; or the folder of one
            product, then the data set is named after the folder above. The images of a product lie in its
            folder or in ``train/good``.

    Raises:
        DatasetError: ``root`` is no folder, cannot be read, holds no image where one is wanted, or looks like
            the folders of defects of one product, which are no products.
    """
    tree = Tree(root)
    places = {} if tree.has("train/good/{image}") else {p: (p, _normal(tree, p)) for p in tree.list().folders}
    inside = {place: (name, layout) for place, (name, layout) in places.items() if layout is not None}
    if "good" in inside:
        raise DatasetError(
            f"a folder of products is wanted, but '{shown(tree.root)}' has a folder 'good' among "
            f"{names(inside)}, as one product with flawed images has; give that folder itself, or rename it"
        )
    if inside:
        return collect(tree, inside, tree.name)
    if (layout := _normal(tree, "")) is None:
        raise DatasetError(
            "good images are wanted in <product>/ or <product>/train/good/, but "
            f"'{shown(tree.root)}' has no such folder, only {tree.content()}; check the path"
        )
    return collect(tree, {"": (tree.name, layout)}, Tree(tree.root.resolve().parent).name)


def _normal(tree: Tree, place: str) -> Layout | None:
    return next((layout for layout in _NORMAL if tree.has(layout.train[0], place)), None)


def open_auxiliary(root: str | os.PathLike[str]) -> Dataset:
    """List a data set to learn from: one of any known layout, or one of good images only.

    The first is tried first; see `open_dataset` and `open_normals`.

    Raises:
        DatasetError: ``root`` is neither.
    """
    if os.path.isdir(root) and not _matches(Tree(root)):  # noqa: PTH112 - Path.is_dir may raise
        return open_normals(root)
    return open_dataset(root)


def _compared(category: Category, layout: str) -> Category:
    """Say where the counts are not the published ones, and how many test images are missing.

    Where nothing is there of ``train`` nothing is said: a test set without it is measured in full.
    """
    known = LAYOUTS[layout].published.get(category.name)
    if known is None:
        return category
    train, *test = map(int, known.split("/"))  # the number of all test images, or of good and flawed ones
    flawed = sum(record.label for record in category.test)
    here = [len(category.test)] if len(test) == 1 else [len(category.test) - flawed, flawed]
    if here == test and len(category.train) in (0, train):
        return category
    kinds = ["test images"] if len(test) == 1 else ["good", "flawed test images"]
    published, found = (
        f"{number} train images, {' and '.join(f'{n} {kind}' for n, kind in zip(counts, kinds, strict=True))}"
        for number, counts in ((train, test), (len(category.train), here))
    )
    return replace(
        category,
        problems=(*category.problems, f"{category.name}: published are {published}; here are {found}."),
        missing=max(category.missing, sum(test) - len(category.test)),
    )


def _whole(dataset: Dataset, *, only: bool) -> Dataset:
    """Say which of the published categories are not there, unless one category is meant, and which are strange."""
    published, there = LAYOUTS[dataset.layout].published, {category.name for category in dataset}
    problems = list(dataset.problems)
    if not only and (absent := [name for name in published if name not in there]):
        of = count(len(published), "category", "categories")
        problems.append(f"{dataset.name}: {of} are published, not here: {names(absent, 20)}.")
    # AeBAD_V has no published counts; in the others a name that is not known is of another data set.
    if published and dataset.layout != "aebad" and (strange := sorted(there - set(published))):
        problems.append(f"{dataset.name}: not published as a part of {dataset.layout}: {names(strange, 20)}.")
    return replace(dataset, problems=tuple(problems))


def _detected(given: str) -> str:
    """Return the layout of what lies at a path.

    Raises:
        DatasetError: there is none, or more than one.
    """
    if given.lower().endswith((".csv", ".tsv")) and os.path.isfile(given):  # noqa: PTH113 - Path.is_file may raise
        return "csv"
    if given in LAYOUTS and not os.path.lexists(given):
        known = LAYOUTS[given]
        raise DatasetError(
            f"the folder of {known.title} is wanted, but there is none called '{given}' here; get the data "
            f"set from {known.source} and give its folder"
        )
    tree = Tree(given)
    found = _matches(tree)
    above = [Path(path) for path in list(tree.root.resolve().parents)[:3]]
    if set(found) <= {"folder"}:
        for folder in above:
            part = tree.root.resolve().relative_to(folder).parts[0]
            if part in _PARTS and set(_matches(Tree(folder))) - {"folder"}:
                raise DatasetError(
                    f"a data set or a category of one is wanted, but '{shown(tree.root)}' is a part of a "
                    f"category; this would work: {_advice([folder])}"
                )
    if len(found) == 1:
        return next(iter(found))
    if found:
        seen = "; ".join(f"{layout} in {where}" for layout, where in found.items())
        raise DatasetError(
            f"one data set is wanted, but '{shown(tree.root)}' mixes layouts ({seen}); give the folder of one, "
            "or say which is meant with layout (--layout)"
        )
    inside = _advice(tree.root / name for name in tree.list().folders)
    if tree.list().images and not inside:
        raise DatasetError(
            f"labels are wanted, but '{shown(tree.root)}' holds {tree.content()} and nothing that says which are "
            "good; sort them into good/ and other folders, or give a table with the columns image and label; "
            "for images without labels there is 'zeroflaw detect'"
        )
    near = inside or _advice(above[:2])
    raise DatasetError(
        f"a data set is wanted, '{shown(tree.root)}' is none: expected {_EXPECTED}; found {tree.content()}; "
        f"{f'these would work: {near}' if near else 'check the path'}"
    )


def _advice(folders: Iterable[Path], most: int = 8) -> str:
    """Name the folders that could be opened, each with a layout where it does not show which is meant."""
    fitting = []
    for folder in folders:
        if found := _matches(Tree(folder)):
            said = f" with --layout {' or '.join(found)}" if len(found) > 1 else ""
            fitting.append(f"'{shown(folder)}'{said}")
    return ", ".join(fitting[:most]) + (f" and {len(fitting) - most} more" if len(fitting) > most else "")


def _matches(tree: Tree) -> dict[str, str]:
    """Return each layout that a folder looks like, and where that shows."""
    found = {
        name: "the folder itself"
        for name, layout in LAYOUTS.items()
        if any(tree.has(sign) for sign in layout.signs) and (name != "elpv" or is_elpv(tree))
    }
    forms: dict[str, list[str]] = {}
    for place in [""] if tree.has("test") else tree.list().folders:
        if form := _form(tree, place):
            forms.setdefault(form, []).append(place or tree.name)
    return found | {form: names(places) for form, places in forms.items()}


def _form(tree: Tree, place: str) -> str | None:
    """Return which variation of the layout of MVTec AD a category has."""
    if any(tree.has(mark, place) for mark in LAYOUTS["aebad"].marks):
        return None
    btad = not tree.has("test/good", place)
    for name in ("mvtec-loco", "btad", "mvtec") if btad else ("mvtec-loco", "mvtec"):
        if any(tree.has(form, place) for form in LAYOUTS[name].forms):
            return name
    return None
