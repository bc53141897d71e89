"""Opening a data set of any layout: by its name, by a layout that is given, or by what lies in its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from zeroflaw.errors import DatasetError, UsageError, closest
from zeroflaw.images import shown
from zeroflaw.records import Dataset

from .layouts import LAYOUTS, Layout
from .patterns import GOOD, Problems, collect, open_patterns
from .tables import open_elpv, open_sewerml, open_table, open_visa
from .tree import Tree, names

AUTO = "auto"
_TABLES: Mapping[str, Callable[[str], Dataset]] = {
    "visa": open_visa,
    "sewerml": open_sewerml,
    "elpv": open_elpv,
    "csv": open_table,
}
_NORMAL = [Layout(name="mvtec", train=(pattern,)) for pattern in ("train/{good}/{image}", "{image}")]
_FORMS = ("mvtec-loco", "mvtec-3d", "btad", "mvtec")  # the first that fits
_PARTS = ("train", "test", "ground_truth", "Data")


def open_dataset(
    name_or_root: str | os.PathLike[str],
    layout: str = AUTO,
    *,
    aliases: bool = False,
    ignore: int | None = None,
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
        ignore: the value of pixels in masks of which nothing is known (255 in some data sets); they count
            neither as good nor as flawed.

    Raises:
        UsageError: the layout is unknown.
        DatasetError: nothing is there, it fits no layout or several, or it is not what its layout wants.
    """
    if layout != AUTO and layout not in LAYOUTS:
        near = closest(layout, [*LAYOUTS, AUTO])
        raise UsageError(f"a layout is one of {', '.join([AUTO, *LAYOUTS])}, not '{shown(layout)}'{near}")
    given = os.fspath(name_or_root)
    kind = "elpv" if given == "elpv" and layout == AUTO else layout
    kind = _detected(given) if kind == AUTO else kind
    if kind in _TABLES:
        dataset = open_elpv() if kind == given == "elpv" else _TABLES[kind](given)
    else:
        dataset = open_patterns(Tree(given), LAYOUTS[kind])
    if given == "elpv" and os.path.isdir(given):  # noqa: PTH112 - no Path.is_dir, which may raise
        problem = "elpv: the installed data set is meant, not the folder here; for that write ./elpv."
        dataset = replace(dataset, problems=(*dataset.problems, problem))
    better = LAYOUTS[dataset.layout].aliases if aliases else {}
    dataset = replace(
        dataset,
        categories=tuple(
            replace(category, object=better.get(category.name, category.object), ignore=ignore)
            for category in dataset
        ),
    )
    return _compared(dataset, whole=Path(os.path.abspath(given)).name not in [c.name for c in dataset])  # noqa: PTH100


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
    single, inside = _normal(tree, ""), {name: _normal(tree, name) for name in tree.entries().folders}
    places = {name: layout for name, layout in inside.items() if layout is not None}
    if single is not None and (single is _NORMAL[0] or not places):
        return collect(tree, {"": single})
    if not places or GOOD in places:
        raise DatasetError(
            f"good images are wanted in <product>/ or <product>/train/good/, but '{shown(tree.root)}' holds "
            f"{tree.content()}{', as one product with flawed images does' * bool(places)}; check the path"
        )
    return collect(tree, places)


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


def _compared(dataset: Dataset, *, whole: bool) -> Dataset:
    """Say where a data set is not as published, and count the test images that are missing.

    Where nothing is there of ``train`` nothing is said: a test set without it is measured in full.
    """
    layout = LAYOUTS[dataset.layout]
    categories, beside, there = [], Problems(dataset.name), [category.name for category in dataset]
    for category in dataset:
        known = [int(number) for number in layout.published.get(category.name, "").split("/") if number]
        flawed = sum(record.label for record in category.test) if known else 0
        test = [len(category.test)] if len(known) == 2 else [len(category.test) - flawed, flawed]
        if known and (known[1:] != test or len(category.train) not in (0, known[0])):
            kinds = ("train", "test") if len(known) == 2 else ("train", "good test", "flawed test")
            published, here = (
                ", ".join(f"{number} {kind}" for number, kind in zip(counts, kinds, strict=True))
                for counts in (known, [len(category.train), *test])
            )
            said = f"{category.name}: published are {published} images; here are {here} images."
            missing = max(category.missing, sum(known[1:]) - len(category.test))
            category = replace(category, problems=(*category.problems, said), missing=missing)
        categories.append(category)
    absent = [name for name in layout.published if whole and name not in there]
    beside.note("", "not here {product} of those published", *absent)
    if layout.published and layout.name != "aebad":  # whose videos have no published counts
        strange = (name for name in there if name not in layout.published)
        beside.note("", f"{{product}} not published as a part of {layout.name}", *strange)
    return replace(dataset, categories=tuple(categories), problems=dataset.problems + beside.sentences())


