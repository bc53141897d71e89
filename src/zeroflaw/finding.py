"""From what a user names (files, folders, patterns) to the image files that are meant."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from zeroflaw.errors import InputError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class Found:
    """The images behind the paths that were given.

    Attributes:
        paths: the images: arguments in the order given, each folder sorted by name, no file twice.
        skipped: what folders and patterns also held: files without an image's extension and links to
            folders (never followed). Hidden files and folders are left out silently, as a shell does.
    """

    paths: tuple[Path, ...]
    skipped: tuple[Path, ...] = ()

    def __iter__(self) -> Iterator[Path]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def find_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Found:
    """Expand files, folders (with all below them) and patterns such as ``photos/*.png`` into image paths.

    A file named outright is always taken, whatever its extension, so that a reason can be reported for it.

    Raises:
        InputError: a path does not exist, or a folder or pattern holds no image.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    taken: dict[Path, Path] = {}
    skipped: dict[Path, Path] = {}
    for given in several:
        found = _expand(os.fspath(given))
        for path in found.paths:
            taken.setdefault(path.absolute(), path)
        skipped.update((path.absolute(), path) for path in found.skipped)
    if not taken:
        raise InputError("no image was named; give a file, a folder or a pattern such as 'photos/*.png'")
    return Found(tuple(taken.values()), tuple(path for key, path in skipped.items() if key not in taken))


def _expand(given: str) -> Found:
    path = Path(given)
    if not given or not _exists(path):
        return _expand_pattern(given)
    if not path.is_dir():
        return Found((path,))
    found = _walk(path)
    if not found.paths:
        raise InputError(f"folder {_quoted(given)} holds no image; {_only(found)}")
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InputError(f"{_quoted(path)} cannot be looked at ({brief(error)}); check the path") from error


def _expand_pattern(given: str) -> Found:
    if not glob.has_magic(given):
        raise InputError(f"there is no file or folder {_quoted(given)}; check the path")
    # Path.glob takes neither absolute patterns nor '..', so the older function it is.
    names = glob.glob(given, recursive=True)  # noqa: PTH207
    matches = sorted((Path(name) for name in names), key=lambda path: path.parts)
    if "**" in given:  # which follows links to folders, for ever where they form a loop
        start = len(Path(given.partition("**")[0]).parts)
        matches = [path for path in matches if not _behind_link(path, start)]
    parts = [_walk(path) if path.is_dir() else _sorted_out([path]) for path in matches]
    found = Found(tuple(p for f in parts for p in f.paths), tuple(p for f in parts for p in f.skipped))
    if not found.paths:
        raise InputError(f"pattern {_quoted(given)} matches no image; {_only(found)}")
    return found


def _behind_link(path: Path, start: int) -> bool:
    folders = [path, *path.parents] if path.is_dir() else path.parents
    return any(folder.is_symlink() for folder in folders if len(folder.parts) > start)


def _walk(folder: Path) -> Found:
    files: list[Path] = []
    links: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=_cannot_list):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links += [Path(root, name) for name in folders if Path(root, name).is_symlink()]
        files += [Path(root, name) for name in names if not name.startswith(".")]
    found = _sorted_out(sorted(files, key=lambda path: path.parts))
    return Found(found.paths, found.skipped + tuple(sorted(links)))


def _cannot_list(error: OSError) -> None:
    folder = _quoted(error.filename)
    raise InputError(f"folder {folder} cannot be read ({error.strerror}); check its permissions")


def _sorted_out(files: Iterable[Path]) -> Found:
    images: list[Path] = []
    others: list[Path] = []
    for path in files:
        (images if path.suffix.lower() in EXTENSIONS else others).append(path)
    return Found(tuple(images), tuple(others))


def _only(found: Found) -> str:
    others = f"{len(found.skipped)} other entries were skipped, " if found.skipped else ""
    return f"{others}images end in .png, .jpg, .webp, .bmp or .tif"


def _quoted(name: str | os.PathLike[str]) -> str:
    return f"'{shown(name)}'"


def shown(source: object) -> str:
    """Return a name for ``source`` that can always be printed and written as UTF-8.

    Bytes that are not UTF-8 and control characters appear as escapes, so that a file name can neither break
    a line of output nor steer a terminal.
    """
    if not isinstance(source, str | os.PathLike):
        return f"<{type(source).__name__}>"
    name = os.fspath(source)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def brief(error: BaseException) -> str:
    """Return one line of at most 120 characters that says what ``error`` is about."""
    text = " ".join(str(error).split())
    return text[:120] or type(error).__name__
