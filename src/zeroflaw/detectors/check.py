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
from zeroflaw.runtime.stream import Array

CLOSE = 1e-4  # how far log-odds may move when the same image comes in another batch


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
        load: opens a folder that the detector saved.
        fit: what ``fit`` must be given: ``reference`` images, an ``auxiliary`` data set.
        normal: pictures of good products, uint8 (H, W, 3); with ``anomalous`` they test the sign.
        anomalous: pictures of flawed ones; fewer than good ones, for a detector that judges by the batch.

    Raises:
        AssertionError: with a sentence that names the broken rule.
    """
    given = dict(fit or {})
    _check_unfitted(make())
    _check_needs(make, given)
    detector = make()
    before = detector.get_params()
    _require(detector.fit(**given) is detector, "fit must return the detector itself")
    _require(detector.get_params() == before, "fit must not change parameters")
    images = _pictures(20 if detector.needs.whole_batch else 5)
    first = list(detector.predict(images, maps=True))
    _check_records(detector, images, first)
    _check_odd_inputs(detector)
    _check_batches(detector, images, first)
    _check_same(
        first, list(make().fit(**given).predict(images, maps=True)), "two fits with one seed must agree"
    )
    _check_saved(detector, load, images, first)
    if normal and anomalous:
        _check_sign(detector, normal, anomalous)


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise AssertionError(rule)


def _pictures(number: int = 5) -> list[Array]:
    random = np.random.default_rng(0)
    sizes = [(40, 40), (64, 48), (31, 77), (50, 50), (20, 90)]
    several = [sizes[index % len(sizes)] for index in range(number)]
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in several]


def _check_unfitted(detector: Detector) -> None:
    calls: dict[str, Callable[[], object]] = {
        "predict": lambda: detector.predict([]),
        "save": lambda: detector.save("never-written"),
    }
    for name, call in calls.items():
        try:
            call()
        except NotFittedError:
            continue
        raise AssertionError(f"{name} must raise NotFittedError before fit")


def _check_needs(make: Callable[[], Detector], given: Mapping[str, Any]) -> None:
    needs = make().needs
    wanted = {"reference": needs.reference_images, "auxiliary": needs.auxiliary_set}
    for name, need in wanted.items():
        _require(need == (name in given), f"fit must be given '{name}' exactly where the detector needs it")
        if need:
            _require_refusal(
                lambda name=name: make().fit(**{k: v for k, v in given.items() if k != name}),  # type: ignore[misc]
                f"fit must refuse to work without '{name}'",
            )


def _require_refusal(call: Callable[[], object], rule: str) -> None:
    try:
        call()
    except UsageError:
        return
    raise AssertionError(rule)


def _check_records(detector: Detector, images: Sequence[Array], found: Sequence[Prediction]) -> None:
    _require(len(found) == len(images), "there must be one prediction per image, in order")
    for image, prediction in zip(images, found, strict=True):
        _require(0 <= prediction.score <= 1, "scores must lie in [0, 1]")
        _require(bool(np.isfinite(prediction.logit)), "log-odds must be finite")
        _require(
            all(0 <= value <= 1 for value in prediction.scores.values()), "named scores must lie in [0, 1]"
        )
        _require(
            abs(prediction.score - _sigmoid(prediction.logit)) < 1e-9, "the score must be sigmoid(logit)"
        )
        _require(prediction.label is None, "there must be no verdict without a threshold")
        _check_map(prediction, image)
    without = list(detector.predict(images))
    _require(all(p.map is None for p in without), "no map may be computed unless asked for")
    moved = max(abs(a.logit - b.logit) for a, b in zip(found, without, strict=True))
    _require(moved < CLOSE, "asking for maps must not change the scores")


def _check_map(prediction: Prediction, image: Array) -> None:
    picture = prediction.map
    _require(
        picture is not None and picture.dtype == np.float32 and picture.ndim == 2,
        "a map must be float32 (rows, columns)",
    )
    assert picture is not None
    _require(bool(((picture >= 0) & (picture <= 1)).all()), "map values must lie in [0, 1]")
    _require(
        prediction.resized_map().shape == image.shape[:2], "a resized map must have the size of the image"
    )


def _sigmoid(logit: float) -> float:
    return float(np.exp(-np.logaddexp(0.0, -logit)))


def _check_odd_inputs(detector: Detector) -> None:
    _require(list(detector.predict([])) == [], "no image, no prediction")
    # A detector that judges by the batch gets its odd images among others, and refuses one alone.
    others = _pictures(20) if detector.needs.whole_batch else []
    if others:
        _require_refusal(
            lambda: list(detector.predict(others[:1])), "a detector that needs a batch must refuse one image"
        )
    for name, image in {
        "a constant image": np.full((32, 32, 3), 128, dtype=np.uint8),
        "a black image": np.zeros((32, 32, 3), dtype=np.uint8),
        "a one-pixel image": np.full((1, 1, 3), 7, dtype=np.uint8),
    }.items():
        found, *_ = detector.predict([image, *others], maps=True)
        _require(bool(np.isfinite(found.logit)), f"{name} must get a finite score")
        _require(
            found.map is not None and bool(np.isfinite(found.map).all()), f"{name} must get a finite map"
        )
    errors: list[ImageError] = []
    equal = [np.full((16, 16, 3), 90, dtype=np.uint8)] * 2
    odd = [equal[0], b"no picture", equal[1], *others]
    found_equal = list(detector.predict(odd, on_error=errors.append))
    _require(
        len(errors) == 1 and len(found_equal) == 2 + len(others),
        "an unreadable image must be reported and the others go on",
    )
    same = list(detector.predict([equal[0]] * max(2, len(others))))
    _require(all(np.isfinite(p.logit) for p in same), "a batch of equal images must get finite scores")
    moved = abs(found_equal[0].logit - found_equal[1].logit)
    _require(moved < CLOSE, f"equal images must get equal scores, log-odds differ by {moved:.2g}")


def _check_batches(detector: Detector, images: Sequence[Array], first: Sequence[Prediction]) -> None:
    if detector.needs.whole_batch:
        return
    order = [3, 0, 4, 1, 2]
    for size in (1, 2, 5):
        again = list(detector.predict([images[i] for i in order], batch_size=size))
        moved = max(abs(first[i].logit - p.logit) for i, p in zip(order, again, strict=True))
        _require(moved < CLOSE, f"order and batch size must not matter: log-odds moved by {moved:.2g}")


def _check_same(one: Sequence[Prediction], other: Sequence[Prediction], rule: str) -> None:
    _require([_frozen(p) for p in one] == [_frozen(p) for p in other], rule)


def _frozen(prediction: Prediction) -> tuple[Any, ...]:
    picture = prediction.map
    return prediction.logit, dict(prediction.scores), None if picture is None else picture.tobytes()


def _check_saved(
    detector: Detector, load: Callable[[Path], Detector], images: Sequence[Array], first: Sequence[Prediction]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "detector"
        detector.save(folder)
        loaded = load(folder)
        _require(
            loaded.get_params() == detector.get_params(), "a loaded detector must have the saved parameters"
        )
        _check_same(first, list(loaded.predict(images, maps=True)), "a loaded detector must predict the same")


def _check_sign(detector: Detector, normal: Sequence[Array], anomalous: Sequence[Array]) -> None:
    # All in one call: a detector that judges by the batch must see the flawed ones among good ones.
    logits = [p.logit for p in detector.predict([*normal, *anomalous])]
    good, bad = (float(np.mean(side)) for side in (logits[: len(normal)], logits[len(normal) :]))
    _require(bad > good, f"flawed images must score higher than good ones, got {bad:.3f} and {good:.3f}")
