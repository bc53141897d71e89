"""Data sets whose tables say what is good: VisA, ELPV, Sewer-ML, and anybody's own table.

A row says split, kind of defect and mask of an image. Files are looked up and never opened.

- VisA (Zou et al., ECCV 2022): ``split_csv/1cls.csv`` is the split of one-class methods.
- ELPV (Buerhop-Lutz et al., EU PVSEC 2018): people judged each cell, with a probability of 0, 1/3, 2/3 or 1
  that it is defective; only the sure ones are scored. The kind of module is the domain.
- Sewer-ML (Haurum and Moeslund, CVPR 2021): the column ``Defect`` is the label, 17 codes are the kind of
  defect (``"RB+OB"`` for two). The validation images are scored: the test labels are not public.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TextIO, TypeAlias, TypeVar

from zeroflaw.errors import DatasetError
from zeroflaw.errors import reason as brief
from zeroflaw.files import file_size
from zeroflaw.images import shown
from zeroflaw.records import Category, Dataset, LazyRecords, Record, Split

from .layouts import LAYOUTS, Layout
from .patterns import GOOD, Problems, open_patterns, say_incomplete
from .tree import Tree, join, names

LAZY_FROM = 100_000  # images, from which on records are made when they are asked for
_LARGEST, _LONGEST = 1 << 29, 1 << 18  # bytes of a table, characters of a line
_GOOD = ("0", "0.0", "false", "good", "normal", "ok")
_FLAWED = ("1", "1.0", "true", "anomaly", "anomalous", "bad", "defect", "defective", "flawed", "ko", "ng")
_LABELS: dict[str, bool | None] = {**dict.fromkeys(_GOOD, False), **dict.fromkeys(_FLAWED, True)}
_CELLS = {"0.0": False, "1.0": True, "0.3333333333333333": None, "0.6666666666666666": None}  # of ELPV
_SPLITS: dict[str, Split | None] = {
    "": "test",
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev")),
}
_Facts: TypeAlias = tuple[Split | None, str, str, str | None]  # split, defect, masks, domain
_AND = "\0"  # between the paths of several masks of one image
_Find: TypeAlias = Callable[[str], str | None]  # the path of an image in the tree
T = TypeVar("T")


class _Row(NamedTuple):
    """One row of a table; the split None is not used."""

    line: int
    category: str
    image: str
    split: Split | None
    defect: str
    mask: str
    domain: str | None


def read_table(
    path: Path, wanted: Sequence[str], optional: Sequence[str] = (), *, header: str = ""
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line and its values: those ``wanted``, then those ``optional``, stripped.

    Commas, semicolons, tabs or, in a table whose ``header`` is given, blanks part the columns. They come in
    any order among others, in upper or lower case; an optional one that is not there is empty.
    Lines without any value are passed over.

    Raises:
        DatasetError: the file cannot be read, lacks a wanted column, has one twice, or a row is too short.
    """
    try:
        file_size(path, _LARGEST, "table", DatasetError)
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _lines(file)
            first = header or next(lines, "")
            comma = " " if header else max(",;\t", key=first.count)
            titles = [title.strip().casefold() for title in next(csv.reader([first], delimiter=comma), [])]
            for title in (*wanted, *optional):
                if (number := titles.count(title.casefold())) > 1 or (number == 0 and title in wanted):
                    has = "has more than one" if number else f"has only {names(titles, 12) or 'nothing'}"
                    raise DatasetError(
                        f"one column '{title}' is wanted in '{shown(path)}' (of {', '.join(wanted)}), but it "
                        f"{has}; correct its first line"
                    )
            folded = [title.casefold() for title in (*wanted, *optional)]
            places = [titles.index(title) if title in titles else -1 for title in folded]
            least = max(places[: len(wanted)]) + 1
            rows = csv.reader(lines, delimiter=comma, skipinitialspace=True)
            for line, row in enumerate(rows, 1 if header else 2):
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) >= least:
                    yield line, [row[at].strip() if 0 <= at < len(row) else "" for at in places]
                else:
                    raise DatasetError(
                        f"at least {least} values are wanted in line {line} of '{shown(path)}', but it has "
                        f"{len(row)}; complete it"
                    )
    except (OSError, csv.Error, ValueError) as error:
        raise DatasetError(
            f"a table in UTF-8 is wanted, but '{shown(path)}' cannot be read ({brief(error)}); check the "
            "path, or save it as one"
        ) from error


