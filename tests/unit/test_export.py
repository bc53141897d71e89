"""A detector as one graph: it says what the detector says, and comes with all that a stranger needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import zeroflaw
from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.errors import UsageError
from zeroflaw.export.detector import MODEL, RECORD, TOLERANCE, WITH_RESIZE, export_detector


def pictures(count: int, seed: int = 2) -> list[np.ndarray]:
    """Soft pictures, as photos are."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return [np.asarray(Image.fromarray(one).resize((340, 300))) for one in small]


def run(folder: Path, name: str, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
    return session.run(["logit", "scores", "map"], inputs)


def fitted(kind: str, tiny_backbone: Path) -> BackboneDetector:
    if kind == "rwda":
        found = zeroflaw.load("rwda")
        assert isinstance(found, BackboneDetector)
        return found
    if kind == "windows":  # of a CLIP without aligned patches
        return zeroflaw.ClipPair(
            backbone=f"local-dir:{tiny_backbone}", device="cpu", fusion="prompt_part"
        ).fit()
    if kind == "memory of a clip":
        words = {"backbone": f"local-dir:{tiny_backbone}", "device": "cpu", "words": "clip"}
        return zeroflaw.Memory(**words, roi="0,0 340,0 340,200 0,200").fit(reference=pictures(5))
    return zeroflaw.Memory().fit(reference=pictures(5))


@pytest.mark.parametrize("kind", ["rwda", "windows", "memory", "memory of a clip"])
def test_the_graph_says_what_the_detector_says(kind: str, tiny_backbone: Path, tmp_path: Path) -> None:
    detector = fitted(kind, tiny_backbone)
    export_detector(detector, tmp_path / "graph", with_resize=True)
    record = json.loads((tmp_path / "graph" / RECORD).read_text())
    assert record["tolerance"]["measured"] <= TOLERANCE
    assert ("threshold" in record) == (detector.threshold_rule is not None)

    # The test pictures, as a program in another language would check itself.
    vectors = record["vectors"]
    inputs = {
        name: np.fromfile(tmp_path / "graph" / said["file"], np.uint8).reshape(said["shape"])
        for name, said in vectors["inputs"].items()
    }
    found = run(tmp_path / "graph", MODEL, **inputs)
    for one, name in zip(found, ("logit", "scores", "map"), strict=True):
        np.testing.assert_allclose(one, np.array(vectors[name]), atol=TOLERANCE)

    # Other pictures, of any size, with the resizing inside.
    photos = pictures(2, seed=3)
    predictions = list(detector.predict(photos, maps=True))
    logits, scores, maps = run(tmp_path / "graph", WITH_RESIZE, image=np.stack(photos))
    np.testing.assert_allclose(logits, [p.logit for p in predictions], atol=0.3)
    named = [[p.scores[name] for name in record["outputs"]["scores"]["names"]] for p in predictions]
    np.testing.assert_allclose(scores, named, atol=0.1)
    assert maps.shape == np.stack([p.map for p in predictions if p.map is not None]).shape


def test_what_cannot_be_one_graph_is_refused(tmp_path: Path) -> None:
    tiled = zeroflaw.load("rwda", tile=64)
    assert isinstance(tiled, BackboneDetector)
    with pytest.raises(UsageError, match="tiles of 64 pixels"):
        export_detector(tiled, tmp_path / "out")
    with pytest.raises(UsageError, match="a mutual detector cannot be one graph"):
        export_detector(zeroflaw.Mutual().fit(), tmp_path / "graph")
    assert not (tmp_path / "graph").exists()
