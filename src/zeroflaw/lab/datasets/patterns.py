"""Reading one category by the patterns of its layout: every file is an image, a mask, or left over.

A mask belongs to the image of the same name in the folders that its pattern ties together; it may end in one
of `ENDINGS`, and in a number where there are several of one image, which are united. Where two images or two
masks share a name nobody can say which belongs to which, and no mask is used. What is called like a mask and
lies beside its image is that, unless it has a mask itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from zeroflaw.errors import DatasetError, ImageError
from zeroflaw.finding import MASK_ENDING
from zeroflaw.images import shown
from zeroflaw.masks import mask_files, read_marked
from zeroflaw.records import Category, Dataset, Record, Split

from .layouts import Layout
from .tree import Tree, fits, join, names

GOOD = "good"
GOOD_NAMES = (GOOD, "ok", "normal")  # in upper or lower case; the first that is there
ENDINGS = MASK_ENDING


class Problems:
    """What is left over or does not fit in one category; files of one place and kind make one sentence."""

    def __init__(self, category: str) -> None:
        self._category = category
        self._found: dict[tuple[str, str], list[str]] = {}

    def note(self, place: str, text: str, *files: str) -> None:
        """Count files of a place, if any: their number comes before the {noun} in the text, names behind."""
        if files or "{" not in text:
            self._found.setdefault((place, text), []).extend(files)

    def sentences(self) -> tuple[str, ...]:
        """Return a sentence for each place and text."""
        return tuple(
            shown(f"{join(self._category, place)}: {_counted(text, len(files))}{': ' * bool(files)}")
            + f"{names(files)}."
            for (place, text), files in self._found.items()
        )


def _counted(text: str, number: int) -> str:
    return re.sub(r"\{(.+?)\}", rf"{number} \1" + "s" * (number != 1), text, count=1)


class _Item(NamedTuple):
    """A file of one role: its place below the category, path below the root, and what the pattern found."""

    role: str
    place: str
    path: str
    found: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def image(self) -> str:
        return self.found["image"]

    @property
    def stem(self) -> str:
        """Name of the image that a mask is of."""
        return ENDINGS.sub("", self.image)

    @property
    def called(self) -> str:
        """Name of a mask, with one ending for all; the number stays."""
        return ENDINGS.sub(
            lambda found: f"_mask{'_' * bool(found['number'])}{found['number'] or ''}", self.image
        )

    @property
    def is_numbered(self) -> bool:
        """Whether it may be one of several masks of an image."""
        found = ENDINGS.search(self.image)
        return found is not None and found["number"] is not None

    @property
    def group(self) -> tuple[tuple[str, str], ...]:
        """What images and their masks have in common."""
        return tuple(sorted(pair for pair in self.found.items() if pair[0] not in _OF_FILES))


_OF_FILES = ("image", "mask", "masks")  # what patterns find that images and their masks do not have in common
_Open: TypeAlias = tuple[str, Sequence[str], dict[str, str]]  # role, parts to come, what was found so far


def _read_category(tree: Tree, base: str, dataset: str, name: str, layout: Layout) -> Category:
    problems = Problems(name)
    roles = {"masks": layout.masks, "train": layout.train, "test": layout.test}  # in case of doubt the first
    patterns: list[_Open] = [(role, path.split("/"), {}) for role, paths in roles.items() for path in paths]
    items = list(_walk(tree, base, "", patterns, problems))
    images, masks = _sorted_out(items, problems)
    defects = sorted({item.found["defect"] for item in images if "defect" in item.found})
    called = [defect for word in GOOD_NAMES for defect in defects if defect.casefold() == word]
    good = GOOD if GOOD in defects or not called else called[0]
    mask_of = _pair([item for item in images if item.role == "test"], masks, good, problems)
    parts: dict[str, list[Record]] = {"train": [], "test": []}
    for item in images:
        split: Split = "train" if item.role == "train" else "test"
        mask = _placed(tree.root, mask_of.get(item.path, ()))
        defect = GOOD if split == "train" else item.found.get("defect")
        defect = GOOD if defect == good else defect or _judged(item, mask, problems)
        if defect is not None:
            label, domain = int(defect != GOOD), item.found.get("domain")
            path, marked = tree.root / item.path, mask if label else None
            parts[split].append(Record(dataset, name, split, label, defect, domain, path, marked))
    train, test = (tuple(sorted(part, key=lambda record: record.image)) for part in parts.values())
    if layout.test:
        say_incomplete(test, layout.test, problems)
    missing = len({(item.group, item.stem) for item in items}) - len(test) if layout.product else 0
    return Category(dataset, name, train, test, problems.sentences(), layout.object(name), missing)


def _walk(
    tree: Tree, base: str, place: str, patterns: Sequence[_Open], problems: Problems
) -> Iterator[_Item]:
    """Yield what fits a pattern; folders are entered only where a pattern goes on."""
    here = join(base, place)
    folders, images, others, has_results = tree.entries(here)
    if has_results:
        problems.note(place, "left out the results of an earlier run")
    ends = [pattern for pattern in patterns if len(pattern[1]) == 1]
    for name in images:
        for role, (part,), found in ends:
            if (more := fits(part, Path(name).stem)) is not None:
                yield _Item(role, place, here if part == "{mask}" else join(here, name), found | more)
                break
        else:
            problems.note(place, "left out {image}", name)
    if ends:
        problems.note(place, "left out {file} of another kind", *others)
    for folder in folders:
        literal = [pattern for pattern in patterns if pattern[1][0] == folder]  # before what is any name
        deeper = [
            (role, rest, found | more)
            for role, (part, *rest), found in literal or patterns
            if rest and (more := fits(part, folder)) is not None
        ]
        if deeper:
            yield from _walk(tree, base, join(place, folder), deeper, problems)
        else:
            problems.note(place, "left out {folder}", folder)


def _sorted_out(items: Sequence[_Item], problems: Problems) -> tuple[list[_Item], list[_Item]]:
    """Return the images and the masks; masks beside their images are told by their names."""
    masks = list({item.path: item for item in items if item.role == "masks"}.values())
    masks = _with_defects(masks, [item for item in items if item.role == "test"])
    images, there = [], {(item.group, item.called) for item in masks}
    stems = Counter((item.role, item.place, item.image) for item in items)
    for item in (item for item in items if item.role != "masks"):
        beside = item.stem != item.image and stems[item.role, item.place, item.stem]
        if not beside or (item.group, f"{item.image}_mask") in there:  # what has a mask is an image
            images.append(item)
            if stems[item.role, item.place, item.image] > 1:
                problems.note(item.place, "{image} called like another but for the extension", item.name)
        elif (item.group, item.called) in there:
            problems.note(item.place, "left out {mask} beside images that have one", item.name)
        else:
            masks.append(item)
    return images, masks


def _with_defects(masks: Sequence[_Item], images: Sequence[_Item]) -> list[_Item]:
    """Give masks in one folder for all kinds of defect the kind of the only flawed image of their name."""
    kinds: dict[str, list[str]] = {}
    for image in images:
        if image.found.get("defect", GOOD).casefold() not in GOOD_NAMES:
            kinds.setdefault(image.image, []).append(image.found["defect"])
    found = []
    for mask in masks:
        known = kinds.get(mask.image) or kinds.get(mask.stem) or []
        more = {"defect": known[0]} if len(known) == 1 and "defect" not in mask.found else {}
        found.append(mask._replace(found={**mask.found, **more}))
    return found


def _placed(root: Path, paths: Sequence[str]) -> Path | tuple[Path, ...] | None:
    """Return the mask of an image, or its masks, or None."""
    found = tuple(root / path for path in paths)
    return found if len(found) > 1 else found[0] if found else None


def _pair(
    images: Sequence[_Item], masks: Sequence[_Item], good: str, problems: Problems
) -> dict[str, tuple[str, ...]]:
    """Return the paths of the masks of each image that has one or several."""
    pairs: dict[str, tuple[str, ...]] = {}
    stems = Counter((image.group, image.image) for image in images)
    called = Counter((mask.group, mask.called) for mask in masks)
    free: dict[object, _Item] = {}
    for mask in masks:
        key = (mask.group, mask.called)
        if mask.role == "train" or mask.found.get("defect") == good:
            problems.note(mask.place, "left out {mask} of good images", mask.name)
        elif called[key] > 1 or max(stems[mask.group, stem] for stem in (mask.called, mask.stem)) > 1:
            problems.note(mask.place, "left out {mask} with a name that is not unique", mask.name)
        else:
            free[key] = mask
    for name in ("{0.image}_mask", "{0.image}", "{0.called}"):
        for image in images:
            key = (image.group, name.format(image))
            if image.path not in pairs and key in free:
                pairs[image.path] = (free.pop(key).path,)
    owners: dict[object, str] = {
        (image.group, image.image): image.path for image in images if stems[image.group, image.image] == 1
    }
    for place, mask in sorted(free.items(), key=lambda pair: pair[1].path):
        if mask.is_numbered and (owner := owners.get((mask.group, mask.stem))):
            pairs[owner] = (*pairs.get(owner, ()), free.pop(place).path)
    used = {path for paths in pairs.values() for path in paths}
    for mask in masks:
        if mask.role != "masks" and mask.path in used:
            problems.note(mask.place, "took {mask} beside images for theirs", mask.name)
    for mask in free.values():
        problems.note(mask.place, "left out {mask} without an image of that name", mask.name)
    return pairs


def _judged(item: _Item, mask: Path | tuple[Path, ...] | None, problems: Problems) -> str | None:
    """Return the label of an image whose mask is its label; None where there is none that can be read."""
    try:
        if mask is not None:
            return "defect" if any(read_marked(file).marked.any() for file in mask_files(mask)) else GOOD
        problems.note(item.place, "left out {image} without a label", item.name)
    except ImageError as error:
        problems.note(item.place, f"left out {{image}} without a readable label ({error.reason})", item.name)
    return None


def say_incomplete(test: Sequence[Record], patterns: Sequence[str], problems: Problems) -> None:
    """Say which flawed images have no mask where others have one, and where one kind of image lacks."""
    labels: dict[str, set[int]] = {} if test else {"": set()}
    bare, flawed = list[str](), 0
    for record in test:
        labels.setdefault(record.domain or "", set()).add(record.label)
        flawed += record.label
        if record.label and record.mask is None:
            bare.append(f"{record.image.parent.name}/{record.image.name}")
    if len(bare) < flawed:
        problems.note("", f"pixel metrics leave out {{flawed image}} of {flawed}, without a mask", *bare)
    for domain in sorted(labels):
        for kind in [kind for label, kind in enumerate(("good", "flawed")) if label not in labels[domain]]:
            of = f" of {domain}" * bool(domain)
            problems.note("", f"there is no {kind} test image{of}, so that metrics are undefined")
    for choices in re.findall(r"\{domain=([\w|]+)\}", " ".join(patterns)):
        absent = [domain for domain in choices.split("|") if domain not in labels]
        if len(absent) <= choices.count("|"):
            problems.note("", "there is no test image of {domain}", *absent)


def open_patterns(tree: Tree, layout: Layout, name: str | None = None) -> Dataset:
    """List a data set, or one category of it: then the data set is named after the folder above.

    Args:
        tree: the root of the data set or of the category.
        layout: where files lie.
        name: of the data set; by default that of its folder.

    Raises:
        DatasetError: there is no category, or none with a test image.
    """
    places = [folder for folder in tree.entries().folders if any(tree.has(m, folder) for m in layout.marks)]
    if layout.product or any(tree.has(mark) for mark in layout.marks):
        places = [""]
    dataset = collect(tree, dict.fromkeys(places, layout), name)
    if not any(category.test for category in dataset):
        why = " ".join((*dataset.problems, *(s for category in dataset for s in category.problems)))
        raise DatasetError(
            f"test images are wanted in {', '.join(layout.picture)}, but '{shown(tree.root)}' holds "
            f"{tree.content()} and none of them; check path and layout ({why})"
        )
    return dataset


def collect(tree: Tree, places: Mapping[str, Layout], dataset: str | None = None) -> Dataset:
    """List the categories at some places, each in its layout; ``""`` is a root that is a category itself."""
    product = next(iter(places.values())).product if "" in places else None
    if "" in places and not product:
        dataset = dataset or Tree(tree.root.resolve().parent).name
    dataset, beside = dataset or tree.name, Problems(dataset or tree.name)
    found = [
        _read_category(tree, place, dataset, place or product or tree.name, layout)
        for place, layout in places.items()
    ]
    if "" not in places:
        beside.note("", "left out {folder}", *(name for name in tree.entries().folders if name not in places))
        beside.note("", "left out {image}", *tree.entries().images)
    return Dataset(dataset, tuple(found), beside.sentences(), *{layout.name for layout in places.values()})
