"""Finding images by what a user names: files, folders, patterns; what lies among them and is no photo.

Links to folders are never followed inside a folder or by ``**``, so that loops end. Left out are hidden
files, masks of photos that are there, too, and what an earlier run of ``detect`` wrote.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zeroflaw.errors import InputError, printable, reason

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".dcm"})
MASK_ENDING = re.compile(
    r"[_.\- ](?:masks?|gt|ground[_-]?truth|labels?|seg|segm|segmentation|annotation)"
    r"(?:[_-]?(?P<number>\d{1,3}))?$",
    re.IGNORECASE,
)
MASK_FOLDER = re.compile(r"(?:ground[_\- ]?truth|gt|masks?)$", re.IGNORECASE)
PHOTO_FOLDER = re.compile(
    r"(?:images?|imgs?|photos?|pictures?|pics|originals?|raw|rgb|data|test|train(?:ing)?|val(?:idation)?)$",
    re.IGNORECASE,
)
RESULTS = "predictions.jsonl"  # a folder with this file is one of results
RESULT_FOLDERS = ("maps", "masks", "labels")
RESULT_SHEETS = "contact-sheet-*.png"
_START = b'{"schema": '  # how every line of ours begins


@dataclass(frozen=True, slots=True)
class ImageList:
    """The images behind the paths that were given.

    Attributes:
        paths: the images: arguments in the order given, each folder sorted by name, no file twice.
        skipped: what folders and patterns also held: files without an image's extension and links to
            folders (never followed). Hidden files and folders are left out silently, as a shell does.
        masks: images that are the mask of another one by name (`001_mask.png` beside `001.png`) or place
            (`masks/001.png` and `images/001.jpg`); see `masks_among`.
        results: folders with results of earlier runs, whose pictures are left out.
    """

    paths: tuple[Path, ...]
    skipped: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()
    results: tuple[Path, ...] = ()

    def __iter__(self) -> Iterator[Path]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def find_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> ImageList:
    """Expand files, folders (with all below them) and patterns such as ``photos/*.png`` into image paths.

    A file named outright is always taken, whatever its extension, so that a reason can be reported for it.

    Raises:
        InputError: a path does not exist, or a folder or pattern holds no image.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    lists = [_expand(os.fspath(given)) for given in several]
    taken = _once(path for found in lists for path in found.paths)
    if not taken:
        raise InputError("no image was named; give a file, a folder or a pattern such as 'photos/*.png'")
    skipped, masks, results = (
        tuple(path for key, path in _once(paths).items() if key not in taken)
        for paths in (
            [path for found in lists for path in getattr(found, name)]
            for name in ("skipped", "masks", "results")
        )
    )
    return ImageList(tuple(taken.values()), skipped, masks, results)


def _once(paths: Iterable[Path]) -> dict[Path, Path]:
    """Return paths as they were given, by their absolute ones."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.absolute(), path)
    return found


def _expand(given: str) -> ImageList:
    path = Path(given)
    try:
        there = bool(given) and path.exists()
    except OSError as error:
        raise InputError(
            f"'{printable(path)}' cannot be looked at ({reason(error)}); check the path"
        ) from error
    if there and not path.is_dir():
        return ImageList((path,))
    if not there and not glob.has_magic(given):
        raise InputError(f"there is no file or folder '{printable(given)}'; check the path")
    walk = _Walk()
    walk.add([path] if there else _matching(given))
    images = [file for file in walk.files if file.suffix.lower() in EXTENSIONS]
    skipped = (*(file for file in walk.files if file.suffix.lower() not in EXTENSIONS), *walk.links)
    masks = dict.fromkeys(masks_among(images))
    photos = tuple(file for file in images if file not in masks)
    if not photos:
        what = f"folder '{printable(given)}' holds" if there else f"pattern '{printable(given)}' matches"
        others = f"{len(skipped)} other entries were skipped, " if skipped else ""
        ours = (
            f"results of an earlier run were left out ({printable(walk.results[0])}), "
            if walk.results
            else ""
        )
        raise InputError(f"{what} no image; {others}{ours}images end in .png, .jpg, .webp, .bmp or .tif")
    return ImageList(photos, skipped, tuple(masks), tuple(walk.results))


class _Walk:
    """What folders hold, in the order of names: files, links to folders, folders with results."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.links: list[Path] = []
        self.results: list[Path] = []

    def add(self, paths: Sequence[Path]) -> None:
        """Take files as they are, and all that lies below folders."""
        for path in paths:
            if path.is_dir():
                self._add_folder(path)
            else:
                self.files.append(path)

    def _add_folder(self, folder: Path) -> None:
        files: list[Path] = []
        links: list[Path] = []
        for root, folders, names in os.walk(folder, onerror=_cannot_list):
            here = Path(root)
            if RESULTS in names and is_results(here):
                self.results.append(here)
                folders[:], names = without_results(folders, names)
            folders[:] = [name for name in folders if not name.startswith(".")]
            links += [here / name for name in folders if (here / name).is_symlink()]
            files += [here / name for name in names if not name.startswith(".")]
        self.files += sorted(files, key=lambda path: path.parts)
        self.links += sorted(links)


def _cannot_list(error: OSError) -> None:
    raise InputError(
        f"folder '{printable(error.filename)}' cannot be read ({error.strerror}); check its permissions"
    )


def is_results(folder: Path) -> bool:
    """Whether ``detect`` wrote results into a folder."""
    try:
        if not (folder / RESULTS).is_file():  # a pipe might never end
            return False
        with (folder / RESULTS).open("rb") as stream:
            return stream.read(len(_START)) == _START
    except OSError:
        return False


def without_results(folders: Iterable[str], files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the folders and the images of a folder with results that ``detect`` did not write."""
    images = (name for name in files if os.path.splitext(name)[1].lower() in EXTENSIONS)  # noqa: PTH122
    photos = [name for name in images if not fnmatch.fnmatchcase(name, RESULT_SHEETS)]
    return [name for name in folders if name not in RESULT_FOLDERS], photos


def masks_among(images: Sequence[Path]) -> list[Path]:
    """Return the images that are the mask of another one, by their names and places.

    They are called like a mask of one in the same folder, or lie in a folder of masks and have a photo at the
    same place in a folder beside that, or in the one that holds both (`ground_truth/crack/001_mask.png` and
    `test/crack/001.png`; `Masks/001.png` and `Images/001.JPG`, or `001.JPG`). A folder called masks may hold
    a product: `masks/001.png` is no mask of `gloves/001.png`.
    """
    stems = {(image.parent, image.stem) for image in images}
    folders = {folder: folder.parents for folder in {parent for parent, _ in stems}}
    apart = {
        folder: [above for above in (folder, *parents) if MASK_FOLDER.match(above.name)]
        for folder, parents in folders.items()
    }
    beside = {above.parent: {above.parent} for several in apart.values() for above in several}
    for folder, parents in folders.items():
        for above in (folder, *parents):
            if above.parent in beside and not MASK_FOLDER.match(above.name):
                beside[above.parent].add(above)

    def is_mask(image: Path) -> bool:
        name = MASK_ENDING.sub("", image.stem)
        return (name != image.stem and (image.parent, name) in stems) or any(
            (photos / image.parent.relative_to(masks), stem) in stems
            for masks in apart[image.parent]
            for photos in beside[masks.parent]
            for stem in (image.stem, name)
            if name != image.stem
            or photos == masks.parent
            or masks.name.lower() not in ("mask", "masks")
            or PHOTO_FOLDER.match(photos.name)
        )

    return [image for image in images if is_mask(image)]


def _matching(pattern: str) -> list[Path]:
    """Return the files and folders that a pattern means, in the order of names."""
    found = _matches(pattern)
    if not found:  # the brackets may be those of a folder's name
        found = _matches(pattern.replace("[", "[[]"))
    return sorted(found, key=lambda path: path.parts)


def _matches(pattern: str) -> list[Path]:
    # Not glob.glob: with '**' that follows links to folders, for ever where they form loops.
    places = [Path()]
    several = False
    *folders, last = Path(pattern).parts
    for part in folders:
        several = several or part == "**"
        places = [place for base in places for place in _step(base, part) if place.is_dir()]
        places = list(dict.fromkeys(places))
    if last == "**":
        return places
    found = [path for base in places for path in _step(base, last)]
    return list(
        dict.fromkeys(path for path in found if not (several and path.is_dir() and path.is_symlink()))
    )


def _step(base: Path, part: str) -> Iterator[Path]:
    if part == "**":
        for root, folders, _ in os.walk(base):
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield Path(root)
    elif glob.has_magic(part):
        try:
            names = os.listdir(base)  # noqa: PTH208 - names, as they are matched
        except OSError:  # a shell, too, finds nothing where it may not look
            return
        yield from (
            base / name
            for name in names
            if fnmatch.fnmatch(name, part) and (part.startswith(".") or not name.startswith("."))
        )
    elif os.path.lexists(base / part):
        yield base / part
