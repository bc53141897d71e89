"""Anomalies are what a masked autoencoder does not expect: reconstruction errors over many random masks.

An autoencoder that was trained on photographs of the world fills in hidden patches with what it takes for
likely; where a product is flawed, it is wrong. Nothing is fitted, no text and no image of the product is
used. Schwartz et al., "MAEDAY: MAE for few and zero shot AnomalY-Detection", arXiv 2211.14307: the zero-shot
part; the few-shot part, which adapts the autoencoder to good images, is not here.

The error e of a pixel is a number from 0 upwards. It is reported as e / (1 + e), whose log-odds are log(e):
every order among images and pixels stays as it is. What is known and what was chosen: docs/maeday.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy.ndimage import gaussian_filter
from typing_extensions import override

from zeroflaw.detectors.base import BackboneDetector, Fitted
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.parameters import Record, parameters
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures
from zeroflaw.runtime.heads import Arrays
from zeroflaw.runtime.scorer import Judgement, Scorer, Size
from zeroflaw.runtime.stream import Array
from zeroflaw.towers.autoencoder import Autoencoder, Over, load_autoencoder
from zeroflaw.towers.mae import Drawing, draw_visible, hidden_counts, visible_count

_SMALLEST = np.finfo(np.float64).tiny  # an error of zero still has finite log-odds

Sigma = Annotated[float, Field(ge=0, le=1000)]
Kernel = Annotated[int, Field(ge=1, le=999)]


shared_autoencoder = lru_cache(maxsize=1)(load_autoencoder)  # once for all detectors of a process


class MAEDAYSpec(Record):
    """How a `MAEDAYScorer` smooths; see the parameters of `MAEDAY`."""

    blur_sigma: Sigma
    blur_kernel: Kernel


@dataclass(frozen=True)
class MAEDAYScorer(Scorer):
    """Smoothed reconstruction errors; it asks for those of `MAEDAY.embed`, which needs torch.

    Attributes:
        visible: patches that each masking leaves visible, int64 (N, V), drawn once: the same for every image,
            so that no answer depends on order or batch; another version of torch might draw others.
        choices: how errors are smoothed.
    """

    kind: ClassVar[str] = "maeday"

    visible: npt.NDArray[np.int64]
    choices: MAEDAYSpec

    @override
    def request(self, maps: bool) -> FeatureRequest:
        return FeatureRequest()

    @override
    def judge(self, features: ImageFeatures, sizes: Sequence[Size], *, maps: bool) -> Judgement:
        errors = features.image.astype(np.float64).reshape(-1, *features.grid)
        sigma, radius = self.choices.blur_sigma, self.choices.blur_kernel // 2
        if sigma:
            errors = gaussian_filter(errors, sigma, axes=(1, 2), radius=radius, mode="mirror")
        logits = np.log(errors.clip(_SMALLEST))
        image = logits.max((1, 2))
        return Judgement(image, {"error": image}, list(logits) if maps else None)

    @override
    def spec(self) -> dict[str, object]:
        return self.choices.model_dump(mode="json")

    @override
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {"visible": self.visible}

    @classmethod
    @override
    def read(cls, spec: Mapping[str, object], arrays: Arrays) -> Self:
        if set(arrays) != {"visible"} or arrays["visible"].dtype != np.int64:
            raise DetectorError("head.safetensors must hold 'visible' alone, int64; fit the detector again")
        choices = MAEDAYSpec.read(spec, "'scorer' in config.json", DetectorError)
        return cls(arrays["visible"].astype(np.int64), choices)


@parameters
class MAEDAY(BackboneDetector[MAEDAYScorer]):
    """Mean reconstruction error over random masks; the image's score is its largest value.

    ``backbone`` must be ``local-dir:FOLDER`` with the weights of an autoencoder and its decoder; there is no
    bundled one. It needs torch at prediction, where the autoencoder runs.

    Attributes:
        masks: number of random masks; time grows with it.
        mask_ratio: share of patches that a mask hides.
        mask_drawing: "random" as in the paper, or "balanced", which hides every patch equally often as far
            as that goes and so makes do with fewer masks; see `draw_visible`.
        error: "hidden" averages the error of a pixel over the masks that hide it, "all" over all masks. The
            paper does not say; a decoder's output for visible patches was never trained.
        targets: "auto" compares pixels as the weights' configuration says they were trained; "normalised"
            (within each patch) and "pixels" say it for configurations that are wrong.
        blur_sigma: of the Gaussian that smooths the error map, in pixels of the preprocessed image; 0 leaves
            it as it is.
        blur_kernel: side of the Gaussian's square, odd.
    """

    name: ClassVar[str] = "maeday"
    needs: ClassVar[Needs] = Needs(words=False, decoder_weights=True)
    source: ClassVar[str] = "Schwartz et al., MAEDAY, arXiv 2211.14307, zero-shot"

    scorer_class: ClassVar[type[Scorer]] = MAEDAYScorer
    needs_torch: ClassVar[bool] = True

    masks: Annotated[int, Field(ge=1, le=4096)] = 32
    mask_ratio: Annotated[float, Field(ge=0.01, le=0.99)] = 0.75
    mask_drawing: Drawing = "random"
    error: Over = "hidden"
    targets: Literal["auto", "pixels", "normalised"] = "auto"
    blur_sigma: Sigma = 1.4
    blur_kernel: Kernel = 7

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blur_kernel % 2 == 0:
            raise UsageError(f"blur_kernel must be odd, so that it has a centre, got {self.blur_kernel}")

    @property
    @override
    def feature_key(self) -> tuple[str, ...]:
        masks = (self.seed, self.masks, self.mask_ratio, self.mask_drawing, self.error, self.targets)
        return ("mae", self.backbone, self.device, self.dtype, *map(str, masks))

    @override
    def _load_backbone(self) -> Autoencoder:
        return shared_autoencoder(self.backbone, device=self.device, dtype=self.dtype)

    def _choices(self) -> MAEDAYSpec:
        return MAEDAYSpec(blur_sigma=self.blur_sigma, blur_kernel=self.blur_kernel)

    @override
    def _fits(self, scorer: MAEDAYScorer, backbone: Autoencoder) -> bool:
        visible, patches = scorer.visible, backbone.patches
        if visible.shape != (self.masks, visible_count(patches, self.mask_ratio)):
            return False
        # In rising order within 0 .. P - 1, so that no patch is named twice.
        rising = bool((np.diff(visible) > 0).all()) and visible.min() >= 0 and visible.max() < patches
        return rising and scorer.choices == self._choices()

    @override
    def _fit(self, backbone: Autoencoder, inputs: FitInputs) -> Fitted[MAEDAYScorer]:
        visible = draw_visible(
            self.masks, backbone.patches, self.mask_ratio, seed=self.seed, drawing=self.mask_drawing
        )
        if self.error == "hidden":
            hidden_counts(visible, backbone.patches)  # refuses masks that leave a patch unsaid
        return Fitted(MAEDAYScorer(visible.numpy(), self._choices()))

    @override
    def embed(self, images: Sequence[Array], request: FeatureRequest) -> ImageFeatures:
        """Reconstruct pictures, uint8 (H, W, 3) of any sizes.

        Returns:
            Features whose ``image`` holds the error of each pixel, (B, S * S), and whose ``grid`` is (S, S).
        """
        visible = torch.from_numpy(self.scorer_.visible)
        normalised = None if self.targets == "auto" else self.targets == "normalised"
        errors = self.backbone_.errors(images, visible, over=self.error, normalised=normalised).numpy()
        if not np.isfinite(errors).all():
            raise DetectorError(
                f"{self.name} gives errors that are not finite numbers: its weights overflow in "
                f"{self.dtype}; use other weights"
            )
        return ImageFeatures(errors.reshape(len(errors), -1), errors.shape[1:])
