"""The folder layout of MVTec AD (Bergmann et al., CVPR 2019), which many data sets share::

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
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import DatasetError
from ..finding import EXTENSIONS, brief, shown
from .records import Category, Dataset, Record

_GOOD = "good"
_PARTS = ("train", "test", "ground_truth")
_ENDINGS = ("_mask", "")  # of a mask's stem, after the stem of its image


def open_mvtec(root: str | os.PathLike[str]) -> Dataset:
    """List a data set in the layout of MVTec AD without opening an image.

    Args:
        root: the folder of the data set, which names it, or the folder of a single category; then the data
            set is named after the folder above, so that results of one category and of all have one name.

    Raises:
        DatasetError: ``root`` is no folder, cannot be read, or holds no category with a test image.
    """
    folder = Path(root)
    if not _is_folder(folder):
        what = "is a file" if os.path.exists(folder) else "does not exist"  # noqa: PTH110, see _is_folder
        raise DatasetError(
            f"the folder of a data set is wanted, but '{shown(folder)}' {what}; check the path"
        )
    if _is_category(folder):
        category = _category(folder, _name(folder.resolve().parent), _name(folder))
        return _not_empty(folder, Dataset(category.dataset, (category,)))
    listing = _list(folder)
    inside = [child for child in listing.folders if _is_category(child)]
    if not inside:
        raise DatasetError(_nothing_here(folder, listing.folders))
    name = _name(folder)
    categories = tuple(_category(child, name, child.name) for child in inside)
    return _not_empty(folder, Dataset(name, categories, _beside(name, listing, inside)))


def _name(folder: Path) -> str:
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where a folder above may not be entered


def _is_category(folder: Path) -> bool:
    return _is_folder(folder / "test")


def _not_empty(folder: Path, dataset: Dataset) -> Dataset:
    if any(category.test for category in dataset):
        return dataset
    problems = " ".join([*dataset.problems, *(p for category in dataset for p in category.problems)])
    wanted = "images are wanted in <category>/test/good and <category>/test/<defect>"
    raise DatasetError(f"{wanted}, but '{shown(folder)}' has none there; add them ({problems})")


# What a folder holds


@dataclass(frozen=True, slots=True)
class _Listing:
    """The entries of one folder, each kind sorted by name, hidden ones left out."""

    folders: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()


def _list(folder: Path) -> _Listing:
    """List a folder; one that does not exist is empty."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        folders = tuple(path for path in entries if path.is_dir())
        files = [path for path in entries if path.is_file()]
    except FileNotFoundError:
        return _Listing()
    except OSError as error:
        reason = brief(error)
        raise DatasetError(
            f"folder '{shown(folder)}' should be listed but cannot be ({reason}); check its permissions"
        ) from error
    images = tuple(path for path in files if path.suffix.lower() in EXTENSIONS)
    taken = {*folders, *images}
    return _Listing(folders, images, tuple(path for path in entries if path not in taken))


def _names(paths: Iterable[Path], most: int = 5) -> str:
    names = [shown(path.name) for path in paths]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _count(number: int, noun: str, nouns: str = "") -> str:
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


# What is said when the layout is another one


def _nothing_here(folder: Path, folders: Sequence[Path]) -> str:
    found = f"its folders ({_names(folders)}) hold no folder 'test'" if folders else "it holds no folder"
    fitting = _fitting(folder)
    advice = f"these would work: {fitting}" if fitting else "check the path and the layout"
    return (
        "a data set with folders <category>/test/good and <category>/test/<defect> is wanted, "
        f"but '{shown(folder)}' is none: {found}; {advice}"
    )


def _fitting(folder: Path, most: int = 8) -> str:
    """Name the nearby folders that :func:`open_mvtec` would accept: those below, or those above."""
    below = sorted({test.parents[1] for test in folder.glob("[!.]*/[!.]*/test") if _is_folder(test)})
    above = [parent for parent in list(folder.resolve().parents)[:2] if _is_category(parent)]
    fitting = [f"'{shown(path)}'" for path in below or above]
    return ", ".join(fitting[:most]) + (f" and {len(fitting) - most} more" if len(fitting) > most else "")


def _beside(name: str, listing: _Listing, categories: Sequence[Path]) -> tuple[str, ...]:
    problems = []
    left_out = [path for path in listing.folders if path not in set(categories)]
    if left_out:
        problems.append(f"{name}: folders without a folder 'test' were left out: {_names(left_out)}.")
    if listing.images:
        problems.append(f"{name}: images beside the categories were left out: {_names(listing.images)}.")
    return tuple(problems)


# One category


