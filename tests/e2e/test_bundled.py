"""What ships in the package: the bundled model and its ready detector, offline and out of the box."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import zeroflaw
from zeroflaw import Prediction, check_detector, load, load_backbone, read_image
from zeroflaw.detectors import PRESETS, make, open_fitted
from zeroflaw.detectors.presets import BUNDLED
from zeroflaw.lab.datasets import open_mvtec
from zeroflaw.lab.evaluation.judging import NamedDetector, evaluate_category
from zeroflaw.lab.samples import render_samples

PACKAGE = Path(zeroflaw.__file__).parent


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered sample products."""
    folder = tmp_path_factory.mktemp("bundled") / "samples"
    render_samples(folder, good=3, flawed=3)
    return folder


def test_the_model_is_what_its_record_says() -> None:
    backbone = load_backbone("mini", offline=True)
    assert (backbone.name, backbone.licence, backbone.grid) == ("mini", "Apache-2.0", (15, 15))
    assert backbone.has_aligned_patches
    assert sum(path.stat().st_size for path in (PACKAGE / "towers" / "mini").iterdir()) < 30e6
    card = (PACKAGE / "towers" / "mini" / "README.md").read_text(encoding="utf-8")
    assert "is not a CLIP" in " ".join(card.split())


def test_the_ready_detector_is_the_default_one_on_the_bundled_model() -> None:
    assert load("rwda").get_params() == make("rwda").get_params()
    config = json.loads((BUNDLED / "rwda" / "config.json").read_text())
    assert config["backbone"]["sha256"] == load_backbone("mini").sha256
    words = json.loads((BUNDLED / "rwda" / "words.json").read_text())
    assert len(words["pairs"]) == 10_000


def test_a_detector_without_changes_is_not_fitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the ready detector must be loaded, not fitted")

    monkeypatch.setattr(PRESETS["rwda"].detector_class, "fit", forbidden)
    assert open_fitted("rwda", {}).is_fitted
    assert open_fitted("rwda", {"device": "cpu"}).is_fitted
    with pytest.raises(AssertionError, match="not fitted"):
        open_fitted("rwda", {"seed": 1})


def mask_of(found: Prediction) -> np.ndarray:
    path = Path(found.source)
    drawn = path.parents[2] / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
    return read_image(drawn)[..., 0] > 0 if drawn.exists() else np.zeros(found.size, bool)


def test_flawed_samples_rank_above_good_ones(samples: Path) -> None:
    detector = load("rwda")
    rows = [evaluate_category(c, [NamedDetector("rwda", 0, detector)])[0].row for c in open_mvtec(samples)]
    assert np.mean([row.image_auroc for row in rows]) > 0.9
    assert np.mean([row.pixel_auroc for row in rows]) > 0.9


def test_the_bundled_model_holds_the_contract(samples: Path) -> None:
    good = [read_image(path) for path in sorted(samples.glob("*/test/good/*.png"))]
    flawed = [read_image(p) for p in sorted(samples.glob("*/test/*/*.png")) if p.parent.name != "good"]
    check_detector(lambda: make("rwda", n_pairs=60, epochs=2), load=load, normal=good, anomalous=flawed)


def test_words_decide() -> None:
    """The same image, the words exchanged: the log-odds change their sign."""
    image = np.full((64, 64, 3), 128, dtype=np.uint8)
    one, other = (
        next(make("clip", normal=(n,), anomalous=(a,)).fit().predict([image]))
        for n, a in (("normal", "damaged"), ("damaged", "normal"))
    )
    assert one.logit == pytest.approx(-other.logit, abs=1e-4)
    assert abs(one.logit) > 0.05


def test_the_bundled_model_runs_in_bfloat16(samples: Path) -> None:
    paths = sorted(samples.glob("*/test/*/*.png"))[:6]
    full = [p.logit for p in load("rwda").predict(paths)]
    half = [p.logit for p in load("rwda", dtype="bfloat16").predict(paths, maps=True)]
    assert np.corrcoef(full, half)[0, 1] > 0.98
