"""The shortest way from photos to scores."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zeroflaw.detectors import Detector, Prediction, is_folder, load, open_fitted
from zeroflaw.images import find_images
from zeroflaw.runtime.stream import OnError


def detect(
    paths: str | Path | Iterable[str | Path],
    *,
    detector: str | Path | Detector = "rwda",
    maps: bool = False,
    on_error: OnError | None = None,
) -> list[Prediction]:
    """Score photos and return their predictions, in the order found.

    Args:
        paths: files, folders or patterns such as ``"photos/*.png"``.
        detector: a fitted detector, the name of a kind of detector, or the folder of a saved one.
        maps: also compute anomaly maps.
        on_error: see `zeroflaw.Detector.predict`.

    Raises:
        InputError: a path does not exist or holds no image.
        ZeroflawError: see `zeroflaw.load` and `zeroflaw.Detector.predict`.
    """
    if not isinstance(detector, Detector):
        name = str(detector)
        detector = load(name) if is_folder(name) else open_fitted(name, {})
    return list(detector.predict(find_images(paths), maps=maps, on_error=on_error))
