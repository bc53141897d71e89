"""Draw the pictures of ``docs/gallery.md``: rendered products, and what good photos of each find on others.

python docs/make_gallery.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import zeroflaw
from zeroflaw.lab.samples import render
from zeroflaw.lab.samples.products import PRODUCTS
from zeroflaw.report.colours import Pixels
from zeroflaw.report.heatmap import overlay

PICTURES = Path(__file__).resolve().parent / "gallery"
GOOD = 8
SIDE, GAP = 200, 6  # pixels


def main(folder: Path) -> None:
    """Write one picture of each product into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for product in PRODUCTS:
        strip(product).save(folder / f"{product}.jpg", quality=80, optimize=True)


def strip(product: str) -> Image.Image:
    """Return photos of a product, each flaw once and a good one, above what was found on them."""
    detector = zeroflaw.Memory().fit(reference=[render(product, index=index)[0] for index in range(GOOD)])
    photos = [render(product, flaw, seed=1)[0] for flaw in (*PRODUCTS[product].flaws, None)]
    found = [
        overlay(photo, said.map, threshold=said.require_map_threshold())
        for photo, said in zip(photos, detector.predict(photos, maps=True), strict=True)
        if said.map is not None
    ]
    sheet = Image.new("RGB", (len(photos) * (SIDE + GAP) - GAP, 2 * SIDE + GAP), "white")
    for row, pictures in enumerate((photos, found)):
        for column, picture in enumerate(pictures):
            sheet.paste(_small(picture), (column * (SIDE + GAP), row * (SIDE + GAP)))
    return sheet


def _small(picture: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES)
