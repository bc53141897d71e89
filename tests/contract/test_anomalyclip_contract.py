"""The contract of detectors, for AnomalyCLIP: it needs a labelled data set of other products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labelled_set import write_labelled_set
from zeroflaw import check_detector, load
from zeroflaw.detectors import make
from zeroflaw.detectors.contract import Detector
from zeroflaw.lab.datasets import Dataset, open_mvtec


@pytest.fixture(scope="module")
def auxiliary(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_mvtec(write_labelled_set(tmp_path_factory.mktemp("auxiliary")))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "image_size": 64,
            "value_blocks": 1,
            "deep_depth": 1,
            "class_norm": True,
            "interpolation": "bicubic",
        },
        {"map_layers": (1, 2), "value_blocks": 2, "sigma": 0, "deep_depth": 2, "deep_tokens": 2, "n_ctx": 3},
        {"focal_loss": False, "dice_loss": False, "seed": 5, "temperature": 0.01},
        {"image_loss": False, "map_weight": 1.0, "learning_rate": 0.01, "normal_words": ""},
    ],
)
def test_the_contract_holds(settings: dict[str, Any], tiny_backbone: Path, auxiliary: Dataset) -> None:
    def new() -> Detector:
        return make("anomalyclip", backbone=f"local-dir:{tiny_backbone}", epochs=1, batch_size=3, **settings)

    check_detector(new, load=load, fit={"auxiliary": auxiliary})


def test_the_contract_holds_with_patches_that_have_a_projection_of_their_own(
    tiny_aligned_backbone: Path, auxiliary: Dataset
) -> None:
    def new() -> Detector:
        return make("anomalyclip", backbone=f"local-dir:{tiny_aligned_backbone}", epochs=1)

    check_detector(new, load=load, fit={"auxiliary": auxiliary})
