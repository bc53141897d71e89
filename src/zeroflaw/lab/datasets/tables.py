"""Data sets whose tables say what is good: VisA, ELPV, Sewer-ML, and anybody's own table.

A row says split, kind of defect and mask of an image. Files are looked up and never opened.

- VisA (Zou et al., ECCV 2022): ``split_csv/1cls.csv`` is the split of one-class methods.
- ELPV (Buerhop-Lutz et al., EU PVSEC 2018): ``labels.csv`` holds path, probability of a defect and kind of
  module, with blanks between them. Cells that people were not sure of (1/3, 2/3) are left out.
- Sewer-ML (Haurum and Moeslund, CVPR 2021): the column ``Defect`` is the label, 17 codes are the kind of defect
  (``"RB+OB"`` for two). The validation images are scored: the labels of the test images are not public.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from zeroflaw.errors import DatasetError
from zeroflaw.images import brief, shown
from zeroflaw.records import Category, Dataset, LazyRecords, Record, Split

from .layouts import LAYOUTS
from .patterns import GOOD, Problems, open_patterns, say_incomplete
from .tree import Tree, count, join, names

LAZY_FROM = 100_000
"""From so many images on, records are made when they are asked for."""

CODES = (
    *("RB", "OB", "PF", "DE", "FS", "IS", "RO", "IN", "AF"),
    *("BE", "FO", "GR", "PH", "PB", "OS", "OP", "OK"),
)
_GOOD = ("0", "0.0", "false", "good", "normal", "ok")
_FLAWED = ("1", "1.0", "true", "anomaly", "anomalous", "bad", "defect", "defective", "flawed", "ko", "ng")
_LABELS = dict.fromkeys(_GOOD, False) | dict.fromkeys(_FLAWED, True)
_SPLITS: dict[str, Split | None] = {
    "test": "test",
    "train": "train",
    "val": None,
    "validation": None,
    "": "test",
}
_CELL = re.compile(r"(\S+)\s+(0(?:\.\d+)?|1(?:\.0*)?)\s+(\S+)")  # a line of ELPV
T = TypeVar("T")


class Row(NamedTuple):
    """One row of a table; the split None is that of validation, which is not used."""

    line: int
    image: str
    defect: str
    split: Split | None = "test"
    mask: str = ""
    domain: str | None = None


_Facts = tuple[Split | None, str, str, str | None]  # split, defect, mask, domain


def read_table(
    path: Path, wanted: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line and its values: those ``wanted``, then those ``optional``, stripped.

    Commas, semicolons or tabs part the columns, which come in any order among others, in upper or lower case;
    an optional one that is not there is empty. Lines without any value are passed over.

    Raises:
        DatasetError: the file cannot be read, lacks a wanted column, has one twice, or a row is too short.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            comma = max(",;\t", key=first.count)
            header = [title.strip().casefold() for title in next(csv.reader([first], delimiter=comma), [])]
            for title in (*wanted, *optional):
                number = header.count(title.casefold())
                if number > 1 or (number == 0 and title in wanted):
                    has = "more than one of that name" if number else f"only {names(header, 12) or 'nothing'}"
                    raise DatasetError(
                        f"a column '{title}' is wanted in '{shown(path)}' (columns {', '.join(wanted)}), but the "
                        f"table has {has}; correct its first line"
                    )
            folded = [title.casefold() for title in (*wanted, *optional)]
            places = [header.index(title) if title in header else -1 for title in folded]
            least = max(places[: len(wanted)]) + 1
            for number, row in enumerate(csv.reader(file, delimiter=comma), 2):
                if len(row) >= least:
                    yield number, [row[at].strip() if 0 <= at < len(row) else "" for at in places]
                elif any(cell.strip() for cell in row):
                    raise DatasetError(
                        f"line {number} of '{shown(path)}' should have at least {least} values but has "
                        f"{len(row)}; complete it"
                    )
    except (OSError, csv.Error, ValueError) as error:
        raise DatasetError(
            f"a table in UTF-8 is wanted, but '{shown(path)}' cannot be read ({brief(error)}); check the path, "
            "or save it as one"
        ) from error


def _meant(table: Path, line: int, word: str, what: str, words: Mapping[str, T]) -> T:
    """Return what a word of a table means."""
    if word.casefold() not in words:
        raise DatasetError(
            f"a {what} is wanted in line {line} of '{shown(table)}', one of {', '.join(filter(None, words))}, "
            f"but it is '{shown(word)}'; correct it"
        )
    return words[word.casefold()]


def _category(
    rows: Iterable[Row], table: Path, tree: Tree, dataset: str, name: str, find: Callable[[str], str | None]
) -> Category:
    """Look up what the rows of one category name; ``find`` gives the path of an image in the tree, or None.

    Raises:
        DatasetError: two rows say different things of one image.
    """
    problems, facts, kinds = Problems(name), dict[str, _Facts](), dict[_Facts, _Facts]()
    for row in rows:
        said = (row.split, row.defect, row.mask, row.domain)
        if row.image not in facts:
            facts[row.image] = kinds.setdefault(said, said)  # one object, however many images share it
        elif facts[row.image] == said:
            problems.leave("", "row", f" of {table.name} that says what an earlier one says", row.image)
        else:
            masks = facts[row.image][:2] == said[:2]
            raise DatasetError(
                f"'{shown(table)}' should say one thing about '{shown(row.image)}', but line {row.line} says "
                f"something else{' of its mask' * masks}; correct it, or unite the masks in one file"
            )
    there: dict[Split, list[tuple[str, _Facts]]] = {"train": [], "test": []}
    absent: dict[Split | None, list[str]] = {"train": [], "test": [], None: []}
    for image, said in facts.items():
        (split, defect, mask, domain), path = said, find(image)
        marked = tree.find(mask) if mask and defect != GOOD else None
        if path is None:
            absent[split].append(image)
        elif split is None or (split == "train" and defect != GOOD):
            problems.leave(
                "", "image", " of validation" if split is None else " of training with flaws", image
            )
        else:
            there[split].append((path, (split, defect, marked or "", domain) if mask else said))
            if mask and marked is None:
                gone = " of good images" if defect == GOOD else f" of {table.name} without a file"
                problems.leave("", "mask", gone, mask)
    for split in ("test", "train"):
        if gone := absent[split]:
            of = f"{len(gone)} of {count(len(gone) + len(there[split]), f'{split} image')} of {table.name}"
            problems.say(f"{of} {'is' if len(gone) == 1 else 'are'} not there and left out: {names(gone)}")
    train, test = (_records(tree.root, dataset, name, found) for found in there.values())
    if there["test"]:
        say_incomplete(test, (), problems)
    return Category(dataset, name, train, test, problems.sentences(), missing=len(absent["test"]))


def _records(root: Path, dataset: str, name: str, found: list[tuple[str, _Facts]]) -> Sequence[Record]:
    found.sort(key=lambda pair: pair[0].split("/"))
    images, facts = [path for path, _ in found], [said for _, said in found]

    def make(number: int) -> Record:
        split, defect, mask, domain = facts[number]
        image, marked, label = root / images[number], root / mask if mask else None, int(defect != GOOD)
        return Record(dataset, name, split or "test", label, defect, domain, image, marked if label else None)

    records = LazyRecords(len(images), make)
    return records if len(records) >= LAZY_FROM else tuple(records)


def _dataset(layout: str, tree: Tree, table: Path, every: Sequence[Category], name: str) -> Dataset:
    """Put categories together; one of which no test image is there is left out.

    Raises:
        DatasetError: none of the test images is there.
    """
    found = [replace(one, object=LAYOUTS[layout].object(one.name)) for one in every if one.test]
    if not found:
        why = " ".join(sentence for one in every for sentence in one.problems) or "it has no rows"
        raise DatasetError(
            f"images that '{shown(table)}' names are wanted in '{shown(tree.root)}', which holds {tree.content()}, "
            f"but there is none to be tested; unpack them there, or correct the paths ({why})"
        )
    return Dataset(
        name, tuple(found), tuple(s for one in every if not one.test for s in one.problems), layout
    )


def open_table(path: str | os.PathLike[str]) -> Dataset:
    """List the images that a table labels; the table names the category, paths are relative to it.

    Columns ``mask`` and ``split`` may say the mask of each flawed image, and ``train``, ``val`` or ``test``.
    """
    table, rows = Path(path), list[Row]()
    for line, (image, label, mask, split) in read_table(table, ("image", "label"), ("mask", "split")):
        defect = "defective" if _meant(table, line, label, "label", _LABELS) else GOOD
        rows.append(Row(line, image, defect, _meant(table, line, split, "split", _SPLITS), mask))
    tree = Tree(table.parent)
    category = _category(rows, table, tree, tree.name, table.stem, tree.find)
    return _dataset("csv", tree, table, [category], tree.name)


def open_visa(root: str | os.PathLike[str]) -> Dataset:
    """List VisA: the root is the folder with ``split_csv``, that of one class, or that of the converted form."""
    tree = Tree(root)
    only = tree.root.resolve().name if tree.has("Data/Images") else None
    if only is None and "split_csv" not in tree.list().folders:
        whole = tree.has("1cls/{category}/test")
        inner = Tree(tree.root / "1cls") if whole else tree
        return replace(open_patterns(inner, LAYOUTS["mvtec"], tree.name if whole else None), layout="visa")
    tree = tree if only is None else Tree(tree.root.resolve().parent)
    table, rows, named = tree.root / "split_csv" / "1cls.csv", dict[str, list[Row]](), set[str]()
    columns = ("object", "split", "label", "image", "mask")
    for line, (name, said, label, image, mask) in read_table(table, columns):
        defect = "bad" if _meant(table, line, label, "label", _LABELS) else GOOD
        split = _meant(table, line, said, "split", _SPLITS)
        rows.setdefault(name, []).append(Row(line, image, defect, split, mask))
        named |= {image.casefold(), mask.casefold()}
    if only is not None and only not in rows:
        known = names(sorted(rows), 20)
        raise DatasetError(
            f"'{shown(table)}' has no rows of '{shown(only)}', only of {known}; check the path"
        )
    every = [
        _category(rows[name], table, tree, tree.name, name, tree.find)
        for name in (sorted(rows) if only is None else [only])
    ]
    dataset, problems = _dataset("visa", tree, table, every, tree.name), Problems(tree.name)
    for name in tree.list().folders if only is None else [only]:
        for kind in (f"{name}/Data/Images", f"{name}/Data/Masks"):
            for place in (join(kind, folder) for folder in tree.list(kind).folders):
                left = [f for f in tree.list(place).images if f"{place}/{f}".casefold() not in named]
                problems.leave(place, "file", f" in no row of {table.name}", *left)
    return replace(dataset, problems=(*dataset.problems, *problems.sentences()))


def is_elpv(tree: Tree) -> bool:
    """Whether the root is the data folder of ELPV."""
    if "labels.csv" not in tree.list().others:
        return False
    with (tree.root / "labels.csv").open("rb") as file:
        return _CELL.fullmatch(file.readline(200).decode("utf-8", "replace").strip()) is not None


def open_elpv(root: str | os.PathLike[str] | None = None) -> Dataset:
    """List ELPV, by default in the installed package, which is never imported; its domains are kinds of cells."""
    spec = importlib.util.find_spec("elpv_dataset") if root is None else None
    if root is None and (spec is None or not spec.submodule_search_locations):
        raise DatasetError(
            "the data set elpv comes with the package elpv-dataset, which is not installed; "
            "run: pip install 'zeroflaw[elpv]'"
        )
    tree = Tree(root or Path(spec.submodule_search_locations[0]) / "data")
    table, rows, unsure = tree.root / "labels.csv", list[Row](), list[str]()
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"ELPV is wanted with labels.csv and images/, but '{shown(tree.root)}' holds {tree.content()} "
            f"({brief(error)}); install elpv-dataset again"
        ) from error
    for number, line in enumerate(lines, 1):
        match = _CELL.fullmatch(line.strip())
        if match is not None and float(match[2]) in (0, 1):
            rows.append(Row(number, match[1], "defective" if float(match[2]) else GOOD, domain=match[3]))
        elif match is not None:
            unsure.append(match[1])
        elif line.strip():
            raise DatasetError(
                f"an image, a probability from 0 to 1 and a kind of module are wanted in line {number} of "
                f"'{shown(table)}', but it is '{shown(line.strip()[:60])}'; install elpv-dataset again"
            )
    problems = Problems("solar_cell")
    problems.leave("", "cell", " judged neither surely good nor surely defective", *unsure)
    category = _category(rows, table, tree, "elpv", "solar_cell", tree.find)
    dataset = _dataset("elpv", tree, table, [category], "elpv")
    return replace(dataset, problems=problems.sentences())


def open_sewerml(root: str | os.PathLike[str]) -> Dataset:
    """List Sewer-ML: one category, the validation images as its test images.

    Images lie in folders that begin with ``val`` (``train``), up to three deep; where there are none, every folder
    is searched.
    """
    tree, tables = Tree(root), dict[str, str]()
    for path in [
        join(place, file) for place in ("", *tree.list().folders) for file in tree.list(place).others
    ]:
        match = re.fullmatch(r"(?:.*/)?sewerml_(train|val|test)\.csv", path, re.IGNORECASE)
        if match is not None and tables.setdefault(match[1].lower(), path) != path:
            raise DatasetError(
                f"one SewerML table of a kind is wanted, but there are '{tables[match[1].lower()]}' and '{path}' in "
                f"'{shown(tree.root)}'; take one of them away"
            )
    if "val" not in tables:
        raise DatasetError(
            f"the table SewerML_Val.csv is wanted in '{shown(tree.root)}' or a folder in it, but there is only "
            f"{tree.content()}; ask for the annotations where the images come from"
        )
    val = _sewer_part(tree, tree.root / tables["val"], "test")
    dataset = _dataset("sewerml", tree, tree.root / tables["val"], [val], tree.name)
    (category,) = dataset
    if "train" in tables:
        train = _sewer_part(tree, tree.root / tables["train"], "train")
        category = replace(category, train=train.train, problems=category.problems + train.problems)
    return replace(dataset, categories=(category,))


def _sewer_part(tree: Tree, table: Path, split: Split) -> Category:
    folders = [*_folders(tree, "", "train" if split == "train" else "val", own=False)]
    own_only = any(own for _, own in folders)
    index: dict[str, str | None] = {}  # None where several folders have an image of that name
    for place in [place for place, own in folders if own or not own_only]:
        for name in (*tree.list(place).images, *tree.list(place).others):
            index[name] = None if name in index else join(place, name)
    doubled: list[str] = []

    def rows() -> Iterator[Row]:
        for line, (image, said, *marks) in read_table(table, ("Filename", "Defect"), CODES):
            codes = [code for code, mark in zip(CODES, marks, strict=True) if mark not in ("", "0", "0.0")]
            flawed = _meant(table, line, said, "label", _LABELS)
            yield Row(line, image, ("+".join(codes) or "defect") if flawed else GOOD, split)

    def find(image: str) -> str | None:
        path = index.pop(image, "")
        doubled.extend([image] if path is None else [])
        return path or None

    category, problems = _category(rows(), table, tree, tree.name, "sewer", find), Problems("sewer")
    problems.leave("", "image", " that several folders have", *doubled)
    problems.leave("", "file", f" that {table.name} does not name", *(index if own_only else ()))
    return replace(category, problems=category.problems + problems.sentences())


def _folders(tree: Tree, place: str, prefix: str, *, own: bool) -> Iterator[tuple[str, bool]]:
    """Yield folders down to three levels, and whether they or one above them begin with ``prefix``."""
    yield place, own
    for name in tree.list(place).folders if place.count("/") < 2 else ():
        yield from _folders(tree, join(place, name), prefix, own=own or name.casefold().startswith(prefix))
