"""Miniature trees of data sets: empty files, because listing opens none, and tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from zeroflaw.lab.datasets import Category


def plant(root: Path, *names: str) -> Path:
    """Make empty files below ``root``."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def table(path: Path, header: str, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path


def seen(category: Category, root: Path) -> list[tuple[str, int, str, str | None, str | None]]:
    """Return path, label, defect, domain and mask of every test image, paths relative to ``root``."""
    return [
        (
            record.image.relative_to(root).as_posix(),
            record.label,
            record.defect,
            record.domain,
            None if record.mask is None else record.mask.relative_to(root).as_posix(),
        )
        for record in category.test
    ]


def tally(category: Category) -> tuple[int, int, int]:
    """Return the numbers of train, good test and defective test images."""
    labels = Counter(record.label for record in category.test)
    return len(category.train), labels[0], labels[1]
