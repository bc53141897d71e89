"""Whether photos are noticed that are unlike the good ones, and only those."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from zeroflaw import Calibration, Memory, corrupt
from zeroflaw.lab.samples import render
from zeroflaw.runtime.drift import FEWEST, Watch, describe_photos, measure

Pictures = list[np.ndarray]


@pytest.fixture(scope="module")
def detector() -> Memory:
    """The bundled model, with eight good washers."""
    return Memory().fit(reference=[render("washer", index=index)[0] for index in range(8)])


@pytest.fixture(scope="module")
def others() -> Pictures:
    """Other good washers."""
    return [render("washer", seed=1, index=index)[0] for index in range(FEWEST + 2)]


def watched(detector: Memory, pictures: Sequence[np.ndarray]) -> tuple[Watch, str | None]:
    """What was watched, and the alarm one photo too early."""
    assert detector.calibration_ is not None
    watch, early = Watch(detector.calibration_), None
    for prediction in detector.predict(pictures):
        early = watch.alarm() if len(watch.p_values) < FEWEST else early
        watch.add(prediction)
    return watch, early


def test_photos_like_the_good_ones_raise_no_alarm(detector: Memory, others: Pictures) -> None:
    watch, _ = watched(detector, others)
    assert watch.alarm() is None
    assert watch.changes() == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda picture: corrupt(picture, "darker", 3), {"darker", "less contrast"}),
        (lambda picture: corrupt(picture, "brightness", 3), {"brighter"}),
        (lambda picture: corrupt(picture, "defocus_blur", 3), {"less sharp", "less noise"}),
        (lambda picture: corrupt(picture, "gaussian_noise", 2), {"more noise", "sharper"}),
        (lambda picture: np.ascontiguousarray(picture[:300, :280]), {"another size"}),
    ],
)
def test_a_change_raises_an_alarm_that_names_it(
    change: Callable[[np.ndarray], np.ndarray], named: set[str], detector: Memory, others: Pictures
) -> None:
    watch, early = watched(detector, [change(picture) for picture in others])
    assert early is None
    assert named <= set(watch.changes())
    alarm = watch.alarm()
    assert alarm is not None
    assert ", ".join(watch.changes()) in alarm


def test_a_change_that_verdicts_hardly_feel_is_named() -> None:
    grey = [np.full((32, 32, 3), value, np.uint8) for value in (118, 121, 119, 122, 120, 118, 121, 121)]
    facts = Calibration(detector="", rule="t", threshold=0.0, good=(0.0,) * 8, photos=describe_photos(grey))
    watch = Watch(facts, p_values=[0.5] * 20, measured=[measure(photo) for photo in grey] * 2)
    assert watch.notice() is None
    watch.measured = [measure(photo // 2) for photo in grey]
    assert watch.alarm() is None
    assert "differ from the good ones (darker): light, lens, camera" in str(watch.notice())


def test_many_photos_are_not_told_from_few_good_ones_by_chance() -> None:
    """The mean of four good photos is not exact, however many are judged."""
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(60):
        good = [np.full((32, 32, 3), grey, np.uint8) for grey in random.normal(128, 20, 4)]
        watch = Watch(
            Calibration(detector="", rule="t", threshold=0.0, good=(0.0,) * 4, photos=describe_photos(good))
        )
        watch.measured = [
            measure(np.full((32, 32, 3), grey, np.uint8)) for grey in random.normal(128, 20, 60)
        ]
        alarms += "darker" in watch.changes() or "brighter" in watch.changes()
    assert alarms <= 6