def _detected(given: str) -> str:
    """Return the layout of what lies at a path.

    Raises:
        DatasetError: there is none, or more than one.
    """
    if given.lower().endswith((".csv", ".tsv")) and os.path.isfile(given):  # noqa: PTH113 - see above
        return "csv"
    if given in LAYOUTS and not os.path.lexists(given):
        raise DatasetError(
            f"the folder of {LAYOUTS[given].title} is wanted, but there is none called '{given}' here; get "
            f"the data set from {LAYOUTS[given].source} and give its folder"
        )
    tree = Tree(given)
    found, here = _matches(tree), tree.root.resolve()
    for folder in list(here.parents)[:3] if set(found) <= {"folder"} else ():
        if here.relative_to(folder).parts[0] in _PARTS and set(_matches(Tree(folder))) - {"folder"}:
            raise DatasetError(
                f"a data set or a category is wanted, but '{shown(tree.root)}' is a part of a category; "
                f"this would work: {_advice([folder])}"
            )
    if len(found) == 1:
        return next(iter(found))
    if found:
        seen = "; ".join(f"{layout} in {where}" for layout, where in found.items())
        raise DatasetError(
            f"one data set is wanted, but '{shown(tree.root)}' mixes layouts ({seen}); give the folder of "
            "one, or say which is meant with layout (--layout)"
        )
    near = _advice(tree.root / name for name in tree.entries().folders)
    layouts = "; ".join(dict.fromkeys(layout.picture[0] for layout in LAYOUTS.values()))
    raise DatasetError(
        f"a data set is wanted ({layouts}), but '{shown(tree.root)}' holds {tree.content()} and nothing that "
        "says which images are good; "
        + (f"these would work: {near}" if near else "sort them into good/ and other folders, or detect them")
    )


def _advice(folders: Iterable[Path]) -> str:
    """Name the folders that could be opened, each with a layout where it does not show which is meant."""
    fitting = []
    for folder in folders:
        if found := _matches(Tree(folder)):
            said = f" with --layout {' or '.join(found)}" if len(found) > 1 else ""
            fitting.append(f"'{folder}'{said}")
    return names(fitting, 8)


def _matches(tree: Tree) -> dict[str, str]:
    """Return each layout that a folder looks like, and where that shows."""
    found = {
        name: "the folder itself"
        for name, layout in LAYOUTS.items()
        if any(tree.has(sign) for sign in layout.signs) and (name != "elpv" or _is_elpv(tree))
    }
    forms: dict[str, list[str]] = {}
    for place in [""] if tree.has("test") else tree.entries().folders:
        if form := _form(tree, place):
            forms.setdefault(form, []).append(place or tree.name)
    return found | {form: names(places) for form, places in forms.items()}


def _form(tree: Tree, place: str) -> str | None:
    """Return which variation of the layout of MVTec AD a category has."""
    if any(tree.has(mark, place) for mark in LAYOUTS["aebad"].marks):
        return None
    fit = [name for name in _FORMS if any(tree.has(form, place) for form in LAYOUTS[name].forms)]
    return next((name for name in fit if name != "btad" or not tree.has("test/good", place)), None)


def _is_elpv(tree: Tree) -> bool:
    table = tree.root / "labels.csv"
    if not table.is_file():  # a pipe might never end
        return False
    with table.open("rb") as file:
        return file.read(11) == b"images/cell"
