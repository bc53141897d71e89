"""Detectors that look at images through a frozen network: fitting, prediction, saving, the model card.

A subclass is parameters and `_fit`: what it learns is a `Scorer`, which judges features of images, is saved
and loaded, and knows nothing of how it came about.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field
from typing_extensions import override

from zeroflaw.detectors.contract import Detector
from zeroflaw.detectors.identity import check_identity, require_readable
from zeroflaw.detectors.inputs import FitInputs, digest
from zeroflaw.detectors.opening import Device, Dtype, Engine, open_tower, shared_backbone
from zeroflaw.detectors.tiled import TiledPhoto, predict_tiled
from zeroflaw.errors import DetectorError, MissingExtraError, UsageError
from zeroflaw.images import read_image, white_of_reading
from zeroflaw.parameters import Seed, parameters
from zeroflaw.records import Dataset
from zeroflaw.runtime.calibration import Calibration, PhotoFacts, calibration_of
from zeroflaw.runtime.drift import describe_photos, facts_of, measure
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures
from zeroflaw.runtime.folder import Identity, SavedDetector, Seen, write_folder
from zeroflaw.runtime.prediction import Prediction, peak
from zeroflaw.runtime.preprocess import LARGE, Preprocess, Resized
from zeroflaw.runtime.scorer import Judgement, Scorer, Size
from zeroflaw.runtime.stream import Array, Loaded, OnError, Prepare, Progress, batches, named, read_ahead
from zeroflaw.runtime.tower import embed, sized

if TYPE_CHECKING:
    from zeroflaw.detectors.training import Checkpoint
    from zeroflaw.towers.backbone import Backbone

S = TypeVar("S", bound=Scorer)
TileSide = Annotated[int, Field(ge=0, le=65536)]
LEAST_TILE = 32  # pixels
_EXTRA = "learned."  # prefix of arrays that the scorer does not need


@dataclass(frozen=True)
class Fitted(Generic[S]):
    """What a fit comes to.

    Attributes:
        scorer: judges features of images.
        words: all words used, by what they were used for, as JSON values; empty where there were none.
        learned: arrays that were learned and that the scorer does not need: word vectors, for example.
        calibration: threshold and p-values, where the fit gives them.
    """

    scorer: S
    words: Mapping[str, Any] = field(default_factory=dict)
    learned: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    calibration: Calibration | None = None


@parameters
class BackboneDetector(Detector, Generic[S]):
    """Base of detectors with a frozen network, whose scorer is an ``S``.

    Attributes:
        backbone: "mini", "architecture/tag" or "local-dir:PATH".
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        dtype: "float32" or "bfloat16".
        engine: of the image tower: "onnx", "openvino" or "torch"; "auto" is onnx where the tower was exported
            (the bundled one is), on processors in float32, and torch elsewhere.
        tile: side in pixels of the overlapping squares that large photos are cut into, each judged by itself
            (`zeroflaw.runtime.tiling`); 0 judges photos as they are.
        white: the value that is white in photos of more than 8 bits; by default that of
            `zeroflaw.images.reading`, if any, when the detector is made.
    """

    scorer_class: ClassVar[type[Scorer]]
    needs_torch: ClassVar[bool] = False  # judging runs torch modules, not exported graphs
    tiles_references: ClassVar[bool] = False  # it can learn from tiles of good photos

    backbone: str = "mini"
    seed: Seed = 0
    device: Device = "auto"
    dtype: Dtype = "float32"
    engine: Engine = "auto"
    tile: TileSide = 0
    white: Annotated[float, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        """Nothing is learned yet; subclasses check here what concerns several parameters."""
        if self.white is None:
            self.white = white_of_reading()
        if self.tile:
            self._check_tile()
        if self.needs_torch and self.engine not in ("auto", "torch"):
            raise UsageError(f"{self.name} runs on torch alone, not on {self.engine}; leave the engine out")
        self.backbone_: Any = None
        self.fitted_: Fitted[S] | None = None
        self.seen_ = Seen()
        self.card_ = ""
        self.calibration_: Calibration | None = None
        self.notes_: list[str] = []

    def _check_tile(self) -> None:
        """Refuse tiles where they cannot do."""
        if self.needs.whole_batch:
            raise UsageError(
                f"{self.name} compares whole photos with one another and cannot judge tiles; give good "
                "photos to memory (--good), which can"
            )
        if self.tile < LEAST_TILE:
            raise UsageError(f"tile wants a side from {LEAST_TILE} pixels, or 0 for none, got {self.tile}")
        if self.needs.reference_images and not self.tiles_references:
            raise UsageError(f"{self.name} cannot remember tiles of good photos; memory can")

    @abstractmethod
    def _fit(self, backbone: Any, inputs: FitInputs) -> Fitted[S]:
        """Learn, and return what was learned."""

    def _load_backbone(self) -> Any:
        """Return the network that `_fit` needs."""
        return shared_backbone(self.backbone, self.device, self.dtype)

    def _load_tower(self) -> Any:
        """Return what prediction needs of the network."""
        if self.needs_torch:
            return self._load_backbone()
        return open_tower(self.backbone, self.engine, self.device, self.dtype)

    def _check_inputs(self, inputs: FitInputs) -> None:
        """Raise a UsageError where inputs of `fit` cannot do, before any work."""

    def _check_backbone(self, backbone: Any) -> None:
        """Raise a UsageError where a network cannot do, before anything is fitted or loaded."""

    def _fits(self, scorer: S, backbone: Any) -> bool:
        """Whether a saved scorer is one of these parameters and this network."""
        return True

    @property
    @override
    def is_fitted(self) -> bool:
        return self.fitted_ is not None

    @property
    def scorer_(self) -> S:
        """What was learned.

        Raises:
            NotFittedError: `fit` was not called.
        """
        self._require_fit()
        assert self.fitted_ is not None
        return self.fitted_.scorer

    @property
    def words_(self) -> Mapping[str, Any]:
        """All words used, by what they were used for."""
        return {} if self.fitted_ is None else self.fitted_.words

    @property
    def threshold_rule(self) -> str | None:
        """How the threshold of its verdicts is found, or None where it gives none."""
        return None if self.calibration_ is None else self.calibration_.rule

    @property
    def feature_key(self) -> tuple[str, ...]:
        """What detectors have in common when they can share features of images."""
        tiles = ["tiles"] if self.request(False).tile else []
        return ("clip", self.backbone, self.device, self.dtype, self.engine, str(self.tile), *tiles)

    @override
    def fit(
        self,
        *,
        reference: Sequence[Any] | None = None,
        auxiliary: Dataset | None = None,
        checkpoint: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Self:
        if self.white is None:
            self.white = white_of_reading()
        inputs = FitInputs.from_arguments(
            self.name,
            self.needs,
            reference,
            auxiliary,
            checkpoint=checkpoint,
            progress=progress,
            tile=self.tile,
            white=self.white,
        )
        if checkpoint is not None and not self.resumable:
            raise UsageError(f"{self.name} is fitted in one go and keeps no checkpoint; leave it out")
        self._check_inputs(inputs)
        backbone = self._load_backbone()
        self._check_backbone(backbone)
        self.become(backbone, self._fit(backbone, inputs), inputs.seen())
        return self

    def _checkpoint(
        self, inputs: FitInputs, backbone: Backbone, *, without: Iterable[str] = (), **more: str
    ) -> Checkpoint | None:
        """Return where the state of a fit is kept, if anywhere: it belongs to all parameters but those
        ``without`` which the same is learned, to the backbone by its content, and to what ``more`` names.
        """
        if inputs.checkpoint is None:
            return None
        from zeroflaw.detectors.training import Checkpoint  # torch, which prediction does without

        chosen = {name: value for name, value in self.get_params().items() if name not in set(without)}
        network = {"detector": self.name, "device": backbone.device.type, "backbone": backbone.fingerprint}
        return Checkpoint(inputs.checkpoint, {**chosen, **network, **more})

    def become(self, backbone: Any, fitted: Fitted[S], seen: Seen) -> None:
        """Take what was learned, and write the model card."""
        self.backbone_, self.fitted_, self.seen_ = backbone, fitted, seen
        self.calibration_ = fitted.calibration
        from zeroflaw.detectors.cards import model_card  # templates, which judging does without

        self.card_ = model_card(self, fitted.words, scorer=fitted.scorer, backbone=backbone, seen=seen)

    def request(self, maps: bool) -> FeatureRequest:
        """Return what `judge` must be given."""
        return self.scorer_.request(maps)

    def embed(self, images: Sequence[Array], request: FeatureRequest) -> ImageFeatures:
        """Embed pictures, uint8 (H, W, 3) of any sizes, as ``request`` says."""
        self._require_fit()
        return embed(self.backbone_, images, request)

    def judge(self, features: ImageFeatures, sizes: Sequence[Size], *, maps: bool) -> list[Prediction]:
        """Judge images whose features are known; a calibrated detector gives verdicts and p-values, too.

        ``sizes`` are heights and widths of the images in pixels. Detectors that need the whole batch are
        given all images at once.
        """
        found = self.scorer_.judge(features, sizes, maps=maps).predictions(sizes)
        calibration = self.calibration_
        return found if calibration is None else [calibration.judged(one) for one in found]

    def calibrate(
        self,
        good: Iterable[Any],
        flawed: Iterable[Any] = (),
        *,
        rule: Literal["auto", "f1", "youden", "cost", "recall"] = "auto",
        false_alarms: float = 0.05,
        cost: tuple[float, float] = (1.0, 1.0),
        recall: float = 0.95,
        progress: Progress | None = None,
    ) -> Self:
        """Set threshold and p-values from photos that the detector was not fitted on, and return self.

        Args:
            good: photos of good parts: paths, bytes, PIL images or uint8 arrays.
            flawed: photos of flawed ones, for the rules that need them.
            rule: "auto" needs good photos alone; see `zeroflaw.runtime.calibration`.
            false_alarms: share of good parts that may be called anomalous.
            cost: of a false alarm and of a missed flaw, for the rule "cost".
            recall: share of the flawed parts to be found, for the rule "recall".
            progress: see `Detector.fit`.

        Raises:
            UsageError: there are too few photos for the rule, or all are the same.
            ImageError: a photo cannot be read.
        """
        self._require_fit()
        before, self.calibration_ = self.calibration_, None
        try:
            self.calibration_ = self._calibrated(
                (list(good), list(flawed)),
                progress,
                rule=rule,
                false_alarms=false_alarms,
                cost=cost,
                recall=recall,
                seed=self.seed,
            )
        finally:  # what is refused changes nothing
            self.calibration_ = self.calibration_ or before
        return self

    def _calibrated(
        self, sides: tuple[list[Any], list[Any]], progress: Progress | None, **how: Any
    ) -> Calibration:
        self._refuse_seen(sides[0])
        found: list[list[Prediction]] = [[], []]
        for photos, judged in zip(sides, found, strict=True):
            for prediction in self.predict(photos, maps=True) if photos else ():
                judged.append(prediction)
                if progress is not None:
                    progress("calibration", len(judged), len(photos))
        logits = [[prediction.logit for prediction in side] for side in found]
        peaks = [peak(prediction) for prediction in found[0]]
        facts = self._facts(sides[0], found[0])
        return calibration_of(logits, peaks, **how).model_copy(update={"photos": facts})

    def _facts(self, photos: Sequence[Any], judged: Sequence[Prediction]) -> PhotoFacts:
        """Return what good photos look like; of tiled ones, it was measured while they were judged."""
        if self.tile:
            return facts_of([one.size for one in judged], [one.photo or {} for one in judged])
        return describe_photos(read_image(photo, white=self.white) for photo in photos)

    def _refuse_seen(self, good: Sequence[Any]) -> None:
        """Refuse to calibrate with photos that the detector was made from: their scores are too low."""
        seen = set() if self.seen_.reference is None else set(self.seen_.reference.sha256_of_pixels)
        known = [photo for photo in good if seen and self._digest(photo) in seen]
        if known:
            raise UsageError(
                f"{len(known)} of the {len(good)} good photos are those that the detector was made from, and "
                "their scores are too low; give others, or leave the threshold as the fit set it"
            )

    def _digest(self, photo: Any) -> str:
        if self.tile:
            return TiledPhoto.of(photo, self.tile, self.white).sha256
        return digest(read_image(photo, white=self.white))

    @override
    def predict(
        self,
        images: Iterable[Any],
        *,
        maps: bool = False,
        batch_size: int = 8,
        on_error: OnError | None = None,
    ) -> Iterator[Prediction]:
        self._check_white()
        return super().predict(images, maps=maps, batch_size=batch_size, on_error=on_error)

    def _check_white(self) -> None:
        """Refuse to judge photos that are read otherwise than those that the detector was made from."""
        given = white_of_reading()
        free = self.white is None and self.calibration_ is None and self.seen_.reference is None
        if free or given is None or given == self.white:
            return
        made = "none" if self.white is None else f"{self.white:g}"
        raise UsageError(
            f"the detector was made with white {made}, and photos are to be read with white {given:g}; leave "
            "--white out, or make the detector anew with it"
        )

    @override
    def _predict_batch(self, images: list[Array], maps: bool) -> list[Prediction]:
        features = self.embed(images, self.request(maps))
        found = self.judge(features, [sized(image) for image in images], maps=maps)
        if self.calibration_ is None or self.calibration_.photos is None:
            return found
        return [
            replace(p, photo=image.photo if isinstance(image, Resized) else measure(image))
            for p, image in zip(found, images, strict=True)
        ]

    def _resizing(self, request: FeatureRequest) -> list[Preprocess]:
        """Return how images are resized for a request: for the network, and for the patches compared."""
        usual: Preprocess = self.backbone_.preprocess
        return [usual, *(replace(usual, image_size=size) for size in request.patch_sizes)]

    @override
    def _preparing(self, maps: bool) -> Prepare:
        request = self.request(maps)
        ways = self._resizing(request)
        measured = self.calibration_ is not None and self.calibration_.photos is not None

        def prepare(pixels: Array) -> Any:
            tiled = request.tile and pixels.shape[0] != pixels.shape[1]
            if tiled or pixels.shape[0] * pixels.shape[1] < LARGE:
                return pixels
            return Resized.of(pixels, ways, measure(pixels) if measured else None)

        return prepare

    @override
    def _predict_all(
        self, images: Iterable[Any], maps: bool, batch_size: int, on_error: OnError | None
    ) -> Iterator[Prediction]:
        if self.tile:
            yield from self._predict_tiled(images, maps, batch_size, on_error)
            return
        if not self.needs.whole_batch:
            yield from super()._predict_all(images, maps, batch_size, on_error)
            return
        request = self.request(maps)
        parts: list[ImageFeatures] = []
        loaded: list[Loaded] = []
        sizes: list[Size] = []
        ahead = read_ahead(images, on_error, self._preparing(maps), white=self.white)
        for batch in batches(ahead, batch_size):
            parts.append(self.embed([one.image for one in batch], request))
            loaded += [replace(one, image=None) for one in batch]
            sizes += [sized(one.image) for one in batch]
        if loaded:
            yield from named(self.judge(ImageFeatures.join(parts), sizes, maps=maps), loaded)

    def _predict_tiled(
        self, images: Iterable[Any], maps: bool, batch_size: int, on_error: OnError | None
    ) -> Iterator[Prediction]:
        request, prepare = self.request(maps), self._preparing(maps)

        def judge(tiles: Sequence[Array]) -> Judgement:
            pictures = [prepare(tile) for tile in tiles]
            return self.scorer_.judge(self.embed(pictures, request), list(map(sized, tiles)), maps=maps)

        for found in predict_tiled(
            images, judge, side=self.tile, white=self.white, batch_size=batch_size, on_error=on_error
        ):
            yield found if self.calibration_ is None else self.calibration_.judged(found)

    @override
    def save(self, folder: str | Path) -> None:
        scorer, backbone = self.scorer_, self.backbone_
        assert self.fitted_ is not None
        identity = Identity(
            name=self.backbone,
            sha256=backbone.sha256,
            fingerprint=backbone.fingerprint,
            revision=backbone.revision,
        )
        extra = {f"{_EXTRA}{name}": value for name, value in self.fitted_.learned.items()}
        saved = SavedDetector(
            self.name,
            self.get_params(),
            identity,
            {"kind": scorer.kind, **scorer.spec()},
            scorer.arrays() | extra,
            dict(self.fitted_.words),
            self.seen_,
            self.card_,
            self.calibration_,
        )
        write_folder(folder, saved)

    @classmethod
    def from_saved(cls, saved: SavedDetector, **overrides: Any) -> Self:
        """Rebuild a detector from its folder's content; ``overrides`` may change where it runs.

        Raises:
            DetectorError: parameters, scorer and backbone do not fit together.
        """
        require_readable(saved, overrides)
        try:
            cls(**saved.parameters)
        except UsageError as error:
            raise DetectorError(
                f"the saved parameters of detector '{saved.detector}' are wrong: {error}"
            ) from error
        detector = cls(**{**saved.parameters, **overrides})
        try:
            backbone = detector._load_tower()
            check_identity(saved.backbone, detector.backbone, backbone)
            detector._check_backbone(backbone)
        except MissingExtraError:
            raise
        except UsageError as error:
            raise DetectorError(
                f"the saved parameters of detector '{saved.detector}' are wrong: {error}"
            ) from error
        spec = dict(saved.scorer)
        if (kind := spec.pop("kind", None)) != cls.scorer_class.kind:
            raise DetectorError(
                f"'{saved.detector}' has a scorer of kind '{cls.scorer_class.kind}', but config.json says "
                f"{kind!r}; save the detector again"
            )
        extra = {n.removeprefix(_EXTRA): v for n, v in saved.arrays.items() if n.startswith(_EXTRA)}
        mine = {name: value for name, value in saved.arrays.items() if not name.startswith(_EXTRA)}
        scorer: Any = cls.scorer_class.read(spec, mine)
        if not detector._fits(scorer, backbone):
            raise DetectorError(
                f"the saved scorer does not fit the parameters and '{detector.backbone}'; save the detector "
                "again"
            )
        detector.backbone_, detector.seen_, detector.card_ = backbone, saved.seen, saved.card
        detector.fitted_ = Fitted(scorer, saved.words, extra, saved.calibration)
        detector.calibration_ = saved.calibration
        return detector
