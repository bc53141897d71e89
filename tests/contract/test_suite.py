"""The conformance suite itself: it takes anybody's detector, and finds what breaks the contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from zeroflaw import check_detector
from zeroflaw.detectors.contract import Detector, Needs
from zeroflaw.parameters import parameters
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.scorer import Judgement


@parameters
class Brightness(Detector):
    """Somebody's own, without a network: bright images are anomalous."""

    name: ClassVar[str] = "brightness"
    needs: ClassVar[Needs] = Needs(words=False)
    source: ClassVar[str] = "nowhere"

    gain: float = 0.01

    def __post_init__(self) -> None:
        self.middle_: float | None = None

    def fit(self, **given: Any) -> Brightness:
        self.middle_ = 100.0
        return self

    @property
    def is_fitted(self) -> bool:
        return self.middle_ is not None

    def _predict_batch(self, images: list[np.ndarray], maps: bool) -> list[Prediction]:
        logits = np.array([self.gain * (float(image.mean()) - 100) for image in images])
        drawn = [np.full((2, 2), logit) for logit in logits] if maps else None
        sizes = [image.shape[:2] for image in images]
        return Judgement(logits, {"mean": logits}, drawn).predictions(sizes)

    def save(self, folder: str | Path) -> None:
        self._require_fit()
        Path(folder).mkdir()
        (Path(folder) / "gain.json").write_text(json.dumps(self.get_params()))


def read_back(folder: Path) -> Detector:
    return Brightness(**json.loads((folder / "gain.json").read_text())).fit()


def shades(*values: int) -> list[np.ndarray]:
    return [np.full((8, 8, 3), value, dtype=np.uint8) for value in values]


def test_anybodys_detector_is_tested_without_a_backbone() -> None:
    check_detector(Brightness, load=read_back, normal=shades(10, 20), anomalous=shades(200))


def change(**members: Any) -> Callable[[], Detector]:
    return type("Broken", (Brightness,), members)


def predicted(**replaced: Callable[[Prediction, bool], Any]) -> Callable[[], Detector]:
    """A detector whose predictions are changed, each value by the prediction and whether maps are wanted."""

    def predict(self: Brightness, images: list[np.ndarray], maps: bool) -> list[Any]:
        found = []
        for prediction in Brightness._predict_batch(self, images, maps):
            parts = {name: getattr(prediction, name) for name in Prediction.__dataclass_fields__}
            changed = {name: change(prediction, maps) for name, change in replaced.items()}
            found.append(Prediction(**{**parts, **changed}))
        return found

    return change(_predict_batch=predict)


def by_batch(self: Brightness, images: list[np.ndarray], maps: bool) -> list[Prediction]:
    other = Brightness(gain=self.gain * len(images)).fit()
    return Brightness._predict_batch(other, images, maps)


@pytest.mark.parametrize(
    ("make_one", "load_one", "says"),
    [
        (change(is_fitted=True), read_back, "predict must raise NotFittedError"),
        (change(fit=lambda self, **given: Brightness().fit()), read_back, "fit must return the detector"),
        (change(needs=Needs(words=False, auxiliary_set=True)), read_back, "'auxiliary' exactly where"),
        (predicted(score=lambda p, maps: 2.0), read_back, r"must lie in \[0, 1\]"),
        (predicted(score=lambda p, maps: 1 - p.score), read_back, r"must be sigmoid\(logit\)"),
        (predicted(label=lambda p, maps: True), read_back, "no verdict without a threshold"),
        (predicted(map=lambda p, maps: None), read_back, "a map must be computed"),
        (predicted(map=lambda p, maps: np.ones((2, 2))), read_back, "a map must be float32"),
        (predicted(map=lambda p, maps: np.float32([[2]])), read_back, r"map values must lie in \[0, 1\]"),
        (predicted(map=lambda p, maps: np.float32([[1]])), read_back, "no map may be computed"),
        (change(_predict_batch=by_batch), read_back, "order and batch size must not matter: log-odds moved"),
        (Brightness, lambda folder: Brightness(gain=0.2).fit(), "must have the saved parameters"),
        (
            Brightness,
            lambda folder: predicted(map=lambda p, m: np.float32([[0]]))().fit(),
            "has another shape",
        ),
    ],
)
def test_what_breaks_the_contract_is_found(
    make_one: Callable[[], Detector], load_one: Callable[[Path], Detector], says: str
) -> None:
    with pytest.raises(AssertionError, match=says):
        check_detector(make_one, load=load_one)


def test_a_turned_sign_is_found() -> None:
    with pytest.raises(AssertionError, match="flawed images must score above good ones, got"):
        check_detector(Brightness, load=read_back, normal=shades(200), anomalous=shades(10))
