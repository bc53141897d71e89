"""Whether photos still look like those that a detector was calibrated with: light, lens, camera.

Figures of a photo are taken from its grey levels at 256 pixels, so that sizes can be compared. Nothing here
moves a threshold; it only says what has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroflaw.images import read_image
from zeroflaw.runtime.calibration import Calibration, PhotoFacts
from zeroflaw.runtime.prediction import Prediction

SIDE = 256  # pixels at which photos are measured
FEWEST = 8  # photos that a change can be told from
LOW, HALF_LOW = 0.15, 0.3  # p-values that most photos have only after a change; where it shows, too
FAR = 4.0  # standard deviations of a mean that are too many
NAMES = ("brightness", "contrast", "sharpness", "noise")


def measure(pixels: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return figures of a picture, uint8 (H, W, 3).

    ``brightness`` and ``contrast`` are mean and standard deviation of grey levels in [0, 1]; ``sharpness`` is
    the logarithm of the mean absolute Laplacian relative to the contrast; ``noise`` that of the median
    absolute second difference along diagonals, which edges hardly touch.
    """
    grey = Image.fromarray(pixels).convert("L")
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64) / 255
    inner = small[1:-1, 1:-1]
    laplacian = 4 * inner - small[:-2, 1:-1] - small[2:, 1:-1] - small[1:-1, :-2] - small[1:-1, 2:]
    diagonal = small[:-1, :-1] - small[1:, :-1] - small[:-1, 1:] + small[1:, 1:]
    contrast = float(small.std())
    return {
        "brightness": float(small.mean()),
        "contrast": contrast,
        "sharpness": float(np.log(np.abs(laplacian).mean() / (contrast + 1e-3) + 1e-4)),
        "noise": float(np.log(np.median(np.abs(diagonal)) + 1e-4)),
    }


def describe_photos(images: Iterable[Any]) -> PhotoFacts:
    """Return the facts of good photos: paths, bytes, PIL images or uint8 arrays.

    Raises:
        ImageError: one cannot be read.
    """
    sizes, found = [], []
    for image in images:
        picture = read_image(image)
        sizes.append((int(picture.shape[0]), int(picture.shape[1])))
        found.append(measure(picture))
    return facts_of(sizes, found)


def facts_of(sizes: Iterable[tuple[int, int]], found: Sequence[Mapping[str, float]]) -> PhotoFacts:
    """Return the facts of photos whose heights and widths, and what `measure` says of them, are known."""
    return PhotoFacts(
        sizes=tuple(size for size, _ in Counter(sizes).most_common(5)),
        **{
            name: (float(np.mean([f[name] for f in found])), float(np.std([f[name] for f in found])))
            for name in NAMES
        },
    )


@dataclass
class Watch:
    """Compares judged photos with the good ones of a calibration.

    Attributes:
        calibration: of the detector.
        p_values: of the photos so far.
        measured: their figures.
        sizes: their heights and widths.
    """

    calibration: Calibration
    p_values: list[float] = field(default_factory=list)
    measured: list[Mapping[str, float]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def add(self, prediction: Prediction) -> None:
        """Take in what is said about one more photo."""
        if prediction.p_value is not None:
            self.p_values.append(prediction.p_value)
        if prediction.photo is not None:
            self.measured.append(prediction.photo)
        self.sizes.append(prediction.size)

    def alarm(self) -> str | None:
        """Say that light, lens, camera or product have changed, if most photos are unlike the good ones."""
        if len(self.p_values) < FEWEST:
            return None
        changed = self.changes()
        # Of photos like the good ones few have small p-values; flawed parts do, but most parts are good.
        usual = LOW if not changed else HALF_LOW
        share = float(np.mean(np.array(self.p_values) <= max(usual, 1 / (len(self.calibration.good) + 1))))
        if share <= 0.5:
            return None
        what = f" ({', '.join(changed)})" if changed else ""
        return (
            f"{share:.0%} of the photos are unlike the good photos, more than those are unlike each other: "
            f"light, lens, camera or product have changed{what}, or most parts are flawed; take new good "
            "photos, or compare the photos with one another (detect --together)"
        )

    def notice(self) -> str | None:
        """Return the alarm, or, where verdicts hardly suffer, what has changed."""
        alarm, changed = self.alarm(), self.changes()
        if alarm is None and changed:
            return (
                f"the photos differ from the good ones ({', '.join(changed)}): light, lens, camera or "
                "settings are not the same; verdicts hold for photos that are taken like the good ones"
            )
        return alarm

    def changes(self) -> Sequence[str]:
        """Name what differs between the photos and the good ones."""
        facts = self.calibration.photos
        if facts is None or not self.measured:
            return []
        found = []
        words = {
            "brightness": ("darker", "brighter"),
            "contrast": ("less contrast", "more contrast"),
            "sharpness": ("less sharp", "sharper"),
            "noise": ("less noise", "more noise"),
        }
        least = {"brightness": 0.03, "contrast": 0.02, "sharpness": 0.1, "noise": 0.15}
        for name in NAMES:
            mean, spread = getattr(facts, name)
            moved = float(np.median([m[name] for m in self.measured])) - mean
            # Both means are of few photos.
            usual = spread * np.sqrt(1 / len(self.measured) + 1 / max(1, len(self.calibration.good)))
            if abs(moved) > max(least[name], FAR * usual):
                found.append(words[name][moved > 0])
        if self.sizes and not {*self.sizes} & {*facts.sizes}:
            found.append("another size")
        return found
