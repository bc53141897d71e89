"""What every detector is: its parameters, what it needs, what it answers.

A detector is a frozen set of parameters plus what ``fit`` learned. Higher scores are more anomalous, always.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroflaw.errors import ImageError, NotFittedError, UsageError, closest
from zeroflaw.images import read_image

if TYPE_CHECKING:
    from typing_extensions import Self

    from zeroflaw.records import Dataset

Array = npt.NDArray[Any]
OnError = Callable[[ImageError], None]
Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all

Item = TypeVar("Item")

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Needs:
    """What a detector must be given before it can predict.

    Attributes:
        words: it is fitted from words; no image is seen.
        object_name: it cannot work without the product's name.
        reference_images: it needs photos of good products.
        auxiliary_set: it needs a labelled data set of other products.
        whole_batch: it judges an image by the batch it comes in.
        decoder_weights: it works with weights of its own, a masked autoencoder with its decoder.
    """

    words: bool = True
    object_name: bool = False
    reference_images: bool = False
    auxiliary_set: bool = False
    whole_batch: bool = False
    decoder_weights: bool = False

    def __str__(self) -> str:
        wanted = [f.name.replace("_", " ") for f in dataclasses.fields(self) if getattr(self, f.name)]
        return ", ".join(wanted) or "nothing"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a detector says about one image.

    Attributes:
        source: the path as given, or the index for pictures in memory.
        score: anomaly score in [0, 1]; higher = more anomalous.
        logit: log-odds of ``score``. Scores near 0 and 1 run out of digits, their log-odds do not: rank by
            this.
        scores: the named parts in [0, 1] that ``score`` is made of.
        size: height and width of the image in pixels.
        label: verdict; None until a threshold exists.
        threshold: smallest score that is called anomalous, or None.
        threshold_from: where the threshold came from, in words, or None.
        map: anomaly of each patch, float32 in [0, 1] of shape (rows, columns), or None where none was asked
            for.
    """

    source: str
    score: float
    logit: float
    scores: Mapping[str, float]
    size: tuple[int, int]
    label: bool | None = None
    threshold: float | None = None
    threshold_from: str | None = None
    map: npt.NDArray[np.float32] | None = None

    def resized_map(self) -> npt.NDArray[np.float32]:
        """Return the map at the size of the image, float32 (height, width), interpolated bilinearly.

        Raises:
            UsageError: the prediction was made without a map.
        """
        from zeroflaw.runtime.maps import upsample

        if self.map is None:
            raise UsageError("a map was wanted but none was computed; predict with maps=True")
        return upsample(self.map, self.size)

    def judged(self, threshold: float, origin: str) -> Prediction:
        """Return the same prediction with the verdict ``score >= threshold``; ``origin`` says where it comes
        from.
        """
        return dataclasses.replace(
            self, label=self.score >= threshold, threshold=threshold, threshold_from=origin
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the map, ready for JSON."""
        return {
            "source": self.source,
            "score": self.score,
            "logit": self.logit,
            "label": self.label,
            "threshold": self.threshold,
            "threshold_from": self.threshold_from,
            "scores": dict(self.scores),
            "size": list(self.size),
        }


class Detector(ABC):
    """Base of all detectors; subclasses are keyword-only dataclasses whose fields are their parameters.

    Learned state ends in an underscore and exists only after ``fit``. `zeroflaw.check_detector` tests the
    contract.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]
    source: ClassVar[str]
    resumable: ClassVar[bool] = False  # whether an interrupted fit goes on from a checkpoint

    @abstractmethod
    def fit(
        self,
        *,
        reference: Sequence[Any] | None = None,
        auxiliary: Dataset | None = None,
        checkpoint: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn what prediction needs, and return self.

        Args:
            reference: photos of good products: paths, bytes, PIL images or uint8 arrays.
            auxiliary: a data set of other products.
            checkpoint: a file that keeps the state of a long fit; where it exists, the fit goes on from it.
            progress: called with what is being done, steps done and steps in all.

        Raises:
            UsageError: something that `needs` names is missing, or something was given that it does not name;
                nothing has been computed then.
        """

    @abstractmethod
    def _predict_batch(self, images: list[Array], maps: bool) -> list[Prediction]:
        """Judge pictures, uint8 (H, W, 3) of any sizes; sources are filled in by `predict`."""

    @property
    @abstractmethod
    def is_fitted(self) -> bool:
        """Whether `predict` may be called."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the fitted detector as a folder of JSON and safetensors."""

    def validate(self) -> None:
        """Check every parameter; `fit` does so first.

        Raises:
            UsageError: a parameter is of the wrong kind or out of range; the message names it.
        """
        return

    def get_params(self) -> dict[str, Any]:
        """Return the parameters by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}  # type: ignore[arg-type]

    @classmethod
    def check_params(cls, names: Iterable[str]) -> None:
        """Refuse parameter names that this detector does not have.

        Raises:
            UsageError: with the nearest known name.
        """
        known = [f.name for f in dataclasses.fields(cls) if f.init]  # type: ignore[arg-type]
        for name in names:
            if name not in known:
                raise UsageError(
                    f"detector '{cls.name}' has no parameter '{name}'{closest(name, known)} "
                    f"(it has {', '.join(known)})"
                )

    def predict(
        self,
        images: Iterable[Any],
        *,
        maps: bool = False,
        batch_size: int = 8,
        on_error: OnError | None = None,
    ) -> Iterator[Prediction]:
        """Judge images one after the other, in the order given and in constant memory.

        Args:
            images: paths, bytes, PIL images or uint8 arrays (H, W) or (H, W, 3).
            maps: also compute anomaly maps, which cost time.
            batch_size: images that go through the network together.
            on_error: called with the `ImageError` of each image that cannot be read, which is then left out;
                without
                it the first such error is raised.

        Raises:
            NotFittedError: `fit` was not called.
            ImageError: an image cannot be read, and no ``on_error`` was given.
            UsageError: the batch size is below one, or one path was given where a list is wanted.
        """
        self._require_fit()
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UsageError(f"batch_size must be a whole number from 1, got {batch_size!r}")
        if isinstance(images, (str, bytes, Path)) or _is_one_picture(images):
            raise UsageError(
                f"predict wants a list of images, got one {type(images).__name__}; write predict([image])"
            )
        return self._predict_all(images, maps, batch_size, on_error)

    def _predict_all(
        self, images: Iterable[Any], maps: bool, batch_size: int, on_error: OnError | None
    ) -> Iterator[Prediction]:
        for batch in batches(read_ahead(images, on_error), batch_size):
            found = self._predict_batch([pixels for _, pixels in batch], maps)
            yield from named(found, [name for name, _ in batch])

    def _require_fit(self) -> None:
        if not self.is_fitted:
            raise NotFittedError(
                f"detector '{self.name}' must be fitted before this; call fit() or load a saved one"
            )


def named(found: Iterable[Prediction], names: Iterable[str]) -> Iterator[Prediction]:
    """Fill in where the images came from."""
    for prediction, name in zip(found, names, strict=True):
        yield dataclasses.replace(prediction, source=name)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cut ``items`` into lists of at most ``size``."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def _is_one_picture(images: Any) -> bool:
    """Whether this is one picture, whose rows would else be taken for images; several are (N, H, W, 3)."""
    return isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4)


def read_ahead(images: Iterable[Any], on_error: OnError | None) -> Iterator[tuple[str, Array]]:
    """Decode one image ahead of the network, in a thread."""
    from concurrent.futures import ThreadPoolExecutor

    def read(numbered: tuple[int, Any]) -> tuple[str, Array] | ImageError:
        number, source = numbered
        name = str(source) if isinstance(source, (str, Path)) else f"image {number}"
        try:
            return name, read_image(source, name=name)
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
