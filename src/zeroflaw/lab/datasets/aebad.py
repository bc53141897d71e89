"""AeBAD (Zhang et al., Computers in Industry 2023): blades of aeroengines under shifts of domain::

    <root>/AeBAD_S/train/good/{background,illumination,view}/*.png
    <root>/AeBAD_S/test/{good,ablation,breakdown,fracture,groove}/{same,background,illumination,view}/*.png
    <root>/AeBAD_S/ground_truth/<defect>/<domain>/<name of the image>.png

    <root>/AeBAD_V/train/good/<video>_train/*.jpg
    <root>/AeBAD_V/test/{video1,video2,video3}/{good,anomaly}/*.jpg

A defect need not occur in every domain. The archive holds ``._*`` files of another system, which are hidden
files and passed over. AeBAD_V has labels of images only. The domains of a category (videos in AeBAD_V) are
measured one by one; those of training differ from those of the test in spite of their names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from zeroflaw.errors import DatasetError
from zeroflaw.finding import shown
from zeroflaw.listing import folder_name, found_in, is_folder, list_folder, names, require_folder
from zeroflaw.records import Category, Dataset, Record

from .category import GOOD, MASKS, Reader

DOMAINS = ("background", "illumination", "same", "view")
VIDEOS = ("video1", "video2", "video3")
OBJECT = "aeroengine blade"
_PARTS = ("train", "test", MASKS)


def is_aebad(folder: Path) -> bool:
    """Whether a folder looks like AeBAD or one of its two parts."""
    return bool(_parts(folder))


def open_aebad(root: str | os.PathLike[str]) -> Dataset:
    """List AeBAD without opening an image; its parts are the categories, each with its domains.

    Args:
        root: the folder above ``AeBAD_S`` and ``AeBAD_V``, or one of them.

    Raises:
        DatasetError: ``root`` is no folder, has neither part, or a part has no test image.
    """
    folder = require_folder(root)
    parts = _parts(folder)
    if not parts:
        raise DatasetError(
            "AeBAD is wanted with AeBAD_S/test/good/<domain> or AeBAD_V/test/<video>/good, but "
            f"'{shown(folder)}' holds {found_in(folder)}; check the path, or unpack the archive again"
        )
    single = folder in parts
    name = folder_name(folder.resolve().parent if single else folder)
    categories = tuple(_category(part, name, form) for part, form in parts.items())
    for part, category in zip(parts, categories, strict=True):
        if not category.test:
            raise DatasetError(
                f"test images are wanted in '{shown(part)}', but there is none; unpack the archive again "
                f"({' '.join(category.problems)})"
            )
    left_out = [child for child in list_folder(folder).folders if child not in parts] if not single else []
    problems = [f"{name}: folders that are no part of AeBAD were left out: {names(left_out)}."]
    return Dataset(name, categories, tuple(problems if left_out else ()), "aebad")


_Form = Callable[[Reader], list[Record]]


def _parts(folder: Path) -> dict[Path, _Form]:
    """Return the folders that are a part of AeBAD, each with what reads its test images."""
    places = (folder, *list_folder(folder).folders)
    found = {place: form for place in places if (form := _form(place)) is not None}
    return {folder: found[folder]} if folder in found else found


def _form(folder: Path) -> _Form | None:
    test = folder / "test"
    if any(is_folder(test / GOOD / domain) for domain in DOMAINS):
        return _single_blades
    return _videos if any(is_folder(test / video / GOOD) for video in VIDEOS) else None


def _category(folder: Path, dataset: str, form: _Form) -> Category:
    reader = Reader(folder, dataset, folder_name(folder))
    if others := [path for path in list_folder(folder).folders if path.name not in _PARTS]:
        reader.note("", f"folders other than {', '.join(_PARTS)} were left out: {names(others)}")
    train = _train(reader)
    test = form(reader)
    for domain in sorted({str(record.domain) for record in test}):
        reader.note_one_sided(f"test, {domain}", [r for r in test if r.domain == domain])
    problems = tuple(reader.problems)
    return Category(dataset, reader.name, tuple(train), tuple(_sorted(test)), problems, OBJECT)


def _sorted(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.image)


def _train(reader: Reader) -> list[Record]:
    if others := [kind for kind in reader.kinds("train") if kind != GOOD]:
        reader.note("train", f"folders other than '{GOOD}' were left out: {names(others)}")
    where = f"train/{GOOD}"
    records = []
    for domain in reader.kinds(where):
        records += reader.records("train", f"{where}/{domain}", GOOD, domain=domain.removesuffix("_train"))
    return _sorted(records)


def _single_blades(reader: Reader) -> list[Record]:
    records: list[Record] = []
    masks_at_hand = is_folder(reader.folder / MASKS)
    for kind in reader.kinds("test"):
        for domain in reader.kinds(f"test/{kind}"):
            where = f"test/{kind}/{domain}"
            masks = _masks(reader, kind, domain) if kind != GOOD else {}
            found = reader.records("test", where, kind, masks, domain)
            if kind != GOOD and masks_at_hand:
                reader.note_bare(where, found)
            records += found
    _note_absent(reader, "domain", DOMAINS, records)
    _note_spare_masks(reader)
    return records


def _masks(reader: Reader, kind: str, domain: str) -> dict[Path, Path]:
    where = f"{MASKS}/{kind}/{domain}"
    if not is_folder(reader.folder / where):
        return {}
    images = list_folder(reader.folder / "test" / kind / domain).images
    return reader.pair(where, images, reader.images(where))


def _note_spare_masks(reader: Reader) -> None:
    """Name folders of masks that no folder of defective images goes with."""
    for kind in reader.kinds(MASKS):
        for domain in reader.kinds(f"{MASKS}/{kind}"):
            masks = list_folder(reader.folder / MASKS / kind / domain).images
            if masks and (kind == GOOD or not is_folder(reader.folder / "test" / kind / domain)):
                reader.note(f"{MASKS}/{kind}/{domain}", f"masks without images were left out: {names(masks)}")


def _videos(reader: Reader) -> list[Record]:
    records: list[Record] = []
    for video in reader.kinds("test"):
        for kind in reader.kinds(f"test/{video}"):
            records += reader.records("test", f"test/{video}/{kind}", kind, domain=video)
    _note_absent(reader, "video", VIDEOS, records)
    return records


def _note_absent(reader: Reader, what: str, known: tuple[str, ...], records: list[Record]) -> None:
    there = {record.domain for record in records}
    if absent := [name for name in known if name not in there]:
        reader.note("test", f"there is no image of the {what} {', '.join(absent)}")
