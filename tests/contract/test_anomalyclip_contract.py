"""The contract of detectors, for AnomalyCLIP: it needs a labelled data set of other products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labelled_set import write_labelled_set
from zeroflaw import check_detector, load
from zeroflaw.detectors import make
from zeroflaw.lab.datasets import open_mvtec


@pytest.mark.parametrize(
    ("aligned", "settings"),
    [
        (False, {}),
        (True, {}),
        (False, {"image_size": 64, "value_blocks": 1, "deep_depth": 1, "class_norm": True}),
        (
            False,
            {"map_layers": (1, 2), "value_blocks": 2, "map_grid": "pixels", "deep_tokens": 2},
        ),
        (False, {"focal_loss": False, "dice_loss": False, "seed": 5, "temperature": 0.01, "sigma": 0}),
        (False, {"image_loss": False, "map_weight": 1.0, "learning_rate": 0.01, "normal_words": ""}),
    ],
)
def test_the_contract_holds(
    aligned: bool,
    settings: dict[str, Any],
    tiny_backbone: Path,
    tiny_aligned_backbone: Path,
    tmp_path: Path,
) -> None:
    auxiliary = open_mvtec(write_labelled_set(tmp_path))
    few = {"backbone": f"local-dir:{tiny_aligned_backbone if aligned else tiny_backbone}", "epochs": 1}
    check_detector(
        lambda: make("anomalyclip", batch_size=3, **few, **settings), load=load, fit={"auxiliary": auxiliary}
    )
