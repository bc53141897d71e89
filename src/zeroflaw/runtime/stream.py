"""Images on their way to a network: read ahead, in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroflaw.errors import ImageError
from zeroflaw.images import read_picture
from zeroflaw.runtime.prediction import Prediction

Array = npt.NDArray[Any]
OnError = Callable[[ImageError], None]
Prepare = Callable[[Array], Any]
Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that was read.

    Attributes:
        number: its place among all.
        name: its path, or its number in words.
        image: its pixels, uint8 (H, W, 3), or what ``prepare`` made of them.
        notes: sentences about how it was read.
    """

    number: int
    name: str
    image: Any
    notes: tuple[str, ...] = ()


def named(found: Iterable[Prediction], loaded: Iterable[Loaded]) -> Iterator[Prediction]:
    """Fill in where the images came from, and how they were read."""
    for prediction, one in zip(found, loaded, strict=True):
        yield dataclasses.replace(prediction, source=one.name, notes=one.notes)


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


def read_ahead(
    images: Iterable[Any],
    on_error: OnError | None,
    prepare: Prepare | None = None,
    *,
    white: float | None = None,
) -> Iterator[Loaded]:
    """Decode one image ahead of the network, in a thread.

    Args:
        images: paths, bytes, PIL images or arrays.
        on_error: takes the error of each image that cannot be read; without it the first one is raised.
        prepare: is given the pixels, in the same thread, so that large pictures need not wait as they are.
        white: see `zeroflaw.images.read_image`.
    """

    def read(numbered: tuple[int, Any]) -> Loaded | ImageError:
        number, source = numbered
        name = str(source) if isinstance(source, (str, Path)) else f"image {number}"
        try:
            picture = read_picture(source, name=name, white=white)
        except ImageError as error:
            return error
        return Loaded(
            number, name, picture.pixels if prepare is None else prepare(picture.pixels), picture.notes
        )

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
