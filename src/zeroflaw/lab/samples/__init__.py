"""A small set of rendered products, sound and flawed, to try zeroflaw on without any photo at hand.

The pictures are computed here from shapes, noise and light. They are not photographs, no photograph went
into them, and how well a detector does on them says little about how well it does on real products.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zeroflaw.errors import UsageError, printable
from zeroflaw.files import atomic, write_text

from .canvas import canvas, exposed
from .products import PRODUCTS

__all__ = ["PRODUCTS", "render", "render_samples"]

_MARK = "These pictures are rendered, not photographed."
_README = f"""{_MARK}

zeroflaw computed them from shapes, noise and light so that it can be tried without any photo at hand.
How well a detector does on them says little about how well it does on real products.

Layout, as in MVTec AD:
  <product>/test/good/NNN.png                  sound
  <product>/test/<flaw>/NNN.png                flawed
  <product>/ground_truth/<flaw>/NNN_mask.png   where the flaw is (white)

Products: {", ".join(PRODUCTS)}.
"""


def render(
    product: str, flaw: str | None = None, *, seed: int = 0, index: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return one picture ``(352, 352, 3)`` and the mask ``(352, 352)`` of its flaw, always the same one.

    Raises:
        UsageError: no such product or flaw, or the seed or index is negative.
    """
    if seed < 0 or index < 0:
        raise UsageError(f"seed and index must be 0 or more, got seed={seed}, index={index}")
    if product not in PRODUCTS:
        raise UsageError(f"no product '{product}'; choose from {', '.join(PRODUCTS)}")
    made = PRODUCTS[product]
    if flaw is not None and flaw not in made.flaws:
        raise UsageError(f"product '{product}' has no flaw '{flaw}'; choose from {', '.join(made.flaws)}")
    # A generator of its own, so that a picture does not depend on how many others are rendered.
    rng = np.random.default_rng([seed, zlib.crc32(f"{product}/{flaw}".encode()), index])
    shot = canvas(rng, turn=made.turn)
    scene, mask = made.render(shot, flaw)
    return exposed(shot, scene), mask > 0.25


def render_samples(folder: Path, *, seed: int = 0, good: int = 6, flawed: int = 6) -> list[Path]:
    """Write ``good`` sound and ``flawed`` flawed pictures of each product and return the pictures' paths.

    The layout is that of MVTec AD (``<product>/test/<good or flaw>/NNN.png``, masks below ``ground_truth``);
    a README.txt says that the pictures are rendered. Pictures of an earlier run are replaced.

    Raises:
        UsageError: a number is negative, or ``folder`` holds something else or cannot be written to.
    """
    if seed < 0:
        raise UsageError(f"seed must be 0 or more, got {seed}")
    if good < 0 or flawed < 0 or good + flawed == 0:
        raise UsageError(
            f"wanted how many pictures of each kind, got good={good}, flawed={flawed}; ask for some"
        )
    try:
        _check_folder(folder)
        write_text(folder / "README.txt", _README)
        return [_write(folder, *planned, seed=seed) for planned in _plan(good, flawed)]
    except OSError as error:
        raise UsageError(
            f"samples could not be written to '{printable(folder)}' ({error.strerror or error}); "
            "give a new or empty folder"
        ) from error


def _write(folder: Path, product: str, flaw: str | None, index: int, *, seed: int) -> Path:
    picture, mask = render(product, flaw, seed=seed, index=index)
    path = folder / product / "test" / (flaw or "good") / f"{index:03}.png"
    _save(path, picture)
    if flaw is not None:
        white = mask.astype(np.uint8) * 255
        _save(folder / product / "ground_truth" / flaw / f"{index:03}_mask.png", white)
    return path


def _plan(good: int, flawed: int) -> Iterator[tuple[str, str | None, int]]:
    for name, product in PRODUCTS.items():
        yield from ((name, None, index) for index in range(good))
        kinds = len(product.flaws)
        yield from ((name, product.flaws[number % kinds], number // kinds) for number in range(flawed))


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        return
    note = folder / "README.txt"
    ours = note.is_file() and note.read_text(encoding="utf-8", errors="replace").startswith(_MARK)
    if not folder.is_dir() or (not ours and any(folder.iterdir())):
        raise UsageError(f"'{printable(folder)}' holds something else already; give a new or empty folder")


def _save(path: Path, picture: NDArray[np.uint8]) -> None:
    with atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", compress_level=1)
