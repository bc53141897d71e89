"""Reading one product from folders of good images, folders of defects, and masks beside them.

Most layouts are variations of MVTec AD's; a :class:`Form` says which one. Nothing is skipped silently, except
hidden files and files beside the parts of a category that are no images, such as a licence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zeroflaw.finding import shown
from zeroflaw.listing import count, is_folder, list_folder, names, twins
from zeroflaw.records import Category, Record

GOOD = "good"
MASKS = "ground_truth"
_ENDINGS = ("_mask", "")  # of a mask's stem, after the stem of its image


@dataclass(frozen=True, slots=True)
class Form:
    """How a layout differs from MVTec AD's.

    Attributes:
        layout: name of the layout.
        good: name of the folder of good images.
        test: folder that holds the test images; ``""`` where their folders lie in the category itself.
        unused: further parts of a category that hold good images which no protocol scores.
        mask_folders: whether each image has a folder of masks, one file a defect, in place of one mask.
        objects: what to call products whose names say nothing.
    """

    layout: str
    good: str = GOOD
    test: str = "test"
    unused: tuple[str, ...] = ()
    mask_folders: bool = False
    objects: Mapping[str, str] | None = None

    @property
    def marker(self) -> str:
        """The folder that makes another one a category."""
        return self.test or self.good

    def is_category(self, folder: Path) -> bool:
        """Whether a folder is a category of this layout."""
        return is_folder(folder / self.marker)

    def below(self, kind: str) -> str:
        """Where the images of a kind lie, relative to the category."""
        return f"{self.test}/{kind}" if self.test else kind


class Reader:
    """Collects the records and problems of one category."""

    def __init__(self, folder: Path, dataset: str, name: str) -> None:
        self.folder, self.dataset, self.name = folder, dataset, name
        self.problems: list[str] = []

    def note(self, where: str, sentence: str) -> None:
        """Add a problem of a place in the category; ``sentence`` comes without its full stop."""
        self.problems.append(f"{shown(f'{self.name}/{where}'.rstrip('/'))}: {sentence}.")

    def images(self, where: str) -> tuple[Path, ...]:
        """List the images of a folder that should hold nothing else."""
        listing = list_folder(self.folder / where)
        self._note_others(where, listing.others)
        if listing.folders:
            self.note(where, f"folders inside were left out: {names(listing.folders)}")
        return listing.images

    def _note_others(self, where: str, others: Sequence[Path]) -> None:
        if others:
            files = count(len(others), "entry", "entries")
            self.note(where, f"left out {files} that cannot be images: {names(others)}")

    def kinds(self, part: str) -> list[str]:
        """List the folders of a part, that of good images included."""
        listing = list_folder(self.folder / part)
        if files := listing.images + listing.others:
            what = count(len(files), "file")
            self.note(part, f"left out {what} outside the folders of this part: {names(files)}")
        return [path.name for path in listing.folders]

    def records(
        self,
        split: Literal["train", "test"],
        where: str,
        defect: str,
        masks: Mapping[Path, Path] | None = None,
        domain: str | None = None,
    ) -> list[Record]:
        """Return a record for each image of a folder; ``defect`` is ``"good"`` for good ones."""
        images = self.images(where)
        if doubles := twins(images):
            self.note(where, f"several images have one name but for the extension: {names(doubles)}")
        label, masks = int(defect != GOOD), masks or {}
        return [
            Record(self.dataset, self.name, split, label, defect, domain, path, masks.get(path))
            for path in images
        ]

    def note_bare(self, where: str, found: Sequence[Record]) -> None:
        """Name the defective images without a mask, in a category that has masks."""
        if bare := [record.image for record in found if record.mask is None]:
            of = f"{len(bare)} of {count(len(found), 'image')}"
            self.note(where, f"pixel metrics leave out {of}, without a mask: {names(bare)}")

    def note_one_sided(self, where: str, test: Iterable[Record]) -> None:
        """Say where there is no good image, or no defective one."""
        labels = {record.label for record in test}
        for label, kind in enumerate(("good", "defective")):
            if label not in labels:
                self.note(where, f"there is no {kind} image, so that metrics are undefined")

    def pair(
        self, where: str, images: Sequence[Path], masks: Sequence[Path], *, folders: bool = False
    ) -> dict[Path, Path]:
        """Match images and masks by stem: ``000_mask`` first, plain ``000`` for what is left.

        Where two images or two masks share a stem nobody can say which belongs to which: none is used.
        Folders of masks (``folders``) go by their whole name.
        """
        called = {path: path.name if folders else path.stem for path in masks}
        doubted = {path.stem + ending for path in twins(images) for ending in _ENDINGS}
        doubtful = {path for path in masks if called[path] in doubted}
        doubtful |= set() if folders else set(twins(masks))
        if doubtful:
            self.note(
                where, f"left out masks that fit several images or share a name: {names(sorted(doubtful))}"
            )
        free = {called[path]: path for path in masks if path not in doubtful}
        pairs: dict[Path, Path] = {}
        for ending in _ENDINGS:
            for image in images:
                if image not in pairs and image.stem + ending in free:
                    pairs[image] = free.pop(image.stem + ending)
        if free:
            spare = sorted(free.values())
            self.note(where, f"{count(len(spare), 'mask')} without an image of that name: {names(spare)}")
        return pairs

    def mask_folders(self, where: str) -> list[Path]:
        """List the folders of masks in a folder; those without a mask are left out."""
        listing = list_folder(self.folder / where)
        if files := listing.images + listing.others:
            wanted = "masks are wanted in a folder for each image"
            self.note(where, f"{wanted}, left out {count(len(files), 'file')}: {names(files)}")
        full = []
        for folder in listing.folders:
            if self.images(f"{where}/{folder.name}"):
                full.append(folder)
            else:
                self.note(f"{where}/{folder.name}", "there is no mask")
        return full


def read_category(folder: Path, dataset: str, name: str, form: Form) -> Category:
    """List one category of a layout.

    Raises:
        DatasetError: a folder cannot be read.
    """
    reader = Reader(folder, dataset, name)
    _note_beside(reader, form)
    train = _train(reader, form)
    test = _test(reader, form)
    called = (form.objects or {}).get(name)
    return Category(dataset, name, tuple(train), tuple(test), tuple(reader.problems), called)


def _note_beside(reader: Reader, form: Form) -> None:
    listing = list_folder(reader.folder)
    parts = ("train", form.test, MASKS, *form.unused) if form.test else ()
    if parts and (others := [path for path in listing.folders if path.name not in parts]):
        plain = ", ".join(part for part in parts if part not in form.unused)
        reader.note("", f"folders other than {plain} were left out: {names(others)}")
    if listing.images:
        reader.note(
            "", f"images beside the folder '{shown(form.marker)}' were left out: {names(listing.images)}"
        )
    for part in form.unused:
        images = [path for kind in reader.kinds(part) for path in reader.images(f"{part}/{kind}")]
        if images:
            reader.note(part, f"{count(len(images), 'image')} of this part are not used")


def _train(reader: Reader, form: Form) -> list[Record]:
    kinds = reader.kinds("train")
    if others := [kind for kind in kinds if kind != form.good]:
        left = ", ".join(map(shown, others))
        reader.note("train", f"folders other than '{form.good}' were left out: {left}")
    return reader.records("train", f"train/{form.good}", GOOD) if form.good in kinds else []


def _defects(reader: Reader, form: Form) -> list[str]:
    if form.test:
        return [kind for kind in reader.kinds(form.test) if kind != form.good]
    beside = (form.good, "train", MASKS)
    return [path.name for path in list_folder(reader.folder).folders if path.name not in beside]


def _test(reader: Reader, form: Form) -> list[Record]:
    defects = _defects(reader, form)
    masks = _masks(reader, form, defects)
    test = reader.records("test", form.below(form.good), GOOD)
    for defect in defects:
        where = form.below(defect)
        found = reader.records("test", where, defect, masks)
        test += found
        if not found:
            reader.note(where, "there is no image")
        elif masks:
            reader.note_bare(where, found)
    reader.note_one_sided(form.test, test)
    return sorted(test, key=lambda record: record.image)


def _masks(reader: Reader, form: Form, defects: Sequence[str]) -> dict[Path, Path]:
    """Return the mask, or folder of masks, of each test image that has one."""
    pairs: dict[Path, Path] = {}
    for kind in reader.kinds(MASKS):
        where = f"{MASKS}/{kind}"
        masks = reader.mask_folders(where) if form.mask_folders else reader.images(where)
        if kind == form.good and masks:
            reader.note(where, f"left out {count(len(masks), 'mask')} of good images")
        elif kind != form.good:
            images = list_folder(reader.folder / form.below(kind)).images if kind in defects else ()
            pairs.update(reader.pair(where, images, masks, folders=form.mask_folders))
    if is_folder(reader.folder / MASKS) and not pairs:
        reader.note(MASKS, "no mask belongs to an image, so that pixel metrics are undefined")
    return pairs