def _lines(file: TextIO) -> Iterator[str]:
    """Yield the lines of a file, none of which may be endless."""
    while line := file.readline(_LONGEST + 1):
        if len(line) > _LONGEST:
            raise ValueError(f"a line has more than {_LONGEST:,} characters")
        yield line


def _meant(table: Path, line: int, word: str, what: str, words: Mapping[str, T]) -> T:
    """Return what a word of a table means."""
    if word.casefold() not in words:
        raise DatasetError(
            f"a {what} is wanted in line {line} of '{shown(table)}', {', '.join(filter(None, words))}, but "
            f"it is '{shown(word)}': correct it"
        )
    return words[word.casefold()]


def _rows(table: Path, layout: Layout, split: str) -> Iterator[_Row]:
    wanted, optional = tuple(layout.columns.values()), (*layout.optional, *layout.codes)
    header = "" if layout.header else " ".join(wanted)
    for line, values in read_table(table, wanted, optional, header=header):
        cells = dict(zip((*layout.columns, *optional), values, strict=True))
        flawed = _meant(table, line, cells["label"], "label", _LABELS if layout.header else _CELLS)
        said = _meant(table, line, cells.get("split", split), "split", _SPLITS)
        codes = [code for code in layout.codes if cells[code] not in ("", "0", "0.0")]
        defect = ("+".join(codes) or layout.flawed) if flawed else GOOD
        used, category, mask = (
            None if flawed is None else said,
            cells.get("category", ""),
            cells.get("mask", ""),
        )
        yield _Row(line, category, cells["image"], used, defect, mask, cells.get("domain"))


def _category(
    tree: Tree, table: Path, rows: Iterable[_Row], layout: Layout, dataset: str, name: str, find: _Find
) -> Category:
    """Look up what the rows of one category name.

    Raises:
        DatasetError: two rows say different things of one image.
    """
    problems, facts, kinds = Problems(name), dict[str, _Facts](), dict[_Facts, _Facts]()
    for row in rows:
        said = row[3:]
        if row.image not in facts:
            facts[row.image] = kinds.setdefault(said, said)  # one object, however many images share it
        elif (more := _united(facts[row.image], said)) is None:
            raise DatasetError(
                f"'{shown(table)}' should say one thing about '{shown(row.image)}', but line {row.line} says "
                "something else of its split or label; correct it"
            )
        elif more == facts[row.image]:
            problems.note("", f"left out {{row}} of {table.name} repeating an earlier one", row.image)
        else:
            facts[row.image] = more
    there: dict[Split, list[tuple[str, _Facts]]] = {"train": [], "test": []}
    missing = 0
    for image, said in facts.items():
        (split, defect, mask, domain), path = said, find(image)
        masks = _masks(tree, mask)
        marked = _AND.join(found for found in masks.values() if found and defect != GOOD)
        if path is None:
            kind = f"{{{split or 'unused'} image}}"
            problems.note("", f"left out {kind} of {table.name} without a file", image)
            missing += split == "test"
        elif split is None or (split == "train" and defect != GOOD):
            kind = "{image} not to be scored" if split is None else "{training image} with flaws"
            problems.note("", f"left out {kind}", image)
        else:
            there[split].append((path, (split, defect, marked, domain) if mask else said))
            what = "of good images" if defect == GOOD else f"of {table.name} without a file"
            left = [name for name, found in masks.items() if defect == GOOD or not found]
            problems.note("", f"left out {{mask}} {what}", *left)
    train, test = (_records(tree.root, dataset, name, found) for found in there.values())
    if test:
        say_incomplete(test, (), problems)
    named = {
        path.casefold()
        for image, said in facts.items()
        for path in (image, *said[2].split(_AND))
        if layout.listed
    }
    for place in (place for folder in layout.listed for place in tree.below(1, f"{name}/{folder}")):
        left = [file for file in tree.entries(place).images if f"{place}/{file}".casefold() not in named]
        problems.note("", f"left out {{file}} in no row of {table.name}", *left)
    return Category(dataset, name, train, test, problems.sentences(), layout.object(name), missing)


