"""One suite over every detector, on tiny random networks: each preset, and rarer parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mae_folder import CONFIG, constant_state, write_mae
from short_fits import Workshop
from zeroflaw import check_detector, load
from zeroflaw.detectors import PRESETS, make
from zeroflaw.detectors.contract import Detector

OWN_STATES = {"normal": ("fine", "{} as it should be"), "anomalous": ("bent", "{} with a dent")}
SLIM_WINDOWS = {"window_sizes": (2,), "window_stride": 2}
OTHERS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"fusion": "B"}) for name in ("rwda", "rwda-mean-difference", "rwda-logistic", "rwda-lda")),
    ("rwda", {"object": "metal_nut", "aligned": True}),
    ("rwda", {"random_kind": "tokens", "map_from": "windows", "aligned": True}),
    ("rwda", {"random_kind": "dictionary", "random_count": (1, 4), "map_from": "patches", "aligned": True}),
    ("rwda", {"random_kind": "digits", "position": "start", "image_in_map": False, **SLIM_WINDOWS}),
    ("rwda", {"articles": "none", "trailing_object": True, **OWN_STATES}),
    ("rwda", {"normalization": "batch", "dropout": 0.2, "noise": 0.05, "label_smoothing": 0.1}),
    ("winclip", {"map_from": "patches", "image_score": "map", "aligned": True}),
    ("winclip", {"map_from": "auto", "non_square": "tile", "harmonic_over": "normal", "aligned": True}),
    ("winclip", {"temperature": 0.001, "object": "metal nut", "articles": "agree"}),
    ("winclip-plus", {"map_from": "patches", "aligned": True}),
    ("winclip-plus", {"map_from": "auto", "non_square": "tile", "aligned": True}),
    ("winclip-plus", {"object": "metal_nut", "image_score": "map", **SLIM_WINDOWS}),
    ("winclip-plus", {"reference_spread": "mean", "map_fusion": "harmonic"}),
    ("anomalyclip", {"aligned": True}),
    ("anomalyclip", {"image_size": 64, "value_blocks": 1, "deep_depth": 1, "class_norm": True}),
    ("anomalyclip", {"map_layers": (1, 2), "value_blocks": 2, "map_grid": "pixels", "deep_tokens": 2}),
    ("anomalyclip", {"focal_loss": False, "dice_loss": False, "temperature": 0.01, "sigma": 0}),
    ("anomalyclip", {"image_loss": False, "map_weight": 1.0, "learning_rate": 0.01, "normal_words": ""}),
    ("acr", {"standardize": "none", "layer": 1, "sigma": 0.0}),
    ("acr", {"min_batch": 2, "sigma": 30.0, "max_images": 3, "noise": 2.0, "last_gain": "uniform"}),
    ("maeday", {"error": "all", "masks": 1, "blur_sigma": 0}),
    ("maeday", {"masks": 2, "mask_drawing": "balanced", "targets": "normalised"}),
    ("maeday", {"masks": 40, "mask_ratio": 0.5, "blur_kernel": 1}),
    ("maeday", {"dtype": "bfloat16"}),
    ("memory", {"words_weight": 0.5, "rows": 40, "copies": ("mirrored",), "aligned": True}),
    ("memory", {"shifts": ("darker:1",), "false_alarms": 0.2, "roi": "2,2 38,2 38,38 2,38"}),
    ("mutual", {"partners": 30, "words_weight": 0.2, "sizes": (48,)}),
]


@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in PRESETS), *OTHERS])
def test_every_detector_holds_the_contract(name: str, settings: dict[str, Any], workshop: Workshop) -> None:
    before = torch.get_rng_state()
    check_detector(lambda: workshop.make(name, **settings), load=load, fit=workshop.given(name))
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn from the global generator


def test_a_memory_of_one_photo_holds_it_without_verdicts(workshop: Workshop) -> None:
    one = {"reference": workshop.given("memory")["reference"][:1]}
    check_detector(lambda: workshop.make("memory"), load=load, fit=one)


def test_what_an_autoencoder_does_not_expect_scores_higher(tmp_path: Path) -> None:
    backbone = f"local-dir:{write_mae(tmp_path / 'mae', state=constant_state(CONFIG))}"
    good = np.full((40, 60, 3), (124, 116, 104), dtype=np.uint8)
    flawed = good.copy()
    flawed[10:20, 10:30] = 255

    def new() -> Detector:
        return make("maeday", backbone=backbone)

    check_detector(new, load=load, normal=[good], anomalous=[flawed])
