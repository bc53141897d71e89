"""One suite over every detector that needs words only, on a tiny backbone without and with aligned patches.

The others have a file each, which gives them what they need.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from zeroflaw import check_detector, load
from zeroflaw.detectors import PRESETS, make
from zeroflaw.detectors.contract import Detector, Needs

SMALL = {
    "n_pairs": 40,
    "epochs": 2,
    "n_styles": 3,
    "style_iterations": 2,
    "steps": 2,
    "n_diversity": 3,
    "n_distribution": 7,
    "word_batch": 4,
    "distribution_length": 16,  # the tiny vocabulary spells descriptions letter by letter
    "most_alike": 1,
    "least_order": 0,  # a tower of random numbers has no sense of what a prompt says
}
WORDS_ONLY = [name for name in PRESETS if make(name).needs == Needs()]


def small(name: str) -> dict[str, int]:
    """Parameters that make a fit short, where the detector has them."""
    params = make(name).get_params()
    return {key: value for key, value in SMALL.items() if key in params}


@pytest.mark.parametrize("fusion", [None, "B"])
@pytest.mark.parametrize("name", WORDS_ONLY)
def test_every_detector_holds_the_contract(name: str, fusion: str | None, tiny_backbone: Path) -> None:
    extra = {"fusion": fusion} if fusion is not None and name.startswith("rwda") else {}

    def new() -> Detector:
        return make(name, backbone=f"local-dir:{tiny_backbone}", **small(name), **extra)

    check_detector(new, load=load)


@pytest.mark.parametrize("map_from", ["auto", "windows", "patches"])
def test_maps_from_aligned_patches_and_from_windows(map_from: str, tiny_aligned_backbone: Path) -> None:
    def new() -> Detector:
        return make("rwda", backbone=f"local-dir:{tiny_aligned_backbone}", map_from=map_from, **small("rwda"))

    check_detector(new, load=load)


@pytest.mark.parametrize(
    "settings",
    [
        {"object": "metal_nut"},
        {"random_kind": "tokens"},
        {"random_kind": "dictionary", "random_count": (1, 4)},
        {"random_kind": "digits", "position": "start"},
        {"articles": "none", "trailing_object": True},
        {"normalization": "batch", "dropout": 0.2, "noise": 0.05, "label_smoothing": 0.1},
        {"normal": ("fine", "{} as it should be"), "anomalous": ("bent", "{} with a dent"), "hidden": (8,)},
        {"image_in_map": False, "window_sizes": (2,), "window_stride": 2},
        {"dtype": "bfloat16"},
    ],
)
def test_the_random_word_detector_with_other_parameters(
    settings: dict[str, object], tiny_backbone: Path
) -> None:
    parameters = {**small("rwda"), **settings, "backbone": f"local-dir:{tiny_backbone}"}
    if settings.get("dtype") == "bfloat16":
        detector = make("rwda", **parameters).fit()
        assert detector.is_fitted
        return
    check_detector(lambda: make("rwda", **parameters), load=load)
