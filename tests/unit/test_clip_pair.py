"""The presets of the prompt detector: which sentences each compares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zeroflaw.detectors import make
from zeroflaw.detectors.clip_pair import ClipPair


def prompt(backbone: Path, name: str, **parameters: object) -> dict[str, list[str]]:
    fitted = make(name, backbone=f"local-dir:{backbone}", device="cpu", **parameters).fit()
    assert isinstance(fitted, ClipPair)
    assert fitted.words_ is not None
    return fitted.words_["prompt"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "normal", "anomalous"),
    [
        ("clip", "a photo of a normal metal nut", "a photo of an anomalous metal nut"),
        ("clip-ac", "normal metal nut", "anomalous metal nut"),
    ],
)
def test_presets_of_one_pair(name: str, normal: str, anomalous: str, tiny_backbone: Path) -> None:
    assert prompt(tiny_backbone, name, object="metal_nut") == {"normal": [normal], "anomalous": [anomalous]}
    unknown = {"normal": normal, "anomalous": anomalous}
    assert prompt(tiny_backbone, name) == {
        side: [text.replace("metal nut", "object")] for side, text in unknown.items()
    }


@pytest.mark.parametrize(("name", "counts"), [("clip-ac-templates", (80, 80)), ("clip-ensemble", (154, 88))])
def test_presets_of_many_sentences(name: str, counts: tuple[int, int], tiny_backbone: Path) -> None:
    found = prompt(tiny_backbone, name, object="metal_nut")
    assert (len(set(found["normal"])), len(set(found["anomalous"]))) == counts
    assert all("metal nut" in text for side in found.values() for text in side)


def test_the_template_ensemble_is_the_mean_of_its_sentences(tiny_backbone: Path) -> None:
    fitted = make("clip-ac-templates", backbone=f"local-dir:{tiny_backbone}", device="cpu").fit()
    assert isinstance(fitted, ClipPair)
    assert fitted.words_ is not None
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    x = fitted.backbone_.embed_images([image]).image[0].double().numpy()
    cosines = []
    for side in ("normal", "anomalous"):
        total = np.zeros(len(x))
        for text in fitted.words_["prompt"][side]:
            total += fitted.backbone_.embed_texts([text])[0].double().numpy()
        cosines.append(float(x @ total / np.sqrt(total @ total)))
    (found,) = fitted.predict([image])
    assert found.logit == pytest.approx(fitted.backbone_.logit_scale * (cosines[1] - cosines[0]), abs=1e-3)
