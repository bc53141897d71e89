"""Anomalies are what a masked autoencoder does not expect: reconstruction errors over many random masks.

An autoencoder that was trained on photographs of the world fills in hidden patches with what it takes for
likely; where a product is flawed, it is wrong. Nothing is fitted, no text and no image of the product is
used. Schwartz et al., "MAEDAY: MAE for few and zero shot AnomalY-Detection", arXiv 2211.14307: the zero-shot
part; the few-shot part, which adapts the autoencoder to good images, is not here.

The error e of a pixel is a number from 0 upwards. It is reported as e / (1 + e), whose log-odds are log(e):
every order among images and pixels stays as it is. What is known and what was chosen: docs/maeday.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from zeroflaw.detectors.base import BackboneDetector, Request, predictions, take_tensors
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import Given
from zeroflaw.detectors.ranges import check_range
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.stream import Array, Progress
from zeroflaw.towers.autoencoder import Autoencoder, Over, folder_of, load_autoencoder
from zeroflaw.towers.mae import Drawing, draw_visible, hidden_counts, visible_count
from zeroflaw.towers.model import ImageFeatures

_SMALLEST = torch.finfo(torch.float64).tiny  # an error of zero still has finite log-odds


@lru_cache(maxsize=1)
def shared_autoencoder(name: str, device: str, dtype: str) -> Autoencoder:
    """Load an autoencoder once for all detectors of a process that use it."""
    return load_autoencoder(name, device=device, dtype=dtype)


@dataclass(kw_only=True, eq=False)
class MAEDAY(BackboneDetector):
    """Mean reconstruction error over random masks; the image's score is its largest value.

    ``backbone`` must be ``local-dir:FOLDER`` with the weights of an autoencoder and its decoder; there is no
    bundled one.

    Attributes:
        masks: number of random masks; time grows with it.
        mask_ratio: share of patches that a mask hides.
        mask_drawing: "random" as in the paper, or "balanced", which hides every patch equally often as far
            as that goes and so makes do with fewer masks; see `zeroflaw.towers.mae.draw_visible`.
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

    masks: int = 32
    mask_ratio: float = 0.75
    mask_drawing: Drawing = "random"
    error: Over = "hidden"
    targets: Literal["auto", "pixels", "normalised"] = "auto"
    blur_sigma: float = 1.4
    blur_kernel: int = 7

    visible_: Tensor | None = field(init=False, default=None, repr=False)  # of each mask, (N, V)

    def validate(self) -> None:
        """Check every parameter.

        Raises:
            UsageError: a parameter is of the wrong kind or out of range, or the backbone is none that could
                reconstruct.
        """
        super().validate()
        folder_of(self.backbone)
        check_range("masks", self.masks, 1, 4096, whole=True)
        check_range("mask_ratio", self.mask_ratio, 0.01, 0.99)
        check_range("blur_sigma", self.blur_sigma, 0, 1000)
        check_range("blur_kernel", self.blur_kernel, 1, 999, whole=True)
        if self.blur_kernel % 2 == 0:
            raise UsageError(f"blur_kernel must be odd, so that it has a centre, got {self.blur_kernel}")

    @property
    def share_key(self) -> tuple[str, ...]:
        """What detectors have in common when they can share error maps; they are smoothed later."""
        masks = (self.seed, self.masks, self.mask_ratio, self.mask_drawing, self.error, self.targets)
        return ("mae", self.backbone, self.device, self.dtype, *map(str, masks))

    def _load_backbone(self) -> Autoencoder:
        return shared_autoencoder(self.backbone, self.device, self.dtype)

    def _check_backbone(self, backbone: Autoencoder) -> None:
        """Refuse masks that leave something unsaid, and a blur wider than the image."""
        visible = self._draw(backbone)
        if self.error == "hidden":
            hidden_counts(visible, backbone.patches)
        if self.blur_sigma and self.blur_kernel // 2 >= backbone.image_size:
            raise UsageError(
                f"blur_kernel must be below {2 * backbone.image_size} for images of {backbone.image_size} "
                f"pixels, got {self.blur_kernel}"
            )

    def _draw(self, backbone: Autoencoder) -> Tensor:
        return draw_visible(
            self.masks, backbone.patches, self.mask_ratio, seed=self.seed, drawing=self.mask_drawing
        )

    def _fit(
        self, backbone: Autoencoder, given: Given, checkpoint: Path | None, progress: Progress | None
    ) -> dict[str, Any]:
        """Draw the masks: the same for every image, so that no answer depends on order or batch."""
        self.visible_ = self._draw(backbone)
        return {}

    def _state(self) -> dict[str, Tensor]:
        assert self.visible_ is not None
        return {"visible": self.visible_}

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the masks as they were drawn: another version of PyTorch might draw others."""
        patches = self.backbone_.patches
        shape = self.masks, visible_count(patches, self.mask_ratio)
        visible = take_tensors(tensors, {"visible": shape}, whole={"visible"})["visible"]
        # In rising order within 0 .. P - 1, so that no patch is named twice.
        rising = bool((visible[:, 1:] > visible[:, :-1]).all())
        if not rising or int(visible.min()) < 0 or int(visible.max()) >= patches:
            raise DetectorError(
                "tensor 'visible' of head.safetensors names no patches; fit the detector again"
            )
        self.visible_ = visible

    def request(self, maps: bool) -> Request:
        """Return what `predict_features` must be given: error maps, whatever else is wanted."""
        return Request()

    def embed(self, images: list[Array], request: Request) -> ImageFeatures:
        """Reconstruct pictures, uint8 (H, W, 3) of any sizes.

        Returns:
            Features whose ``image`` holds the error of each pixel, (B, S * S), and whose ``grid`` is (S, S).
        """
        self._require_fit()
        assert self.visible_ is not None
        normalised = None if self.targets == "auto" else self.targets == "normalised"
        errors = self.backbone_.errors(images, self.visible_, over=self.error, normalised=normalised)
        return ImageFeatures(image=errors.flatten(1), grid=(errors.shape[1], errors.shape[2]))

    def predict_features(
        self, features: ImageFeatures, request: Request, sizes: list[tuple[int, int]], *, maps: bool
    ) -> list[Prediction]:
        """Judge images whose error maps are known; see `BackboneDetector.predict_features`."""
        errors = features.image.double().unflatten(1, features.grid)
        if self.blur_sigma:
            errors = blur(errors, self.blur_sigma, self.blur_kernel)
        logits = self._finite(errors.clamp_min(_SMALLEST).log())
        image = logits.flatten(1).amax(1)
        return predictions(image, {"error": image}, sizes, torch.sigmoid(logits) if maps else None)

    def _finite(self, logits: Tensor) -> Tensor:
        if not bool(torch.isfinite(logits).all()):
            raise DetectorError(
                f"detector '{self.name}' gives errors that are not finite numbers: its weights overflow in "
                f"{self.dtype}; use other weights"
            )
        return logits

    def _card(self) -> str:
        where = "that hide the pixel" if self.error == "hidden" else "(hidden and visible pixels alike)"
        return (
            f"Mean squared reconstruction error of a masked autoencoder over the masks {where}; {self.masks} "
            f"random masks hide {self.mask_ratio:.0%} of the patches. Nothing was trained."
        )

    def _facts(self) -> dict[str, str]:
        smooth = f"Gaussian, sigma {self.blur_sigma}, {self.blur_kernel} pixels wide"
        return {"Smoothing": smooth if self.blur_sigma else "none", "Score": "largest value of the map"}


def blur(pictures: Tensor, sigma: float, kernel: int) -> Tensor:
    """Smooth pictures (B, S, S) with a Gaussian cut to ``kernel`` pixels; edges are mirrored.

    Values stay within the range of the input: the weights are positive and sum to one.
    """
    offsets = torch.arange(kernel, dtype=pictures.dtype) - kernel // 2
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    weights = weights / weights.sum()
    edge = kernel // 2
    padded = F.pad(pictures[:, None], (edge, edge, edge, edge), mode="reflect")
    rows = F.conv2d(padded, weights.view(1, 1, -1, 1))
    return F.conv2d(rows, weights.view(1, 1, 1, -1))[:, 0]
