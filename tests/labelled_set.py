"""A labelled data set in MVTec AD's layout, small enough to be written by every test that learns from one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_labelled_set(
    root: Path,
    *,
    products: tuple[str, ...] = ("cup", "lid"),
    good: int = 2,
    flawed: int = 2,
    masks: bool = True,
) -> Path:
    """Write noisy grey pictures, 40 x 32; flawed ones have a bright red patch, which the mask marks."""
    for number, product in enumerate(products):
        random = np.random.default_rng(number)
        for index in range(good):
            _save(root / product / "test" / "good" / f"{index}.png", _picture(random))
        for index in range(flawed):
            picture, mask = _picture(random), np.zeros((40, 32), dtype=np.uint8)
            top, left = random.integers(4, 24), random.integers(2, 16)
            picture[top : top + 12, left : left + 14] = (250, 10, 10)
            mask[top : top + 12, left : left + 14] = 255
            _save(root / product / "test" / "dent" / f"{index}.png", picture)
            if masks:
                _save(root / product / "ground_truth" / "dent" / f"{index}_mask.png", mask)
    return root


def write_holed_category(root: Path, random: np.random.Generator, *, masks: int = 4) -> None:
    """Write four good and four flawed pictures, 36 x 52; flawed ones have a black hole, which masks mark."""
    for number in range(4):
        _save(root / "test" / "good" / f"{number}.png", random.integers(60, 200, (36, 52, 3), dtype=np.uint8))
    for number in range(4):
        picture = random.integers(60, 200, (36, 52, 3), dtype=np.uint8)
        picture[8:20, 10:30] = 0
        _save(root / "test" / "hole" / f"{number}.png", picture)
    mask = np.zeros((36, 52), dtype=np.uint8)
    mask[8:20, 10:30] = 255
    for number in range(masks):
        _save(root / "ground_truth" / "hole" / f"{number}_mask.png", mask)


def _picture(random: np.random.Generator) -> np.ndarray:
    return random.integers(90, 140, (40, 32, 3), dtype=np.uint8)


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
