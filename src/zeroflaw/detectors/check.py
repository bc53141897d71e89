"""The conformance suite of the detector contract, for our detectors and for anybody's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zeroflaw.detectors.contract import Detector
from zeroflaw.errors import ImageError, NotFittedError, UsageError
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.scores import expit
from zeroflaw.runtime.stream import Array

CLOSE = 1e-4  # how far log-odds (where they are large, relatively) and maps may move from one run to another
REFITTED = 1e-2  # the same after another fit: training adds up what processors round differently


def check_detector(
    make: Callable[[], Detector],
    *,
    load: Callable[[Path], Detector],
    fit: Mapping[str, Any] | None = None,
    normal: Sequence[Array] = (),
    anomalous: Sequence[Array] = (),
) -> None:
    """Test a detector against the contract; silence means that it holds.

    Args:
        make: returns a new, unfitted detector with fixed parameters each time.
        load: opens a folder that the detector saved: `zeroflaw.load`, or a reader of your own.
        fit: what ``fit`` must be given: ``reference`` images, an ``auxiliary`` data set.
        normal: pictures of good products, uint8 (H, W, 3); with ``anomalous`` they test the sign.
        anomalous: pictures of flawed ones; fewer than good ones, for a detector that judges by the batch.

    Raises:
        AssertionError: with a sentence that names the broken rule.
    """
    given = dict(fit or {})
    detector = make()
    _refused(lambda: detector.predict([]), "predict must raise NotFittedError before fit", NotFittedError)
    _refused(lambda: detector.save("never"), "save must raise NotFittedError before fit", NotFittedError)
    _check_needs(make, given)
    before = detector.get_params()
    _require(detector.fit(**given) is detector, "fit must return the detector itself")
    _require(detector.get_params() == before, "fit must not change parameters")
    images = _pictures(20 if detector.needs.whole_batch else 5)
    first = list(detector.predict(images, maps=True))
    _check_predictions(detector, images, first)
    _check_odd_inputs(detector)
    if not detector.needs.whole_batch:
        order = [3, 0, 4, 1, 2]
        for size in (1, 2, 5):
            again = list(detector.predict([images[i] for i in order], batch_size=size))
            _check_same([first[i] for i in order], again, "order and batch size must not matter")
    refitted = list(make().fit(**given).predict(images, maps=True))
    _check_same(first, refitted, "two fits with one seed must agree", REFITTED)
    with tempfile.TemporaryDirectory() as name:
        detector.save(Path(name) / "detector")
        loaded = load(Path(name) / "detector")
        _require(loaded.get_params() == before, "a loaded detector must have the saved parameters")
        again = list(loaded.predict(images, maps=True))
        _check_same(first, again, "a loaded detector must predict the same")
    if normal and anomalous:
        # All in one call: a detector that judges by the batch must see the flawed ones among good ones.
        logits = [p.logit for p in detector.predict([*normal, *anomalous])]
        good, bad = np.mean(logits[: len(normal)]), np.mean(logits[len(normal) :])
        _require(bad > good, f"flawed images must score above good ones, got {bad:.3f} and {good:.3f}")


def _require(holds: object, rule: str) -> None:
    if not holds:
        raise AssertionError(rule)


def _refused(call: Callable[[], object], rule: str, error: type[Exception] = UsageError) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(rule)


def _pictures(number: int) -> list[Array]:
    random = np.random.default_rng(0)
    sizes = [(40, 40), (64, 48), (31, 77), (50, 50), (20, 90)]
    several = [sizes[index % len(sizes)] for index in range(number)]
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in several]


def _check_needs(make: Callable[[], Detector], given: Mapping[str, Any]) -> None:
    needs = make().needs
    for name, need in (("reference", needs.reference_images), ("auxiliary", needs.auxiliary_set)):
        _require(need == (name in given), f"fit must be given '{name}' exactly where the detector needs it")
        if need:
            less = {key: value for key, value in given.items() if key != name}
            _refused(lambda less=less: make().fit(**less), f"fit must refuse to work without '{name}'")  # type: ignore[misc]


def _check_predictions(detector: Detector, images: Sequence[Array], found: Sequence[Prediction]) -> None:
    _require(len(found) == len(images), "there must be one prediction per image, in order")
    for image, prediction in zip(images, found, strict=True):
        parts = [prediction.score, *prediction.scores.values()]
        _require(all(0 <= value <= 1 for value in parts), "scores, named ones too, must lie in [0, 1]")
        _require(np.isfinite(prediction.logit), "log-odds must be finite")
        _require(abs(prediction.score - expit(prediction.logit)) < 1e-9, "the score must be sigmoid(logit)")
        line = prediction.threshold_logit
        verdict = None if line is None else prediction.logit >= line
        _require(prediction.label == verdict, "there must be no verdict without a threshold, and one with it")
        drawn = prediction.map
        _require(drawn is not None, "a map must be computed where it is asked for")
        assert drawn is not None
        _require(drawn.dtype == np.float32 and drawn.ndim == 2, "a map must be float32 (rows, columns)")
        _require(((drawn >= 0) & (drawn <= 1)).all(), "map values must lie in [0, 1]")
        _require(prediction.resized_map().shape == image.shape[:2], "a resized map must fit the image")
    without = list(detector.predict(images))
    _require(all(p.map is None for p in without), "no map may be computed unless asked for")
    _check_same(found, without, "asking for maps must not change the scores")


def _check_same(
    one: Sequence[Prediction], two: Sequence[Prediction], rule: str, close: float = CLOSE
) -> None:
    """Compare log-odds, and maps where both sides have one."""
    _require(len(one) == len(two), f"{rule}: {len(one)} predictions became {len(two)}")
    for a, b in zip(one, two, strict=True):
        moved = abs(a.logit - b.logit)
        _require(moved <= close * max(1, abs(a.logit)), f"{rule}: log-odds moved by {moved:.2g}")
        if a.map is not None and b.map is not None:
            _require(a.map.shape == b.map.shape, f"{rule}: the map has another shape")
            moved = float(np.abs(a.map - b.map).max())
            _require(moved <= close, f"{rule}: the map moved by {moved:.2g}")


def _check_odd_inputs(detector: Detector) -> None:
    _require(list(detector.predict([])) == [], "no image, no prediction")
    # A detector that judges by the batch gets its odd images among others, and refuses one alone.
    others = _pictures(20) if detector.needs.whole_batch else []
    if others:
        rule = "a detector that needs a batch must refuse one image"
        _refused(lambda: list(detector.predict(others[:1])), rule)
    for name, image in {
        "a constant image": np.full((32, 32, 3), 128, dtype=np.uint8),
        "a black image": np.zeros((32, 32, 3), dtype=np.uint8),
        "a one-pixel image": np.full((1, 1, 3), 7, dtype=np.uint8),
    }.items():
        found, *_ = detector.predict([image, *others], maps=True)
        finite = found.map is not None and np.isfinite([found.logit, found.map.min(), found.map.max()]).all()
        _require(finite, f"{name} must get a finite score and map")
    errors: list[ImageError] = []
    flat = np.full((16, 16, 3), 90, dtype=np.uint8)
    pair = list(detector.predict([flat, b"no picture", flat, *others], on_error=errors.append))
    _require(
        len(errors) == 1 and len(pair) == 2 + len(others),
        "an unreadable image must be reported and the others go on",
    )
    _check_same(pair[:1], pair[1:2], "equal images must get equal scores")
    same = list(detector.predict([flat] * max(2, len(others))))
    _require(np.isfinite([p.logit for p in same]).all(), "a batch of equal images must get finite scores")
