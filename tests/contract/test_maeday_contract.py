"""The detector contract for the masked autoencoder, which needs weights that the other detectors do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mae_folder import CONFIG, constant_state, write_mae
from zeroflaw import check_detector, load
from zeroflaw.detectors import make


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"error": "all", "masks": 1, "blur_sigma": 0},
        {"masks": 2, "mask_drawing": "balanced", "targets": "normalised"},
        {"masks": 40, "mask_ratio": 0.5, "blur_kernel": 1},
        {"dtype": "bfloat16"},
    ],
)
def test_the_contract_holds(settings: dict[str, object], tmp_path: Path) -> None:
    backbone = f"local-dir:{write_mae(tmp_path / 'mae')}"
    check_detector(lambda: make("maeday", backbone=backbone, **settings), load=load)


def test_what_is_not_expected_scores_higher(tmp_path: Path) -> None:
    backbone = f"local-dir:{write_mae(tmp_path / 'mae', state=constant_state(CONFIG))}"
    good = np.full((40, 60, 3), (124, 116, 104), dtype=np.uint8)
    flawed = good.copy()
    flawed[10:20, 10:30] = 255
    check_detector(lambda: make("maeday", backbone=backbone), load=load, normal=[good], anomalous=[flawed])