class _Reader:
    """Collects the records and problems of one category."""

    def __init__(self, folder: Path, dataset: str, name: str) -> None:
        self.folder, self.dataset, self.name = folder, dataset, name
        self.problems: list[str] = []

    def note(self, where: str, sentence: str) -> None:
        self.problems.append(f"{shown(f'{self.name}/{where}'.rstrip('/'))}: {sentence}.")

    def images(self, where: str) -> tuple[Path, ...]:
        """List the images of a folder that should hold nothing else."""
        listing = _list(self.folder / where)
        if listing.others:
            files = _count(len(listing.others), "entry", "entries")
            self.note(where, f"left out {files} that cannot be images: {_names(listing.others)}")
        if listing.folders:
            self.note(where, f"folders inside were left out: {_names(listing.folders)}")
        return listing.images

    def kinds(self, part: str) -> list[str]:
        """List the folders of a part, ``good`` included."""
        listing = _list(self.folder / part)
        if files := listing.images + listing.others:
            what = _count(len(files), "file")
            self.note(part, f"left out {what} outside the folders of this part: {_names(files)}")
        return [path.name for path in listing.folders]

    def records(
        self, split: Literal["train", "test"], defect: str, masks: Mapping[Path, Path]
    ) -> list[Record]:
        images = self.images(f"{split}/{defect}")
        self._note_twins(f"{split}/{defect}", images)
        label = int(defect != _GOOD)
        return [
            Record(self.dataset, self.name, split, label, defect, None, path, masks.get(path))
            for path in images
        ]

    def _note_twins(self, where: str, images: Sequence[Path]) -> None:
        if twins := _twins(images):
            self.note(where, f"several images have one name but for the extension: {_names(twins)}")


def _category(folder: Path, dataset: str, name: str) -> Category:
    reader = _Reader(folder, dataset, name)
    listing = _list(folder)
    if others := [path for path in listing.folders if path.name not in _PARTS]:
        reader.note("", f"folders other than {', '.join(_PARTS)} were left out: {_names(others)}")
    if listing.images:
        reader.note("", f"images beside the folder 'test' were left out: {_names(listing.images)}")
    train = _train(reader)
    test = _test(reader)
    return Category(dataset, name, tuple(train), tuple(test), tuple(reader.problems))


def _train(reader: _Reader) -> list[Record]:
    kinds = reader.kinds("train")
    if others := [kind for kind in kinds if kind != _GOOD]:
        reader.note("train", f"folders other than 'good' were left out: {', '.join(map(shown, others))}")
    return reader.records("train", _GOOD, {}) if _GOOD in kinds else []


def _test(reader: _Reader) -> list[Record]:
    defects = [kind for kind in reader.kinds("test") if kind != _GOOD]
    masks = _masks(reader, defects)
    test = [*reader.records("test", _GOOD, {})]
    for defect in defects:
        found = reader.records("test", defect, masks)
        test += found
        if not found:
            reader.note(f"test/{defect}", "there is no image")
        elif masks and (bare := [record.image for record in found if record.mask is None]):
            of = f"{len(bare)} of {_count(len(found), 'image')}"
            reader.note(f"test/{defect}", f"pixel metrics leave out {of}, without a mask: {_names(bare)}")
    _note_missing(reader, test)
    return sorted(test, key=lambda record: record.image)


def _note_missing(reader: _Reader, test: Sequence[Record]) -> None:
    labels = {record.label for record in test}
    for label, kind in enumerate(("good", "defective")):
        if label not in labels:
            reader.note("test", f"there is no {kind} image, so that metrics are undefined")


# Masks


def _masks(reader: _Reader, defects: Sequence[str]) -> dict[Path, Path]:
    """Return the mask of each test image that has one."""
    kinds = reader.kinds("ground_truth")
    pairs: dict[Path, Path] = {}
    for kind in kinds:
        masks = reader.images(f"ground_truth/{kind}")
        if kind == _GOOD and masks:
            reader.note(f"ground_truth/{kind}", f"left out {_count(len(masks), 'mask')} of good images")
        elif kind != _GOOD:
            images = _list(reader.folder / "test" / kind).images if kind in defects else ()
            pairs.update(_pair(reader, f"ground_truth/{kind}", images, masks))
    if (reader.folder / "ground_truth").is_dir() and not pairs:
        reader.note("ground_truth", "no mask belongs to an image, so that pixel metrics are undefined")
    return pairs


def _pair(reader: _Reader, where: str, images: Sequence[Path], masks: Sequence[Path]) -> dict[Path, Path]:
    """Match images and masks of one defect by stem: ``000_mask`` first, plain ``000`` for what is left.

    Where two images or two masks share a stem nobody can say which belongs to which: none is used.
    """
    twins = {path.stem + ending for path in _twins(images) for ending in _ENDINGS}
    doubtful = {*_twins(masks), *(path for path in masks if path.stem in twins)}
    if doubtful:
        reader.note(
            where, f"left out masks that fit several images or share a name: {_names(sorted(doubtful))}"
        )
    free = {path.stem: path for path in masks if path not in doubtful}
    pairs: dict[Path, Path] = {}
    for ending in _ENDINGS:
        for image in images:
            if image not in pairs and image.stem + ending in free:
                pairs[image] = free.pop(image.stem + ending)
    if free:
        spare = sorted(free.values())
        reader.note(where, f"{_count(len(spare), 'mask')} without an image of that name: {_names(spare)}")
    return pairs


def _twins(paths: Sequence[Path]) -> list[Path]:
    """Return the paths that share their stem with another one."""
    count = Counter(path.stem for path in paths)
    return [path for path in paths if count[path.stem] > 1]
