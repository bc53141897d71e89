"""What every detector is: its parameters, what it needs, what it answers.

A detector is a frozen set of parameters plus what ``fit`` learned. Higher scores are more anomalous, always.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zeroflaw.errors import NotFittedError, UsageError
from zeroflaw.parameters import parameter_names
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.stream import (
    Array,
    OnError,
    Prepare,
    Progress,
    batches,
    is_one_picture,
    named,
    read_ahead,
)

if TYPE_CHECKING:
    from typing import Self

    from zeroflaw.records import Dataset


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

    @classmethod
    def of(cls, names: Iterable[str]) -> Needs:
        """Return needs of these names and no others."""
        named = set(names)
        return cls(**{field.name: field.name in named for field in dataclasses.fields(cls)})

    def __str__(self) -> str:
        wanted = [f.name.replace("_", " ") for f in dataclasses.fields(self) if getattr(self, f.name)]
        return ", ".join(wanted) or "nothing"


class Detector(ABC):
    """Base of all detectors; subclasses are keyword-only dataclasses whose fields are their parameters, best
    made with `zeroflaw.parameters.parameters`.

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
            WeightsError: the network cannot be had.
            ImageError: a reference image cannot be read.
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
        """Write the fitted detector as a folder of JSON and safetensors; see `zeroflaw.load`.

        Raises:
            NotFittedError: `fit` was not called.
            UsageError: the folder holds something else.
            DetectorError: the folder cannot be written.
        """

    def get_params(self) -> dict[str, Any]:
        """Return the parameters by name."""
        return {name: getattr(self, name) for name in parameter_names(type(self))}

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
                without it the first such error is raised.

        Raises:
            NotFittedError: `fit` was not called.
            ImageError: an image cannot be read, and no ``on_error`` was given.
            UsageError: the batch size is below one, or one path was given where a list is wanted.
        """
        self._require_fit()
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UsageError(f"batch_size must be a whole number from 1, got {batch_size!r}")
        if is_one_picture(images):
            raise UsageError(
                f"predict wants a list of images, got one {type(images).__name__}; write predict([image])"
            )
        return self._predict_all(images, maps, batch_size, on_error)

    def _predict_all(
        self, images: Iterable[Any], maps: bool, batch_size: int, on_error: OnError | None
    ) -> Iterator[Prediction]:
        ahead = read_ahead(images, on_error, self._preparing(maps), white=getattr(self, "white", None))
        for batch in batches(ahead, batch_size):
            yield from named(self._predict_batch([one.image for one in batch], maps), batch)

    def _preparing(self, maps: bool) -> Prepare | None:
        """Return what makes of pixels, while others are judged, what `_predict_batch` is given."""
        return None

    def _require_fit(self) -> None:
        if not self.is_fitted:
            raise NotFittedError(
                f"detector '{self.name}' must be fitted before this; call fit() or load a saved one"
            )
