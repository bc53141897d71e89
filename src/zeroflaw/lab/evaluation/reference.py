"""Reference images for detectors that need some: drawn from a category's good training images."""

from __future__ import annotations

import random
from pathlib import Path

from zeroflaw.errors import UsageError
from zeroflaw.lab.datasets import Category


def draw_reference(category: Category, shots: int, seed: int) -> list[Path]:
    """Draw good training images of a category; the same seed draws the same ones.

    Raises:
        UsageError: the category has fewer than ``shots``.
    """
    images = [record.image for record in category.train]
    if len(images) < shots:
        raise UsageError(
            f"{shots} good training images of {category.name} were wanted as reference, it has "
            f"{len(images)}; choose other categories, or fewer shots"
        )
    return sorted(random.Random(f"{seed} {category.name}").sample(images, shots))
