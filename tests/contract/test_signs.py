"""Higher = more anomalous, for every kind of detector that the bundled model can run; rendered pictures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroflaw.detectors import PRESETS, make
from zeroflaw.lab.datasets import Dataset, open_mvtec
from zeroflaw.lab.samples import render, render_samples

SMALL: dict[str, dict[str, Any]] = {
    "rwda": {"n_pairs": 200},
    "shift-words": {"n_diversity": 8, "n_distribution": 4, "steps": 20, "epochs": 40},
    "promptstyler": {"n_styles": 4, "style_iterations": 5},
    "anomalyclip": {"epochs": 3},
    "acr": {},
    "memory": {"sizes": (240,)},
    "mutual": {"sizes": (240,)},
}
FLAWS = ("gear/burnt", "washer/rusty", "washer/scratched", "cloth/torn", "cloth/stained", "gear/cracked")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Other pictures of rendered products, drawn with another seed, to learn from."""
    folder = tmp_path_factory.mktemp("others")
    render_samples(folder, seed=9, good=4, flawed=2)
    for product in folder.iterdir():
        if product.is_dir():  # good pictures to train on, for detectors that want some
            shutil.copytree(product / "test" / "good", product / "train" / "good")
    return open_mvtec(folder)


def family(name: str) -> str:
    """Return the entry of SMALL that belongs to a preset: the longest beginning of its name."""
    found = [key for key in SMALL if name == key or name.startswith(f"{key}-")]
    return max(found, key=len, default="")


# One preset of each kind, and those that turn a sign round on their way; MAEDAY has no weights here.
KINDS = {preset.home: name for name, preset in reversed(PRESETS.items()) if name != "maeday"}
NAMES = [*KINDS.values(), "winclip-caoyunkang", "winclip-plus-caoyunkang", "rwda-lda", "shift-words-k3"]


@pytest.mark.parametrize("name", NAMES)
def test_flawed_pictures_score_higher(name: str, others: Dataset, tmp_path: Path) -> None:
    detector = make(name, **SMALL.get(family(name), {}))
    products = dict.fromkeys(flaw.partition("/")[0] for flaw in FLAWS)
    good = [render(product, index=index)[0] for product in products for index in range(6)]
    flawed = [render(*flaw.split("/"), index=7)[0] for flaw in FLAWS]
    given: dict[str, Any] = {}
    if detector.needs.reference_images:
        given["reference"] = [render(product, index=20)[0] for product in products]
    if detector.needs.auxiliary_set:
        given["auxiliary"] = others
    found = list(detector.fit(**given).predict([*good, *flawed]))
    logits = np.array([prediction.logit for prediction in found])
    assert logits[len(good) :].mean() > logits[: len(good)].mean()
