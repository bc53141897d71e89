"""``zeroflaw corrupt``: copies of pictures under another light, focus or noise."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import click

from zeroflaw.cli.common import prepare_output, say, with_bar
from zeroflaw.errors import ImageError, InputError, UsageError

RECORD = "corruption.json"
SCHEMA = 1
_MASKS = frozenset({"ground_truth", "mask", "masks"})


@dataclass(frozen=True, slots=True)
class Item:
    """One file of the source.

    Attributes:
        path: where it is.
        key: where it is below the root of its data set, with slashes; noise is drawn for this name.
        corrupted: whether it is a picture to corrupt; else it is copied unchanged.
    """

    path: Path
    key: str
    corrupted: bool

    @property
    def target(self) -> PurePosixPath:
        """Return where its copy goes, below the folder of one corruption."""
        key = PurePosixPath(self.key)
        return key.with_suffix(".png") if self.corrupted else key


@dataclass(frozen=True, slots=True)
class Variant:
    """One corruption at one severity, and the folder for its copies."""

    name: str
    severity: int
    folder: Path


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("dest", type=click.Path(path_type=Path))
@click.option(
    "--corruption",
    "names",
    multiple=True,
    required=True,
    metavar="NAME",
    help="brightness, contrast, defocus_blur or gaussian_noise; may be repeated.",
)
@click.option(
    "--severity",
    "severities",
    multiple=True,
    type=click.IntRange(1, 5),
    default=(3,),
    show_default="3",
    metavar="N",
    help="1 to 5; may be repeated.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Seed of the noise."
)
@click.option("--all", "train", is_flag=True, help="Of a data set: corrupt the training images, too.")
@click.option("--overwrite", is_flag=True, help="Replace the results of an earlier run.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
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

    SOURCE is an image, a folder of images, or a data set in the layout of MVTec AD. Of a data set, only the
    test images are corrupted; everything else, masks above all, is copied unchanged. Images that cannot be
    read are reported, the others go on, and the exit code is 3.
    """
    from zeroflaw.finding import shown

    variants = _variants(dest, names, severities)
    items, skipped = list_source(source, train=train)
    _check_places(source, items, variants, overwrite)
    _tell_skipped(skipped, quiet)
    for variant in variants:
        prepare_output(variant.folder, RECORD, overwrite)
        (variant.folder / RECORD).unlink(missing_ok=True)  # it says that the folder is complete
    unreadable = _write_all(items, variants, seed, quiet)
    for variant in variants:
        _write_record(variant, items, seed=seed, unreadable=unreadable)
        say(f"wrote {shown(variant.folder)}", quiet)
    return InputError.exit_code if unreadable else 0


def _variants(dest: Path, names: Sequence[str], severities: Sequence[int]) -> list[Variant]:
    from zeroflaw.lab.corruptions import parse_corruption

    pairs = [parse_corruption(f"{name}:{severity}") for name in names for severity in severities]
    return [Variant(name, severity, dest / f"{name}-{severity}") for name, severity in dict.fromkeys(pairs)]


# What there is to do


def list_source(source: Path, *, train: bool = False) -> tuple[list[Item], list[Path]]:
    """List the files behind SOURCE with what becomes of each, and what is left out.

    Raises:
        InputError: there is nothing, nothing would be corrupted, masks would be, or two copies would have
            one name.
    """
    from zeroflaw.finding import find_images, shown

    if not source.exists():
        raise InputError(f"there is no file or folder '{shown(source)}'; check the path")
    found = find_images([source])
    if not _is_dataset(source):
        skipped = list(found.skipped)
        base = source if source.is_dir() else source.parent
        items = [Item(path, path.relative_to(base).as_posix(), True) for path in found.paths]
        _refuse_masks(source, items)
    else:
        skipped = [path for path in found.skipped if path.is_dir()]
        parts = ("test", "train") if train else ("test",)
        others = [path for path in found.skipped if path.is_file()]
        items = [_item(path, source, parts) for path in found.paths]
        items += [Item(path, _dataset_key(path, source), False) for path in others]
        if not any(item.corrupted for item in items):
            raise InputError(
                f"test images are wanted in <category>/test, but '{shown(source)}' has none; check the path"
            )
    _refuse_twins(items)
    return items, skipped


def _is_category(folder: Path) -> bool:
    return (folder / "test").is_dir()


def _is_dataset(source: Path) -> bool:
    """Whether this is a data set in the layout of MVTec AD, or a category of one."""
    return _is_category(source) or (source.is_dir() and any(map(_is_category, source.iterdir())))


