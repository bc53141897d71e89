"""The detector contract over WinCLIP+, which needs photos of good products, and over WinCLIP's switches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroflaw import check_detector, load
from zeroflaw.detectors import PRESETS, make
from zeroflaw.detectors.contract import Detector, Needs

NEEDS = Needs(words=True, reference_images=True)
PLUS = [name for name, preset in PRESETS.items() if name.startswith("winclip") and preset.needs == NEEDS]


def references(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    sizes = [(40, 52), (48, 48), (60, 31)]
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes[:count]]


def test_every_few_shot_preset_is_tested_here() -> None:
    assert PLUS == ["winclip-plus", "winclip-plus-anomalib", "winclip-plus-caoyunkang", "winclip-plus-mala"]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", PLUS)
def test_few_shot_detectors_hold_the_contract(name: str, count: int, tiny_backbone: Path) -> None:
    def new() -> Detector:
        return make(name, backbone=f"local-dir:{tiny_backbone}")

    check_detector(new, load=load, fit={"reference": references(count)})


@pytest.mark.parametrize(
    "settings",
    [
        {"map_from": "patches"},
        {"map_from": "auto", "non_square": "tile"},
        {"object": "metal_nut", "window_sizes": (2,), "window_stride": 2, "image_score": "map"},
        {"reference_spread": "mean", "map_fusion": "harmonic"},
    ],
)
def test_few_shot_with_other_parameters(settings: dict[str, Any], tiny_aligned_backbone: Path) -> None:
    def new() -> Detector:
        return make("winclip-plus", backbone=f"local-dir:{tiny_aligned_backbone}", **settings)

    check_detector(new, load=load, fit={"reference": references(2)})


@pytest.mark.parametrize(
    "settings",
    [
        {"map_from": "patches", "image_score": "map"},
        {"map_from": "auto", "non_square": "tile", "harmonic_over": "normal"},
        {"temperature": 0.001, "object": "metal nut", "articles": "agree"},
    ],
)
def test_zero_shot_with_other_parameters(settings: dict[str, Any], tiny_aligned_backbone: Path) -> None:
    check_detector(
        lambda: make("winclip", backbone=f"local-dir:{tiny_aligned_backbone}", **settings), load=load
    )


def test_the_sign_of_few_shot_scores(tiny_backbone: Path) -> None:
    """Photos like the references score lower than others."""
    good = references(2)
    other = [np.full((48, 48, 3), value, dtype=np.uint8) for value in (0, 255)]
    check_detector(
        lambda: make("winclip-plus", backbone=f"local-dir:{tiny_backbone}"),
        load=load,
        fit={"reference": good},
        normal=good,
        anomalous=other,
    )
