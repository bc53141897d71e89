"""The shortest way from photos to scores."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroflaw.detectors import Detector, Prediction, is_folder, load, open_fitted
from zeroflaw.images import find_images
from zeroflaw.runtime.stream import OnError, is_one_picture

Picture: TypeAlias = bytes | Image.Image | npt.NDArray[np.uint8]


@overload
def detect(  # type: ignore[overload-overlap]  # a str is an iterable of str, too
    images: str | Path | npt.NDArray[np.uint8],
    *,
    detector: str | Path | Detector = ...,
    maps: bool = ...,
    on_error: OnError | None = ...,
) -> Prediction | list[Prediction]: ...
@overload
def detect(
    images: bytes | Image.Image, *, detector: str | Path | Detector = ..., maps: bool = ...
) -> Prediction: ...
@overload
def detect(
    images: Iterable[str | Path | Picture],
    *,
    detector: str | Path | Detector = ...,
    maps: bool = ...,
    on_error: OnError | None = ...,
) -> list[Prediction]: ...
def detect(
    images: Any,
    *,
    detector: str | Path | Detector = "rwda",
    maps: bool = False,
    on_error: OnError | None = None,
) -> Prediction | list[Prediction]:
    """Score one picture and return its prediction, or several and return their predictions in order.

    Args:
        images: one picture: the path of a file, an encoded file as bytes, a PIL image, or an array (H, W) or
            (H, W, 3) of uint8 in RGB order (OpenCV's is BGR: reverse it, ``image[..., ::-1]``). Or several:
            a folder, a pattern such as ``"photos/*.png"``, a list of any of these, an array (N, H, W, 3).
        detector: a fitted detector, the name of a kind of detector, or the folder of a saved one.
        maps: also compute anomaly maps.
        on_error: see `zeroflaw.Detector.predict`; one picture that cannot be read is an error in any case.

    Raises:
        InputError: a path does not exist or holds no image.
        ZeroflawError: see `zeroflaw.load` and `zeroflaw.Detector.predict`.
    """
    if not isinstance(detector, Detector):
        name = str(detector)
        detector = load(name) if is_folder(name) else open_fitted(name, {})
    named = isinstance(images, str | os.PathLike)
    if Path(images).is_file() if named else is_one_picture(images):
        return next(iter(detector.predict([images], maps=maps)))
    several = images if named or isinstance(images, np.ndarray) else list(images)
    if named or all(isinstance(item, str | os.PathLike) for item in several):
        several = find_images(several)
    return list(detector.predict(several, maps=maps, on_error=on_error))
