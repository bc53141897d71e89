"""Judging photos tile by tile, in the memory that some rows of them take (`zeroflaw.runtime.tiling`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zeroflaw.bands import Bands, open_bands
from zeroflaw.errors import ImageError
from zeroflaw.runtime.drift import NAMES, measure
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.scorer import Judgement
from zeroflaw.runtime.stream import Array, OnError, batches
from zeroflaw.runtime.tiling import Digested, Mosaic, Tiling

JudgeTiles = Callable[[Sequence[Array]], Judgement]


@dataclass(frozen=True)
class TiledPhoto:
    """A photo that is read anew, tile by tile, whenever it is looked at.

    Attributes:
        source: path, bytes, PIL image or array.
        side: of the tiles in pixels.
        white: see `zeroflaw.images.read_image`.
        size: height and width in pixels.
        sha256: of its pixels.
        photo: its figures (`zeroflaw.runtime.drift`), means over its tiles.
    """

    source: Any
    side: int
    white: float | None
    size: tuple[int, int]
    sha256: str
    photo: Mapping[str, float]

    @classmethod
    def of(cls, source: Any, side: int, white: float | None) -> TiledPhoto:
        """Look at a photo once.

        Raises:
            ImageError: it cannot be read.
        """
        bands = open_bands(source, white=white)
        digested = Digested(bands)
        figures = _mean([measure(tile) for tile in Tiling.of(bands.size, side).cut(digested)])
        return cls(source, side, white, bands.size, digested.sha256, figures)

    @property
    def tiling(self) -> Tiling:
        """How it is cut."""
        return Tiling.of(self.size, self.side)

    def tiles(self) -> Iterator[Array]:
        """Yield its tiles, uint8 (side, side, 3).

        Raises:
            ImageError: it cannot be read any more.
        """
        return self.tiling.cut(open_bands(self.source, white=self.white))


def predict_tiled(
    images: Iterable[Any],
    judge: JudgeTiles,
    *,
    side: int,
    white: float | None,
    batch_size: int,
    on_error: OnError | None,
) -> Iterator[Prediction]:
    """Judge photos, one after the other, by their tiles of a side in pixels; arguments of `Detector.predict`.

    Args:
        images: the photos.
        judge: judges tiles.
        side: of the tiles in pixels.
        white: see `zeroflaw.images.read_image`.
        batch_size: tiles that are judged together.
        on_error: see `Detector.predict`.
    """
    for number, source in enumerate(images):
        name = str(source) if isinstance(source, str | Path) else f"image {number}"
        try:
            bands = open_bands(source, name=name, white=white)
            found = _judged(bands, judge, side, batch_size)
        except ImageError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        yield replace(found, source=name, notes=bands.notes)


def _judged(bands: Bands, judge: JudgeTiles, side: int, batch_size: int) -> Prediction:
    """Judge one photo: what is said of its most anomalous tile, and the joined map."""
    tiling = Tiling.of(bands.size, side)
    mosaic, figures = Mosaic(tiling), []
    best, scores, maps = -np.inf, dict[str, float](), False
    for batch in batches(zip(tiling.places, tiling.cut(bands), strict=True), batch_size):
        said = judge([tile for _, tile in batch])
        figures += [measure(tile) for _, tile in batch]
        highest = int(np.argmax(said.logits))  # of numbers that are none, the first: it is refused below
        if not said.logits[highest] <= best:
            best = float(said.logits[highest])
            scores = {name: float(values[highest]) for name, values in said.scores.items()}
        for (place, _), drawn in zip(batch, said.maps or (), strict=said.maps is not None):
            mosaic.add(place, drawn)
            maps = True
    whole = Judgement(
        np.array([best]),
        {name: np.array([value]) for name, value in scores.items()},
        [mosaic.joined()] if maps else None,
    )
    return replace(whole.predictions([bands.size])[0], photo=_mean(figures))


def _mean(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in figures])) for name in NAMES}