def _united(one: _Facts, other: _Facts) -> _Facts | None:
    """Return what two rows say of an image together: they may name two masks; None where they contradict."""
    if one == other:
        return one
    both = [mask for mask in (*one[2].split(_AND), other[2]) if mask]
    agree = (one[0], one[1], one[3]) == (other[0], other[1], other[3]) and one[2] and other[2]
    return (one[0], one[1], _AND.join(dict.fromkeys(both)), one[3]) if agree else None


def _masks(tree: Tree, said: str) -> dict[str, str | None]:
    """Return the masks that rows name, several in one cell as well, each with its path if it is there."""
    found: dict[str, str | None] = {}
    for name in said.split(_AND) if said else ():
        path = tree.find(name)
        parts = [name] if path else [part.strip() for part in re.split(r"[;|]", name)]
        found |= {part: tree.find(part) for part in parts if part}
    return found


def _records(root: Path, dataset: str, name: str, found: list[tuple[str, _Facts]]) -> Sequence[Record]:
    found.sort(key=lambda pair: pair[0].split("/"))
    images, facts = [path for path, _ in found], [said for _, said in found]

    def make(number: int) -> Record:
        split, defect, mask, domain = facts[number]
        masks = tuple(root / path for path in mask.split(_AND)) if mask else ()
        marked = masks if len(masks) > 1 else masks[0] if masks else None
        label, path = int(defect != GOOD), root / images[number]
        return Record(dataset, name, split or "test", label, defect, domain, path, marked)

    records = LazyRecords(len(images), make)
    return records if len(records) >= LAZY_FROM else tuple(records)


def _categories(
    tree: Tree, table: Path, layout: Layout, dataset: str, *, split: str = "", find: _Find | None = None
) -> list[Category]:
    rows: dict[str, Iterable[_Row]] = {}
    if layout.product:  # many rows, perhaps, which are used one by one
        rows = {layout.product: _rows(table, layout, split)}
    else:
        grouped: dict[str, list[_Row]] = {}
        for row in _rows(table, layout, split):
            grouped.setdefault(row.category or table.stem, []).append(row)
        rows = {name: grouped[name] for name in sorted(grouped)}
    return [_category(tree, table, rows[name], layout, dataset, name, find or tree.find) for name in rows]


def _dataset(tree: Tree, table: Path, layout: Layout, name: str, every: Sequence[Category]) -> Dataset:
    """Put categories together; one of which no test image is there is left out.

    Raises:
        DatasetError: none of the test images is there.
    """
    if not any(category.test for category in every):
        why = " ".join(sentence for one in every for sentence in one.problems) or "it has no rows of them"
        raise DatasetError(
            f"test images that '{shown(table)}' names are wanted in '{shown(tree.root)}', which holds "
            f"{tree.content()} and none of them; unpack them there, or correct the paths ({why})"
        )
    problems = tuple(sentence for one in every if not one.test for sentence in one.problems)
    return Dataset(name, tuple(one for one in every if one.test), problems, layout.name)


def open_table(path: str | os.PathLike[str]) -> Dataset:
    """List the images that a table labels; the table names the category, paths are relative to it.

    Columns ``mask`` and ``split`` may say the mask of each flawed image, and ``train``, ``val`` or ``test``.
    """
    table, tree, layout = Path(path), Tree(Path(path).parent), LAYOUTS["csv"]
    return _dataset(tree, table, layout, tree.name, _categories(tree, table, layout, tree.name))


