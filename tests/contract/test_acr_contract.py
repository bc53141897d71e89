"""The contract of detectors, for the one that judges an image by its batch and learns from other products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroflaw import check_detector, load
from zeroflaw.detectors import make
from zeroflaw.detectors.contract import Detector
from zeroflaw.lab.datasets import Dataset, open_auxiliary

SHORT = {"iterations": 3, "tasks": 4, "shots": 5, "depth": 2, "out": 8}


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two products of a few noisy pictures each."""
    root, random = tmp_path_factory.mktemp("products"), np.random.default_rng(0)
    for name, images in (("disc", 4), ("bar", 6)):
        (root / name).mkdir()
        base = random.integers(40, 200, (24, 24, 3))
        for number in range(images):
            noisy = np.clip(base + random.normal(0, 8, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / name / f"{number}.png")
    return open_auxiliary(root)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"standardize": "none", "layer": 1, "sigma": 0.0, "seed": 3},
        {"min_batch": 2, "sigma": 30.0, "max_images": 3, "noise": 2.0, "last_gain": "uniform"},
    ],
)
def test_the_contract_holds(settings: dict[str, object], products: Dataset, tiny_backbone: Path) -> None:
    def new() -> Detector:
        return make("acr", backbone=f"local-dir:{tiny_backbone}", **{**SHORT, **settings})

    check_detector(new, load=load, fit={"auxiliary": products})


def test_flawed_images_stand_out_of_their_batch(products: Dataset, tiny_backbone: Path) -> None:
    random = np.random.default_rng(5)
    base = random.integers(60, 180, (48, 48, 3))
    images = [np.clip(base + random.normal(0, 5, base.shape), 0, 255).astype(np.uint8) for _ in range(24)]
    for image in images[:3]:
        image[16:32, 16:32] = 255 - image[16:32, 16:32]

    def new() -> Detector:
        return make("acr", backbone=f"local-dir:{tiny_backbone}")

    check_detector(new, load=load, fit={"auxiliary": products}, normal=images[3:], anomalous=images[:3])