def _dataset_key(path: Path, source: Path) -> str:
    """Return the path below the root of the data set, also where only a category of it was given."""
    below = path.relative_to(source).as_posix()
    return f"{source.resolve().name}/{below}" if _is_category(source) else below


def _item(path: Path, source: Path, parts: Sequence[str]) -> Item:
    key = _dataset_key(path, source)
    where = PurePosixPath(key).parts  # category, part, kind of defect, name
    return Item(path, key, len(where) > 2 and where[1] in parts)


def _tell_skipped(paths: Iterable[Path], quiet: bool) -> None:
    from zeroflaw.finding import shown

    for path in paths:
        reason = (
            "it is a link to a folder, which is not followed" if path.is_dir() else "it is not an image file"
        )
        say(f"zeroflaw: {shown(path)}: skipped, {reason}", quiet)


def _refuse_masks(source: Path, items: Sequence[Item]) -> None:
    from zeroflaw.finding import shown

    for item in items:
        folders = PurePosixPath(item.key).parts[:-1]
        if masks := [name for name in folders if name.lower() in _MASKS]:
            raise InputError(
                f"'{shown(source)}' is no data set in the layout of MVTec AD but holds masks ({masks[0]}), "
                "which must not be corrupted; give the root of one data set or a folder of images only"
            )


def _refuse_twins(items: Sequence[Item]) -> None:
    from zeroflaw.finding import shown

    taken: dict[PurePosixPath, Item] = {}
    for item in items:
        other = taken.setdefault(item.target, item)
        if other is not item:
            raise InputError(
                f"'{shown(other.path)}' and '{shown(item.path)}' would both become '{shown(item.target)}'; "
                "rename one"
            )


# Where it may be written


def _check_places(source: Path, items: Sequence[Item], variants: Sequence[Variant], overwrite: bool) -> None:
    """Refuse to write into the source or over files that are not ours, before anything is written."""
    origin = source.resolve()
    for variant in variants:
        place = variant.folder.resolve()
        if source.is_dir() and (place.is_relative_to(origin) or origin.is_relative_to(place)):
            raise UsageError(
                f"copies in {variant.folder} would mix with their source {source}; choose a folder elsewhere"
            )
        _check_folder(variant.folder, {RECORD, *(str(item.target) for item in items)}, overwrite)


def _check_folder(folder: Path, ours: set[str], overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} should be a folder but is a file; choose another place")
    there = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())
    if there and not overwrite:
        raise UsageError(f"{folder} already holds files; give another folder or --overwrite")
    if strange := [name for name in there if name not in ours]:
        raise UsageError(
            f"{folder} holds {strange[0]}, which this run would leave among its copies; give another folder"
        )


# Doing it


def _write_all(items: Sequence[Item], variants: Sequence[Variant], seed: int, quiet: bool) -> list[str]:
    """Write all copies and return the keys of the images that could not be read."""
    from zeroflaw.finding import shown

    unreadable = []
    bar: Any = with_bar((), total=len(items), title="corrupt", quiet=quiet)
    with bar:
        for item in items:
            try:
                _write(item, variants, seed)
            except ImageError as error:
                bar.write(f"zeroflaw: {shown(error.source)}: {error.reason}", file=sys.stderr)
                unreadable.append(item.key)
            bar.update()
    return unreadable


def _write(item: Item, variants: Sequence[Variant], seed: int) -> None:
    from zeroflaw.files import atomic
    from zeroflaw.images import read_image
    from zeroflaw.lab.corruptions import corrupt
    from zeroflaw.report import write_png

    targets = [variant.folder / item.target for variant in variants]
    if not item.corrupted:
        for target in targets:
            with atomic(target) as temporary:
                shutil.copyfile(item.path, temporary)
        return
    for target in targets:  # what an earlier run left here must not stand for an image that cannot be read
        target.unlink(missing_ok=True)
    image = read_image(item.path)
    for variant, target in zip(variants, targets, strict=True):
        write_png(target, corrupt(image, variant.name, variant.severity, seed=seed, key=item.key))


def _write_record(variant: Variant, items: Sequence[Item], *, seed: int, unreadable: list[str]) -> None:
    from zeroflaw._version import __version__
    from zeroflaw.files import write_json
    from zeroflaw.finding import shown

    corrupted = sum(item.corrupted for item in items)
    record = {
        "schema": SCHEMA,
        "zeroflaw": __version__,
        "corruption": variant.name,
        "severity": variant.severity,
        "seed": seed,
        "corrupted": corrupted - len(unreadable),
        "copied": len(items) - corrupted,
        "unreadable": [shown(key) for key in unreadable],
    }
    write_json(variant.folder / RECORD, record)
