"""``zeroflaw corrupt``: copies of pictures under another light, focus or noise."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

import click
import numpy as np

from zeroflaw._version import __version__
from zeroflaw.cli.folders import fresh_folder
from zeroflaw.cli.options import reading_options
from zeroflaw.cli.output import PATH, overwrite_option, quiet_option, repeated, say, tell_skipped
from zeroflaw.cli.progress import with_bar
from zeroflaw.corruptions import CORRUPTIONS, moved_mask, moves, parse_corruption
from zeroflaw.corruptions import corrupt as corrupted
from zeroflaw.errors import DatasetError, ImageError, InputError, UsageError, printable
from zeroflaw.files import read_json, write_json
from zeroflaw.finding import MASK_FOLDER
from zeroflaw.images import ImageList, find_images, read_image, read_orientation, shown
from zeroflaw.lab.datasets import open_dataset
from zeroflaw.masks import open_mask
from zeroflaw.records import Dataset
from zeroflaw.report.drawing import write_png
from zeroflaw.shifts import SHIFTS, Pixels

RECORD = "corruption.json"
SCHEMA = 1
Folders = Mapping[tuple[str, int], Path]  # of the copies, by corruption and severity


class Item(NamedTuple):
    """One file of the source.

    Attributes:
        path: where it is.
        target: where its copy goes, below the folder of one corruption.
        key: the name that noise is drawn for; None where the file is no picture to corrupt.
        masks: the picture whose flaws it marks, where it is a mask of a corrupted one.
        ignore: the value of pixels in it of which nothing is known, or None.
    """

    path: Path
    target: PurePosixPath
    key: str | None
    masks: Path | None = None
    ignore: int | None = None


@click.command()
@click.argument("source", type=PATH)
@click.argument("dest", type=PATH)
@repeated("--corruption", "names", required=True, metavar="NAME", help=", ".join((*CORRUPTIONS, *SHIFTS)))
@repeated(
    "--severity", "severities", type=click.IntRange(1, 5), default=(3,), metavar="N", help="1 to 5 (3)."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Seed of the noise."
)
@click.option("--all", "train", is_flag=True, help="Of a data set: corrupt the training images, too.")
@overwrite_option
@quiet_option
@reading_options
def corrupt(
    source: Path,
    dest: Path,
    names: tuple[str, ...],
    severities: tuple[int, ...],
    seed: int,
    train: bool,
    overwrite: bool,
    quiet: bool,
) -> int:
    """Write corrupted copies of the images in SOURCE as PNG files, below DEST/NAME-SEVERITY/.

    SOURCE is an image, a folder of images, or a data set in a layout that 'zeroflaw datasets' lists. Of a
    data set, only the test images are corrupted; everything else is copied unchanged, but for masks: they go
    with their pictures where these are moved, or turned upright. Images that cannot be read are reported, the
    others go on, and the exit code is 3.
    """
    pairs = [parse_corruption(f"{name}:{severity}") for name in names for severity in severities]
    places = {(name, severity): dest / f"{name}-{severity}" for name, severity in pairs}
    items, found = list_source(source, train=train)
    for place in places.values():
        _refuse_mixing(source, place)
    with ExitStack() as stack:
        folders = {
            pair: stack.enter_context(fresh_folder(place, overwrite, _written))
            for pair, place in places.items()
        }
        tell_skipped(found, quiet)
        unreadable = _write_all(items, folders, seed, quiet)
        wanted = sum(item.key is not None for item in items)
        for (name, severity), folder in folders.items():
            record = {
                "schema": SCHEMA,
                "zeroflaw": __version__,
                "corruption": name,
                "severity": severity,
                "seed": seed,
                "corrupted": wanted - len(unreadable),
                "copied": len(items) - wanted,
                "unreadable": unreadable,
                "files": sorted(shown(item.target) for item in items),
            }
            write_json(folder / RECORD, record)
    for place in places.values():
        say(f"wrote {place}", quiet)
    return InputError.exit_code if unreadable else 0


def list_source(source: Path, *, train: bool = False) -> tuple[list[Item], ImageList]:
    """List the files behind SOURCE with what becomes of each, and what is left out.

    Raises:
        InputError: there is nothing, nothing would be corrupted, masks would be, or two copies would have
            one name.
    """
    if not source.exists():
        raise InputError(f"there is no file or folder '{shown(source)}'; check the path")
    found = find_images([source])
    dataset = _dataset(source)
    if dataset is None:
        base = source if source.is_dir() else source.parent
        places = {path: PurePosixPath(path.relative_to(base).as_posix()) for path in found.paths}
        _refuse_masks(source, [path.relative_to(base) for path in (*found.paths, *found.masks)])
        items = [Item(path, place.with_suffix(".png"), str(place)) for path, place in places.items()]
    else:
        items = _items(source, dataset, found, train)
        found = ImageList(found.paths, tuple(path for path in found.skipped if path.is_dir()))
    taken: dict[PurePosixPath, Item] = {}
    for item in items:
        if (other := taken.setdefault(item.target, item)) is not item:
            raise InputError(
                f"'{shown(other.path)}' and '{shown(item.path)}' would both become '{shown(item.target)}'; "
                "rename one"
            )
    return items, found


def _dataset(source: Path) -> Dataset | None:
    """Open the source as a data set, or return None where it is only images."""
    if not source.is_dir():
        return None
    try:
        return open_dataset(str(source))
    except DatasetError:
        if any((folder / "test").is_dir() for folder in (source, *source.iterdir())):
            raise
        return None


def _items(source: Path, dataset: Dataset, found: ImageList, train: bool) -> list[Item]:
    keys = {
        record.image.absolute(): record.key
        for category in dataset
        for record in (*category.test, *(category.train if train else ()))
    }
    masks = {
        mask.absolute(): (record.image, category.ignore)
        for category in dataset
        for record in (*category.test, *(category.train if train else ()))
        for mask in record.masks
    }
    files = [path for path in (*found.paths, *found.masks, *found.skipped) if path.is_file()]
    # A table names images as they are; they keep their names then, though all are PNG.
    renamed = not any(path.suffix.lower() == ".csv" for path in files)
    prefix = source.resolve().name if (source / "test").is_dir() else ""  # a category alone keeps its name
    items = []
    for path in files:
        key = keys.get(path.absolute())
        place = PurePosixPath(prefix, path.relative_to(source).as_posix())
        target = place.with_suffix(".png") if key and renamed else place
        items.append(Item(path, target, key, *masks.get(path.absolute(), (None, None))))
    return items


def _refuse_masks(source: Path, places: Iterable[PurePath]) -> None:
    for place in places:
        if masks := [name for name in place.parts[:-1] if MASK_FOLDER.match(name)]:
            raise InputError(
                f"'{shown(source)}' is no data set but holds masks ({masks[0]}), which must not be "
                "corrupted; give the root of one data set or a folder of images only"
            )


def _refuse_mixing(source: Path, folder: Path) -> None:
    place, origin = folder.resolve(), source.resolve()
    if source.is_dir() and (place.is_relative_to(origin) or origin.is_relative_to(place)):
        raise UsageError(f"copies in {folder} would mix with their source {source}; choose another folder")


def _written(folder: Path) -> set[str]:
    if not (folder / RECORD).exists():
        return set()
    record = read_json(folder / RECORD, 1 << 26, "record of earlier copies", UsageError)
    return {RECORD, *map(str, record.get("files", ()))}


def _write_all(items: Sequence[Item], folders: Folders, seed: int, quiet: bool) -> list[str]:
    """Write all copies and return the keys of the images that could not be read."""
    unreadable = []
    with with_bar(total=len(items), title="corrupt", quiet=quiet) as bar:
        for item in items:
            try:
                _write(item, folders, seed)
            except ImageError as error:
                bar.write(f"zeroflaw: {printable(error)}", file=sys.stderr)
                unreadable.append(shown(item.key))
            bar.update()
    return unreadable


def _write(item: Item, folders: Folders, seed: int) -> None:
    image = None if item.key is None else read_image(item.path)
    turned = item.masks is not None and read_orientation(item.masks) != 1
    for (name, severity), folder in folders.items():
        target = folder / item.target
        target.parent.mkdir(parents=True, exist_ok=True)
        if image is not None and item.key is not None:
            pixels = corrupted(image, name, severity, seed=seed, key=item.key)
        elif item.masks is not None and (turned or moves(name)):
            pixels = _mask(item.path, item.masks, item.ignore, name, severity)
        else:
            shutil.copyfile(item.path, target)
            continue
        with target.open("wb") as stream:  # the name may end in .jpg
            write_png(stream, pixels)


def _mask(path: Path, picture: Path, ignore: int | None, name: str, severity: int) -> Pixels:
    """Return a mask as it lies on the copy of its picture, uint8 (H, W): upright, and moved with it."""
    seen = read_image(picture)
    mask = open_mask(path, (seen.shape[0], seen.shape[1]), image=picture, ignore=ignore)
    pixels = np.where(moved_mask(mask.marked, name, severity), 1 if ignore == 255 else 255, 0)
    if mask.ignored is not None and ignore is not None:
        pixels[moved_mask(mask.ignored, name, severity)] = ignore
    return pixels.astype(np.uint8)
