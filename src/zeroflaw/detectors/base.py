"""Detectors that look at images through a frozen network: fitting, prediction, saving, the model card.

Subclasses say what they ask of the network, what they learn, and how they judge what it answers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zeroflaw.detectors import folder as folders
from zeroflaw.detectors.contract import Detector
from zeroflaw.detectors.given import Given
from zeroflaw.detectors.kinds import check_kinds
from zeroflaw.detectors.ranges import check_range, one_of
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.stream import Array, OnError, Progress, batches, named, read_ahead
from zeroflaw.towers.model import ImageFeatures
from zeroflaw.towers.weights import load_backbone

if TYPE_CHECKING:
    from typing import Self

    from zeroflaw.records import Dataset
    from zeroflaw.towers.backbone import Backbone


@dataclass(frozen=True)
class Request:
    """What a detector wants to know of an image: detectors with equal backbones can share the answer.

    Attributes:
        windows: (size, stride) of each set of token windows.
        patches: whether the patch tokens' embeddings are wanted.
        layers: blocks, counted from 1, whose patch tokens are wanted.
    """

    windows: tuple[tuple[int, int], ...] = ()
    patches: bool = False
    layers: tuple[int, ...] = ()

    def __or__(self, other: Request) -> Request:
        return Request(
            tuple(sorted({*self.windows, *other.windows})),
            self.patches or other.patches,
            tuple(sorted({*self.layers, *other.layers})),
        )


@lru_cache(maxsize=2)
def shared_backbone(name: str, device: str, dtype: str) -> Backbone:
    """Load a backbone once for all detectors of a process that use it."""
    return load_backbone(name, device=device, dtype=dtype)  # type: ignore[arg-type]


@dataclass(kw_only=True, eq=False)
class BackboneDetector(Detector):
    """Base of detectors with a frozen network.

    Attributes:
        backbone: "mini", "architecture/tag" or "local-dir:PATH".
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        dtype: "float32" or "bfloat16".
    """

    backbone: str = "mini"
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"

    backbone_: Any = field(init=False, default=None, repr=False)
    words_: dict[str, Any] | None = field(init=False, default=None, repr=False)
    seen_: dict[str, Any] | None = field(init=False, default=None, repr=False)

    @abstractmethod
    def _fit(
        self, backbone: Any, given: Given, checkpoint: Path | None, progress: Progress | None
    ) -> dict[str, Any]:
        """Learn, keep what was learned in attributes, and return all words used, if any."""

    @abstractmethod
    def _state(self) -> dict[str, Tensor]:
        """Return what was learned, by name, for `save`."""

    @abstractmethod
    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what `_state` returned; ``backbone_`` and ``words_`` are set.

        Raises:
            DetectorError: a tensor is missing, superfluous or of another shape (see `take_tensors`).
        """

    @abstractmethod
    def _card(self) -> str:
        """Return the middle of the model card: how the detector was made."""

    @abstractmethod
    def request(self, maps: bool) -> Request:
        """Return what `predict_features` must be given."""

    @abstractmethod
    def predict_features(
        self, features: ImageFeatures, request: Request, sizes: list[tuple[int, int]], *, maps: bool
    ) -> list[Prediction]:
        """Judge images whose features are known; ``request`` says in which order the windows lie in
        ``features``.

        ``sizes`` are heights and widths of the images in pixels. Detectors that need the whole batch are
        given all images at once.
        """

    def __post_init__(self) -> None:
        """Take lists for tuples, so that parameters are equal before and after a trip through JSON."""
        for name, value in self.get_params().items():
            if isinstance(value, list):
                setattr(self, name, tuple(value))

    def validate(self) -> None:
        """Check the kind of every parameter, and the range of those that all these detectors have.

        Raises:
            UsageError: a parameter is of the wrong kind or out of range; the message names it.
        """
        check_kinds(self)
        one_of("device", self.device, ("auto", "cpu", "cuda", "mps"))
        one_of("dtype", self.dtype, ("float32", "bfloat16"))
        check_range("seed", self.seed, 0, 2**32 - 1, whole=True)

    def _load_backbone(self) -> Any:
        """Return the network: anything with ``sha256``, ``fingerprint``, ``licence`` and ``revision``."""
        return shared_backbone(self.backbone, self.device, self.dtype)

    def _check_backbone(self, backbone: Any) -> None:
        """Refuse a network that this detector cannot work with, before anything is fitted or saved.

        Raises:
            UsageError: with what would work.
        """

    def _check_given(self, given: Given) -> None:
        """Refuse inputs of `fit` that cannot do, before any work; that the right ones are there is known.

        Raises:
            UsageError: with what would do.
        """

    @property
    def is_fitted(self) -> bool:
        """Whether `predict` may be called."""
        return self.backbone_ is not None

    @property
    def share_key(self) -> tuple[str, ...]:
        """What detectors have in common when they can share features of images."""
        return "clip", self.backbone, self.device, self.dtype

    def fit(
        self,
        *,
        reference: Sequence[Any] | None = None,
        auxiliary: Dataset | None = None,
        checkpoint: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn what prediction needs; see `Detector.fit`.

        Raises:
            UsageError: a parameter is wrong, or what is needed was not given.
            WeightsError: the backbone cannot be had.
            ImageError: a reference image cannot be read.
        """
        self.validate()
        given = Given.take(self.name, self.needs, reference, auxiliary)
        if checkpoint is not None and not self.resumable:
            raise UsageError(
                f"detector '{self.name}' is fitted in one go and keeps no checkpoint; leave it out"
            )
        self._check_given(given)
        backbone = self._load_backbone()
        self._check_backbone(backbone)
        words = self._fit(backbone, given, None if checkpoint is None else Path(checkpoint), progress)
        self.words_, self.seen_, self.backbone_ = words, given.describe(), backbone
        return self

    def embed(self, images: list[Array], request: Request) -> ImageFeatures:
        """Embed pictures, uint8 (H, W, 3) of any sizes, as ``request`` says."""
        self._require_fit()
        features: ImageFeatures = self.backbone_.embed_images(
            images, windows=request.windows, patches=request.patches, layers=request.layers
        )
        return features

    def keep(self, features: ImageFeatures) -> ImageFeatures:
        """Return the part of ``features`` that must be kept until the whole batch is there."""
        return features

    def _predict_batch(self, images: list[Array], maps: bool) -> list[Prediction]:
        request = self.request(maps)
        features = self.embed(images, request)
        return self.predict_features(features, request, [sized(image) for image in images], maps=maps)

    def _predict_all(
        self, images: Iterable[Any], maps: bool, batch_size: int, on_error: OnError | None
    ) -> Iterator[Prediction]:
        if not self.needs.whole_batch:
            yield from super()._predict_all(images, maps, batch_size, on_error)
            return
        request, parts, names, sizes = self.request(maps), [], [], []
        for batch in batches(read_ahead(images, on_error), batch_size):
            parts.append(self.keep(self.embed([pixels for _, pixels in batch], request)))
            names += [name for name, _ in batch]
            sizes += [sized(pixels) for _, pixels in batch]
        if names:
            found = self.predict_features(ImageFeatures.join(parts), request, sizes, maps=maps)
            yield from named(found, names)

    def save(self, folder: str | Path) -> None:
        """Write the fitted detector as a folder; see `zeroflaw.load`.

        Raises:
            NotFittedError: `fit` was not called.
            DetectorError: the folder cannot be written or holds something else.
        """
        self._require_fit()
        backbone = self.backbone_
        identity = {"name": self.backbone, "sha256": backbone.sha256, "revision": backbone.revision}
        identity["fingerprint"] = backbone.fingerprint
        saved = folders.SavedDetector(
            self.name,
            self.get_params(),
            identity,
            self._state(),
            self.words_ or {},
            self.seen_ or {},
            self.model_card(),
        )
        folders.write_folder(folder, saved)

    @classmethod
    def from_saved(cls, saved: folders.SavedDetector, **overrides: Any) -> Self:
        """Rebuild a detector from its folder's content; ``overrides`` may change backbone, device and dtype.

        Raises:
            DetectorError: parameters, tensors and backbone do not fit together.
        """
        try:
            cls.check_params(saved.parameters)
            detector = cls(**{**saved.parameters, **overrides})
            detector.validate()
        except (UsageError, TypeError, ValueError) as error:
            raise _wrong_parameters(saved, error) from error
        backbone = detector._load_backbone()
        folders.check_identity(saved, detector.backbone, backbone)
        try:
            detector._check_backbone(backbone)
        except UsageError as error:
            raise _wrong_parameters(saved, error) from error
        Given.check_seen(detector.name, detector.needs, saved.seen)
        detector.backbone_, detector.words_, detector.seen_ = backbone, saved.words, saved.seen
        detector._restore(saved.tensors)
        detector._check_words()
        return detector

    def _check_words(self) -> None:
        """Refuse words of a folder that do not say what the model card needs: it could not be saved again."""
        try:
            self.model_card()
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DetectorError(
                f"words.json does not hold the words that a detector '{self.name}' was made of ("
                f"{type(error).__name__}: {error}); save the detector again"
            ) from error

    def model_card(self) -> str:
        """Return the model card, Markdown."""
        self._require_fit()
        backbone = self.backbone_
        facts = {
            "Source of the method": self.source,
            "Backbone": f"`{self.backbone}`, sha256 `{backbone.sha256}`, licence {backbone.licence}",
            **self._facts(),
            "Seed": str(self.seed),
            "Images seen": Given.in_words(self.seen_ or {}),
        }
        listed = "\n".join(f"- {name}: {value}" for name, value in facts.items())
        return (
            f"# zeroflaw detector `{self.name}`\n\n{self._card()}\n\n{listed}\n\n"
            "Scores rank images; 0.5 is no threshold. Set one from good images of your own product.\n"
        )

    def _facts(self) -> dict[str, str]:
        """Return further lines of the model card."""
        return {}

    def _finite(self, logits: Tensor) -> Tensor:
        """Return the log-odds, or refuse to answer with something that is no number."""
        if not bool(torch.isfinite(logits).all()):
            raise DetectorError(
                f"detector '{self.name}' gives scores that are not finite numbers; fit it again, with a "
                "smaller learning_rate or a larger temperature"
            )
        return logits


def _wrong_parameters(saved: folders.SavedDetector, error: Exception) -> DetectorError:
    return DetectorError(f"the saved parameters of detector '{saved.detector}' are wrong: {error}")


def take_tensors(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]], *, whole: Collection[str] = ()
) -> dict[str, Tensor]:
    """Return saved tensors after a check that exactly those of ``shapes`` are there.

    They hold float32 numbers, but int64 ones where ``whole`` names them.

    Raises:
        DetectorError: a tensor is missing, superfluous, of another shape or of other numbers.
    """
    if set(shapes) != set(tensors):
        odd = sorted(set(shapes) ^ set(tensors))
        raise DetectorError(
            f"head.safetensors does not hold the tensors that config.json describes: {', '.join(odd[:5])}"
        )
    for key, shape in shapes.items():
        if list(tensors[key].shape) != list(shape):
            raise DetectorError(
                f"tensor '{key}' of head.safetensors has shape {list(tensors[key].shape)}, not {list(shape)}"
            )
        wanted = torch.int64 if key in whole else torch.float32
        if tensors[key].dtype != wanted:
            raise DetectorError(
                f"tensor '{key}' of head.safetensors must hold {wanted} numbers, got {tensors[key].dtype}; "
                "save the detector again"
            )
    return dict(tensors)


def predictions(
    logits: Tensor,
    scores: Mapping[str, Tensor],
    sizes: Sequence[tuple[int, int]],
    maps: Tensor | None = None,
) -> list[Prediction]:
    """Make one prediction per image.

    Args:
        logits: log-odds of the final score, (B,).
        scores: named parts as log-odds, each (B,).
        sizes: heights and widths of the images.
        maps: probability maps (B, rows, columns), or None.
    """
    drawn = [None] * len(sizes) if maps is None else [picture.float().numpy() for picture in maps]
    return [
        Prediction(
            source=f"image {row}",
            score=probability(logits[row]),
            logit=float(logits[row]),
            scores={name: probability(values[row]) for name, values in scores.items()},
            size=size,
            map=drawn[row],
        )
        for row, size in enumerate(sizes)
    ]


def probability(logit: Tensor) -> float:
    """Return the probability of log-odds (), computed in double precision."""
    return float(torch.sigmoid(logit.double()))


def sized(image: Array) -> tuple[int, int]:
    """Return height and width of a picture."""
    return int(image.shape[0]), int(image.shape[1])
