"""The shortest way from photos to scores."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroflaw.detectors import Detector, Prediction, is_folder, load, open_fitted
from zeroflaw.errors import UsageError
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
            Each file of a list gets a prediction, also one that is named twice.
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
    if not named and (not isinstance(images, Iterable) or hasattr(images, "read")):
        raise UsageError(
            f"detect wants a picture (path, bytes, PIL image, NumPy array) or several, got one "
            f"{type(images).__name__}; of an open file give what read() returns"
        )
    several = images if named or isinstance(images, np.ndarray) else list(images)
    if named or len(several) == 0:
        several = find_images(several)
    elif all(isinstance(item, str | os.PathLike) for item in several):
        several = [path for item in several for path in _files(item, on_error)]
    return list(detector.predict(several, maps=maps, on_error=on_error))


def _files(path: str | os.PathLike[str], on_error: OnError | None) -> Iterable[str | os.PathLike[str]]:
    """Return what an item of a list means: itself, so that predictions stand beside their items, but for
    folders and patterns. That nothing is there is told to ``on_error`` where there is one.
    """
    if os.path.isfile(path):  # noqa: PTH113 - which refuses no name
        return [path]
    missing = not os.path.exists(path) and not glob.has_magic(os.fspath(path))  # noqa: PTH110
    return [path] if missing and on_error is not None else find_images([path])
