"""Detectors that give verdicts by themselves hold the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroflaw import Memory, Mutual, check_detector, load


def textured(number: int, *, flawed: bool) -> np.ndarray:
    """A striped part, with a hole where it is flawed."""
    random = np.random.default_rng([number, flawed])
    picture = np.tile(np.arange(48) % 8 * 16 + 60, (48, 1))[..., None] + random.integers(0, 9, (48, 48, 3))
    if flawed:
        top, left = random.integers(8, 28, 2)
        picture[top : top + 12, left : left + 12] = random.integers(0, 256, (12, 12, 3))
    return picture.astype(np.uint8)


GOOD = [textured(number, flawed=False) for number in range(8)]
OTHERS = [textured(number, flawed=False) for number in range(8, 14)]
FLAWED = [textured(number, flawed=True) for number in range(3)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"words_weight": 0.5, "rows": 40, "copies": ("mirrored",)},
        {"shifts": ("darker:1", "gaussian_noise:1"), "false_alarms": 0.2, "roi": "2,2 46,2 46,46 2,46"},
    ],
)
def test_memory_holds_the_contract(settings: dict[str, Any], tiny_aligned_backbone: Path) -> None:
    chosen = {"backbone": f"local-dir:{tiny_aligned_backbone}", "words": "clip", **settings}
    given = {"reference": GOOD}
    check_detector(lambda: Memory(**chosen), load=load, fit=given, normal=OTHERS, anomalous=FLAWED)


def test_a_memory_of_one_photo_holds_it_without_verdicts(tiny_backbone: Path) -> None:
    chosen = {"backbone": f"local-dir:{tiny_backbone}", "words": "clip"}
    check_detector(lambda: Memory(**chosen), load=load, fit={"reference": GOOD[:1]})


@pytest.mark.parametrize(
    "settings", [{}, {"partners": 7, "words_weight": 0.2, "degrees": (1, 3), "neighbours": (1, 2)}]
)
def test_mutual_holds_the_contract(settings: dict[str, Any], tiny_aligned_backbone: Path) -> None:
    chosen = {"backbone": f"local-dir:{tiny_aligned_backbone}", "words": "clip", **settings}
    check_detector(lambda: Mutual(**chosen), load=load, normal=[*GOOD, *OTHERS], anomalous=FLAWED)
