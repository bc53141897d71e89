"""Reading one category by the patterns of its layout: every file is an image, a mask, or left over.

A mask belongs to the image of the same name in the folders that its pattern ties together; it may end in one of
`ENDINGS`. Where two images or two masks share a name nobody can say which belongs to which, and no mask is used.
A file called like a mask that lies beside the image is its mask, unless it has a mask itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zeroflaw.errors import DatasetError, ImageError
from zeroflaw.images import shown
from zeroflaw.records import Category, Dataset, Record, Split, read_marked

from .layouts import Layout
from .tree import Tree, count, fits, join, names

GOOD = "good"
GOOD_NAMES = (GOOD, "ok", "normal")  # in upper or lower case; the first that is there
ENDINGS = re.compile(r"[_-](?:mask|gt|label|seg)$", re.IGNORECASE)


class Problems:
    """What is left over or does not fit in one category; files of one place and kind make one sentence."""

    def __init__(self, category: str) -> None:
        self.category = category
        self._left: dict[tuple[str, str, str], list[str]] = {}
        self._said: list[str] = []

    def leave(self, place: str, noun: str, why: str, *left: str) -> None:
        """Count what is left out of a place: its noun, what is behind the noun, and the names."""
        if left:
            self._left.setdefault((place, noun, why), []).extend(left)

    def say(self, sentence: str, place: str = "") -> None:
        """Add a sentence, without its full stop."""
        self._said.append(f"{shown(join(self.category, place))}: {sentence}.")

    def sentences(self) -> tuple[str, ...]:
        """Return all of them, what is left out first."""
        left = [
            f"{shown(join(self.category, place))}: left out {count(len(found), noun)}{why}: {names(found)}."
            for (place, noun, why), found in self._left.items()
        ]
        return (*left, *self._said)


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
    def called(self) -> str:
        """Name of a mask, with one ending for all."""
        return ENDINGS.sub("_mask", self.image)

    @property
    def group(self) -> tuple[tuple[str, str], ...]:
        """What images and their masks have in common."""
        return tuple(sorted(pair for pair in self.found.items() if pair[0] not in ("image", "mask")))


class _Open(NamedTuple):
    """A pattern that fits so far: the parts to come, and what was found."""

    role: str
    parts: Sequence[str]
    found: Mapping[str, str]

    def enter(self, folder: str) -> _Open:
        match = fits(self.parts[0], folder)
        return _Open(self.role, self.parts[1:], {**self.found, **(match.groupdict() if match else {})})


def read_category(tree: Tree, base: str, dataset: str, name: str, layout: Layout) -> Category:
    """List one category.

    Args:
        tree: the root of the data set, or of the category.
        base: place of the category in it.
        dataset: name of the data set.
        name: name of the category.
        layout: where files lie.

    Raises:
        DatasetError: a folder cannot be listed.
    """
    problems = Problems(name)
    patterns = [
        _Open(role, pattern.split("/"), {})
        for role in ("masks", "train", "test")  # a file that fits several has the first
        for pattern in getattr(layout, role)
    ]
    items = list(_walk(tree, base, "", patterns, problems))
    images, masks = _sorted_out(items, problems)
    good = _good_name({item.found["defect"] for item in images if "defect" in item.found})
    mask_of = _pair([item for item in images if item.role == "test"], masks, good, problems)
    parts: dict[str, list[Record]] = {"train": [], "test": []}
    for item in images:
        split: Split = "train" if item.role == "train" else "test"
        mask = tree.root / mask_of[item.path] if item.path in mask_of else None
        defect = GOOD if split == "train" else item.found.get("defect")
        defect = GOOD if defect == good else defect or _judged(item, mask, problems)
        if defect is not None:
            label, domain = int(defect != GOOD), item.found.get("domain")
            path, marked = tree.root / item.path, mask if label else None
            parts[split].append(Record(dataset, name, split, label, defect, domain, path, marked))
    train, test = (tuple(sorted(part, key=lambda record: record.image)) for part in parts.values())
    if layout.test:
        say_incomplete(test, layout.test, problems)
    missing = len({(i.group, ENDINGS.sub("", i.image)) for i in items}) - len(test) if layout.product else 0
    return Category(dataset, name, train, test, problems.sentences(), layout.object(name), missing)


def _walk(
    tree: Tree, base: str, place: str, patterns: Sequence[_Open], problems: Problems
) -> Iterator[_Item]:
    """Yield what fits a pattern; folders are entered only where a pattern goes on."""
    here = join(base, place) if place else base
    folders, images, others = tree.list(here)
    ends = [pattern for pattern in patterns if len(pattern.parts) == 1]
    for name in images:
        stem = name.rpartition(".")[0]
        for role, parts, found in ends:
            if match := fits(parts[0], stem):
                path = here if parts[0] == "{mask}" else join(here, name)
                yield _Item(role, place, path, {**found, **match.groupdict()})
                break
        else:
            problems.leave(place, "image", "", name)
    if ends:
        problems.leave(place, "file", " of another kind", *others)
    for folder in folders:
        on = [pattern for pattern in patterns if len(pattern.parts) > 1 and fits(pattern.parts[0], folder)]
        on = [pattern for pattern in on if "{" not in pattern.parts[0]] or on
        if on:
            yield from _walk(tree, base, join(place, folder), [p.enter(folder) for p in on], problems)
        else:
            problems.leave(place, "folder", "", folder)


def _good_name(defects: set[str]) -> str:
    """Return what the folder of good images is called."""
    called = [defect for good in GOOD_NAMES for defect in sorted(defects) if defect.casefold() == good]
    return GOOD if GOOD in defects or not called else called[0]


def _sorted_out(items: Sequence[_Item], problems: Problems) -> tuple[list[_Item], list[_Item]]:
    """Return the images and the masks; masks beside their images are told by their names."""
    masks = list({item.path: item for item in items if item.role == "masks"}.values())
    images, there = [], {(item.group, item.called) for item in masks}
    stems = Counter((item.role, item.place, item.image) for item in items)
    for item in items:
        base = ENDINGS.sub("", item.image)
        if item.role == "masks":
            continue
        if (
            base == item.image
            or not stems[item.role, item.place, base]
            or (item.group, f"{item.image}_mask") in there
        ):
            images.append(item)
        elif (item.group, item.called) in there:
            problems.leave(item.place, "mask", " beside an image that has one", item.name)
        else:
            masks.append(item)
    kept = [item for item in images if stems[item.role, item.place, item.image] > 1]
    for place in dict.fromkeys(item.place for item in kept):
        twins = [item.name for item in kept if item.place == place]
        problems.say(f"several images have one name but for the extension: {names(twins)}", place)
    return images, masks


def _pair(images: Sequence[_Item], masks: Sequence[_Item], good: str, problems: Problems) -> dict[str, str]:
    """Return the path of the mask of each image that has one."""
    pairs: dict[str, str] = {}
    for group in dict.fromkeys(mask.group for mask in masks):
        alike = [image for image in images if image.group == group]
        own = [mask for mask in masks if mask.group == group]
        if own[0].role == "train" or dict(group).get("defect") == good:
            _leave(own, " of good images", problems)
            continue
        stems, called = Counter(image.image for image in alike), Counter(mask.called for mask in own)
        doubted = {name for stem in stems if stems[stem] > 1 for name in (stem, f"{stem}_mask")}
        doubtful = [mask for mask in own if called[mask.called] > 1 or mask.called in doubted]
        _leave(doubtful, " that fit several images or share a name", problems)
        free = {mask.called: mask for mask in own if mask not in doubtful}
        for name in (
            lambda image: f"{image.image}_mask",
            lambda image: image.image,
            lambda image: image.called,
        ):
            for image in alike:
                if image.path not in pairs and name(image) in free:
                    pairs[image.path] = free.pop(name(image)).path
        _leave(free.values(), " without an image of that name", problems)
    return pairs


def _leave(masks: Iterable[_Item], why: str, problems: Problems) -> None:
    for mask in masks:
        problems.leave(mask.place, "mask", why, mask.name)


def _judged(item: _Item, mask: Path | None, problems: Problems) -> str | None:
    """Return the label of an image whose mask is its label; None where there is none that can be read."""
    if mask is None:
        problems.leave(item.place, "image", " without a label", item.name)
        return None
    try:
        return "defect" if read_marked(mask).any() else GOOD
    except ImageError as error:
        problems.say(f"left out {shown(item.name)}, whose label cannot be read ({error.reason})", item.place)
        return None


def say_incomplete(test: Sequence[Record], patterns: Sequence[str], problems: Problems) -> None:
    """Say which flawed images have no mask where others have one, and where one kind of image lacks."""
    labels: dict[str, set[int]] = {} if test else {"": set()}
    bare, flawed = [], 0
    for record in test:
        labels.setdefault(record.domain or "", set()).add(record.label)
        flawed += record.label
        if record.label and record.mask is None:
            bare.append(f"{record.image.parent.name}/{record.image.name}")
    if 0 < len(bare) < flawed:
        of = f"{len(bare)} of {count(flawed, 'flawed image')}"
        problems.say(f"pixel metrics leave out {of}, without a mask: {names(bare)}")
    for domain in sorted(labels):
        for label, kind in enumerate(("good", "flawed")):
            if label not in labels[domain]:
                of = f" of {domain}" if domain else ""
                problems.say(f"there is no {kind} test image{of}, so that metrics are undefined")
    for choices in re.findall(r"\{domain=([\w|]+)\}", " ".join(patterns)):
        absent = [domain for domain in choices.split("|") if domain not in labels]
        if 0 < len(absent) <= choices.count("|"):
            problems.say(f"there is no test image of {', '.join(absent)}")


def open_patterns(tree: Tree, layout: Layout, name: str | None = None) -> Dataset:
    """List a data set, or one category of it: then the data set is named after the folder above.

    Args:
        tree: the root of the data set or of the category.
        layout: where files lie.
        name: of the data set; by default that of its folder.

    Raises:
        DatasetError: there is no category, or none with a test image.
    """
    if layout.product:
        places = {"": layout.product}
    elif any(tree.has(mark) for mark in layout.marks):
        places = {"": tree.name}
        name = name or Tree(tree.root.resolve().parent).name
    else:
        places = {
            place: place for place in tree.list().folders if any(tree.has(m, place) for m in layout.marks)
        }
    dataset = collect(tree, {place: (called, layout) for place, called in places.items()}, name or tree.name)
    if not any(category.test for category in dataset):
        why = " ".join((*dataset.problems, *(s for category in dataset for s in category.problems)))
        raise DatasetError(
            f"a data set is wanted with {' or '.join(layout.picture)}, but '{shown(tree.root)}' holds "
            f"{tree.content()} and no such test image; check path and layout{f' ({why})' if why else ''}"
        )
    return dataset


def collect(tree: Tree, places: Mapping[str, tuple[str, Layout]], dataset: str) -> Dataset:
    """List the categories at some places, each with its name and layout."""
    found = [read_category(tree, place, dataset, name, layout) for place, (name, layout) in places.items()]
    beside = Problems(dataset)
    if "" not in places:
        beside.leave("", "folder", "", *(folder for folder in tree.list().folders if folder not in places))
        beside.leave("", "image", "", *tree.list().images)
    layout = next((layout.name for _, layout in places.values()), "")
    return Dataset(dataset, tuple(found), beside.sentences(), layout)
