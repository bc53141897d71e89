"""Detectors whose fits are short, on tiny random networks, with what each of them is fitted with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from labelled_set import write_labelled_set
from mae_folder import write_mae
from zeroflaw.detectors import PRESETS, make
from zeroflaw.lab.datasets import open_auxiliary, open_mvtec
from zeroflaw.parameters import parameter_names

SMALL: dict[str, Any] = {
    "n_pairs": 40,
    "epochs": 2,
    "hidden": (8,),
    "n_styles": 3,
    "style_iterations": 3,
    "steps": 6,
    "checkpoint_every": 2,
    "n_diversity": 4,
    "n_distribution": 7,
    "word_batch": 4,
    "distribution_length": 16,  # the tiny vocabulary spells descriptions letter by letter
    "most_alike": 1,
    "least_order": 0,  # a tower of random numbers has no sense of what a prompt says
    "iterations": 2,
    "tasks": 3,
    "shots": 4,
    "depth": 2,
    "out": 6,
    "min_batch": 4,
    "words": "clip",
    "partners": 5,
}


def noise(count: int, size: tuple[int, int] = (40, 50), seed: int = 0) -> list[np.ndarray]:
    """Random pictures, uint8 (height, width, 3)."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8))


class Workshop:
    """Makes and fits detectors by name.

    Attributes:
        tiny: weights folder of a random CLIP with a 6 x 6 grid.
        aligned: of one with aligned patches.
        mae: of a masked autoencoder.
    """

    def __init__(self, tiny: Path, aligned: Path, root: Path) -> None:
        self.tiny, self.aligned, self.mae = tiny, aligned, write_mae(root / "mae")
        self._labelled = open_mvtec(write_labelled_set(root / "labelled", good=3, flawed=3))
        for name, base in (("disc", 40), ("bar", 120)):
            for number, picture in enumerate(noise(3, (24, 24), seed=base)):
                path = root / "products" / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture // 8 + np.uint8(base)).save(path)
        self._products = open_auxiliary(root / "products")

    def make(self, name: str, *, aligned: bool = False, **settings: Any) -> Any:
        """Return an unfitted detector whose fit is short."""
        known = parameter_names(PRESETS[name].detector_class)
        short = {key: value for key, value in SMALL.items() if key in known}
        folder = self.mae if name == "maeday" else self.aligned if aligned else self.tiny
        return make(name, **{"backbone": f"local-dir:{folder}", **short, **settings})

    def given(self, name: str) -> dict[str, Any]:
        """Return what its ``fit`` must be given."""
        needs, found = PRESETS[name].needs, dict[str, Any]()
        if needs.reference_images:
            found["reference"] = noise(5, (40, 44), seed=9)
        if needs.auxiliary_set:
            found["auxiliary"] = self._products if needs.whole_batch else self._labelled
        return found

    def fit(self, name: str, *, aligned: bool = False, **settings: Any) -> Any:
        """Return a fitted detector."""
        return self.make(name, aligned=aligned, **settings).fit(**self.given(name))
