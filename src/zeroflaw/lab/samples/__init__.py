"""A small set of rendered products, sound and flawed, to try zeroflaw on without any photo at hand.

The pictures are computed here from shapes, noise and light. They are not photographs, no photograph went
into them, and how well a detector does on them says little about how well it does on real products.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .canvas import canvas, exposed
from .products import PRODUCTS

_README = f"""These pictures are rendered, not photographed.

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
    """Return one picture ``(352, 352, 3)`` of one of `PRODUCTS` and the mask ``(352, 352)`` of its flaw.

    It is always the same one, however many others are rendered.
    """
    made = PRODUCTS[product]
    rng = np.random.default_rng([seed, zlib.crc32(f"{product}/{flaw}".encode()), index])
    shot = canvas(rng, turn=made.turn)
    scene, mask = made.render(shot, flaw)
    return exposed(shot, scene), mask > 0.25


def render_samples(folder: Path, *, seed: int = 0, good: int = 6, flawed: int = 6) -> list[Path]:
    """Write ``good`` sound and ``flawed`` flawed pictures of each product and return the pictures' paths.

    The layout is that of MVTec AD (``<product>/test/<good or flaw>/NNN.png``, masks below ``ground_truth``);
    a README.txt says that the pictures are rendered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.txt").write_text(_README, encoding="utf-8")
    written = []
    for name, product in PRODUCTS.items():
        kinds: list[tuple[str | None, int]] = [(None, index) for index in range(good)]
        several = len(product.flaws)
        kinds += [(product.flaws[number % several], number // several) for number in range(flawed)]
        for flaw, index in kinds:
            picture, mask = render(name, flaw, seed=seed, index=index)
            written.append(_save(picture, folder / name / "test" / (flaw or "good") / f"{index:03}.png"))
            if flaw is not None:
                white = mask.astype(np.uint8) * 255
                _save(white, folder / name / "ground_truth" / flaw / f"{index:03}_mask.png")
    return written


def written_samples(folder: Path) -> set[str]:
    """Return the files below a folder that `render_samples` wrote; none where it never wrote there."""
    note = folder / "README.txt"
    if not note.is_file() or note.read_text(encoding="utf-8", errors="replace") != _README:
        return set()
    pictures = (path for product in PRODUCTS for path in (folder / product).rglob("*.png"))
    return {note.name, *(path.relative_to(folder).as_posix() for path in pictures)}


def _save(picture: NDArray[np.uint8], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, compress_level=1)
    return path
