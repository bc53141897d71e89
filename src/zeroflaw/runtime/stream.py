"""Images on their way to a network: read ahead, in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroflaw.errors import ImageError
from zeroflaw.images import read_image
from zeroflaw.runtime.prediction import Prediction

Array = npt.NDArray[Any]
OnError = Callable[[ImageError], None]
Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all

Item = TypeVar("Item")


def named(found: Iterable[Prediction], names: Iterable[str]) -> Iterator[Prediction]:
    """Fill in where the images came from."""
    for prediction, name in zip(found, names, strict=True):
        yield dataclasses.replace(prediction, source=name)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cut ``items`` into lists of at most ``size``."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def is_one_picture(images: object) -> bool:
    """Whether this is one picture, whose rows or letters would else be taken for images; several arrays are
    (N, H, W, 3).
    """
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    return isinstance(images, str | bytes | Path | Image.Image)


def read_ahead(images: Iterable[Any], on_error: OnError | None) -> Iterator[tuple[str, Array]]:
    """Decode one image ahead of the network, in a thread: name and pixels of each."""
    return ((name, pixels) for _, name, pixels in read_numbered(images, on_error))


def read_numbered(images: Iterable[Any], on_error: OnError | None) -> Iterator[tuple[int, str, Array]]:
    """Decode one image ahead of the network: place among all, name and pixels of each that can be read."""

    def read(numbered: tuple[int, Any]) -> tuple[int, str, Array] | ImageError:
        number, source = numbered
        name = str(source) if isinstance(source, (str, Path)) else f"image {number}"
        try:
            return number, name, read_image(source, name=name)
        except ImageError as error:
            return error

    todo = enumerate(images)
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(read, item) for item in islice(todo, 2)]
        while waiting:
            result = waiting.pop(0).result()
            waiting += [pool.submit(read, item) for item in islice(todo, 1)]
            if not isinstance(result, ImageError):
                yield result
            elif on_error is None:
                raise result
            else:
                on_error(result)
