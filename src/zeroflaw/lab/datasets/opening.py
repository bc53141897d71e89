"""Opening a data set of any layout: by its name, by a layout that is given, or by what lies in its folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from zeroflaw.errors import DatasetError, UsageError, closest
from zeroflaw.finding import shown
from zeroflaw.listing import folder_name, found_in, is_folder, list_folder, names, require_folder
from zeroflaw.records import Dataset

from .aebad import is_aebad
from .btad import BTAD
from .category import GOOD, MASKS
from .elpv import NAME as ELPV
from .elpv import is_elpv, open_elpv
from .folders import is_sorted, refuse_unlabelled
from .kolektor import is_kolektor
from .loco import KINDS
from .published import compare
from .registry import LAYOUTS
from .sewerml import is_sewerml
from .visa import is_visa

AUTO = "auto"
_WHOLE = {
    "visa": is_visa,
    "aebad": is_aebad,
    "sewerml": is_sewerml,
    "kolektorsdd": is_kolektor,
    "elpv": is_elpv,
    "folder": is_sorted,
}
_PARTS = ("train", "test", MASKS)
_EXPECTED = (
    "<category>/test/good (MVTec AD, MPDD, LOCO), <category>/test/ok (BTAD), split_csv/1cls.csv or 1cls/ "
    "(VisA), AeBAD_S/ or AeBAD_V/, SewerML_Val.csv, kos01/ (KolektorSDD), good/ beside other folders, or a "
    ".csv file with the columns image and label"
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
    if given == ELPV and layout in (AUTO, ELPV):
        dataset = _by_name(given)
    else:
        kind = LAYOUTS[_detected(Path(given)) if layout == AUTO else layout]
        dataset = kind.opens(given)
    whole = folder_name(Path(given)) not in [category.name for category in dataset]
    return _called(compare(dataset, whole=whole), aliases=aliases)


def _by_name(name: str) -> Dataset:
    dataset = open_elpv()
    if not is_folder(Path(name)):
        return dataset
    problem = f"{name}: the installed data set is meant, not the folder here; for that write ./{name}."
    return replace(dataset, problems=(*dataset.problems, problem))


def _called(dataset: Dataset, *, aliases: bool) -> Dataset:
    known = LAYOUTS[dataset.layout].aliases if aliases else {}
    categories = (replace(c, object=known.get(c.name, c.object)) for c in dataset)
    return replace(dataset, categories=tuple(categories)) if known else dataset


def _detected(path: Path) -> str:
    """Return the layout of what lies at a path.

    Raises:
        DatasetError: there is none, or more than one.
    """
    if path.suffix.lower() == ".csv" and path.is_file():
        return "csv"
    if str(path) in LAYOUTS and not os.path.lexists(path):
        known = LAYOUTS[str(path)]
        raise DatasetError(
            f"the folder of {known.title} is wanted, but there is none called '{path}' here; get the data "
            f"set from {known.source} and give its folder"
        )
    folder = require_folder(path)
    found = _matches(folder)
    if set(found) <= {"folder"}:
        _check_not_inside(folder)
    if len(found) == 1:
        return next(iter(found))
    if found:
        seen = "; ".join(f"{layout} in {where}" for layout, where in found.items())
        raise DatasetError(
            f"one data set is wanted, but '{shown(folder)}' mixes layouts ({seen}); give the folder of one, "
            "or say which is meant with layout (--layout)"
        )
    fitting = _fitting(folder)
    if not fitting:
        refuse_unlabelled(folder)
    advice = f"these would work: {fitting}" if fitting else "check the path"
    raise DatasetError(
        f"a data set is wanted, '{shown(folder)}' is none: expected {_EXPECTED}; found {found_in(folder)}; "
        f"{advice}"
    )


def _matches(folder: Path) -> dict[str, str]:
    """Return each layout that a folder looks like, and where that shows."""
    found = {layout: "the folder itself" for layout, fits in _WHOLE.items() if fits(folder)}
    places = [folder] if is_folder(folder / "test") else list_folder(folder).folders
    forms: dict[str, list[Path]] = {}
    for place in places:
        if is_folder(place / "test") and not is_aebad(place):
            forms.setdefault(_form(place), []).append(place)
    return found | {layout: names(paths) for layout, paths in forms.items()}


def _form(category: Path) -> str:
    """Return which variation of the layout of MVTec AD a category has."""
    test = category / "test"
    if any(is_folder(test / kind) for kind in KINDS):
        return "mvtec-loco"
    if not is_folder(test / GOOD) and any(is_folder(test / kind) for kind in (BTAD.good, "ko")):
        return "btad"
    return "mvtec"


def _check_not_inside(folder: Path) -> None:
    """Refuse a part of a category, such as its folder ``test``, which looks like sorted photos.

    Raises:
        DatasetError: the folder lies in ``test``, ``train`` or ``ground_truth`` of a category.
    """
    inside = folder.resolve()
    for above in list(inside.parents)[:2]:
        if is_folder(above / "test") and inside.relative_to(above).parts[0] in _PARTS:
            raise DatasetError(
                f"a data set or a category of one is wanted, but '{shown(folder)}' is a part of a category; "
                f"this would work: '{shown(above)}'"
            )


def _fitting(folder: Path, most: int = 8) -> str:
    """Name the folders in a folder, or above it, that could be opened."""
    near = [child for child in list_folder(folder).folders if len(_matches(child)) == 1]
    near = near or [above for above in list(folder.resolve().parents)[:2] if len(_matches(above)) == 1]
    paths = [f"'{shown(path)}'" for path in near]
    return ", ".join(paths[:most]) + (f" and {len(paths) - most} more" if len(paths) > most else "")