def open_visa(root: str | os.PathLike[str]) -> Dataset:
    """List VisA: the root is the folder with ``split_csv``, one class, or that of the converted form."""
    tree = Tree(root)
    only = tree.root.resolve().name if tree.has("Data/Images") else None
    if only is None and not tree.has("split_csv"):
        whole = tree.has("1cls/{category}/test")
        inner = Tree(tree.root / "1cls") if whole else tree
        return replace(open_patterns(inner, LAYOUTS["mvtec"], tree.name if whole else None), layout="visa")
    tree = tree if only is None else Tree(tree.root.resolve().parent)
    table, layout = tree.root / "split_csv" / "1cls.csv", LAYOUTS["visa"]
    every = _categories(tree, table, layout, tree.name)
    known, beside = {category.name for category in every}, Problems(tree.name)
    every = [category for category in every if only in (None, category.name)]
    dataset = _dataset(tree, table, layout, tree.name, every)
    strange = (name for name in tree.entries().folders if tree.has("Data/Images", name) and name not in known)
    beside.note("", "left out {product} in no row of 1cls.csv", *(strange if only is None else ()))
    return replace(dataset, problems=dataset.problems + beside.sentences())


def open_elpv(root: str | os.PathLike[str] | None = None) -> Dataset:
    """List ELPV, by default that of the installed package, which is never imported."""
    if root is None:
        spec = importlib.util.find_spec("elpv_dataset")
        if spec is None or not spec.submodule_search_locations:
            raise DatasetError(
                "the data set elpv comes with the package elpv-dataset, which is not installed; "
                "run: pip install 'zeroflaw[elpv]'"
            )
        root = Path(spec.submodule_search_locations[0]) / "data"
    tree, table, layout = Tree(root), Path(root) / "labels.csv", LAYOUTS["elpv"]
    return _dataset(tree, table, layout, "elpv", _categories(tree, table, layout, "elpv"))


def open_sewerml(root: str | os.PathLike[str]) -> Dataset:
    """List Sewer-ML: one category, the validation images as its test images.

    Images lie in folders that begin with ``val`` (``train``), up to three deep; where there are none, every
    folder is searched.
    """
    tree, tables = Tree(root), dict[str, str]()
    for place in tree.below(1):
        for file in tree.entries(place).others:
            if (name := file.casefold()) in tables and name.startswith("sewerml_"):
                raise DatasetError(
                    f"one {file} is wanted in '{shown(tree.root)}', but there are '{tables[name]}' "
                    f"and '{join(place, file)}'; take one of them away"
                )
            tables[name] = join(place, file)
    if "sewerml_val.csv" not in tables:
        raise DatasetError(
            f"the table SewerML_Val.csv is wanted in '{shown(tree.root)}' or a folder in it, but there is "
            f"only {tree.content()}; ask for the annotations where the images come from"
        )
    category = _sewer_part(tree, tables["sewerml_val.csv"], "test", "val")
    dataset = _dataset(tree, tree.root / tables["sewerml_val.csv"], LAYOUTS["sewerml"], tree.name, [category])
    if "sewerml_train.csv" in tables:
        train = _sewer_part(tree, tables["sewerml_train.csv"], "train", "train")
        category = replace(category, train=train.train, problems=category.problems + train.problems)
    return replace(dataset, categories=(category,))


def _sewer_part(tree: Tree, table: str, split: str, prefix: str) -> Category:
    every, doubled = tree.below(3), list[str]()
    own = [place for place in every if any(part.casefold().startswith(prefix) for part in place.split("/"))]
    index: dict[str, str | None] = {}  # None where several folders have an image of that name
    for place in own or every:
        for name in (*tree.entries(place).images, *tree.entries(place).others):
            index[name] = None if name in index else join(place, name)

    def find(image: str) -> str | None:
        path = index.pop(image, "")
        doubled.extend([image] if path is None else [])
        return path or None

    layout, problems = LAYOUTS["sewerml"], Problems("sewer")
    (category,) = _categories(tree, tree.root / table, layout, tree.name, split=split, find=find)
    problems.note("", "left out {image} that several folders have", *doubled)
    problems.note("", f"left out {{file}} that {Path(table).name} does not name", *(index if own else ()))
    return replace(category, problems=category.problems + problems.sentences())
