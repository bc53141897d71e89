"""Detectors that score embeddings: what the random-word detector and the prompt detectors share.

Images, token windows and aligned patch tokens all live in the text's space, so one head scores them all.
Subclasses only say which heads they fit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from zeroflaw.detectors.base import BackboneDetector, Request, predictions, take_tensors
from zeroflaw.detectors.fusion import fuse
from zeroflaw.detectors.given import Given
from zeroflaw.detectors.ranges import check_range
from zeroflaw.errors import UsageError
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.stream import Progress
from zeroflaw.towers.model import ImageFeatures
from zeroflaw.towers.windows import harmonic_map, harmonic_mean, make_windows

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone

MapSource = Literal["auto", "windows", "patches"]


@dataclass(kw_only=True, eq=False)
class EmbeddingDetector(BackboneDetector):
    """Base of detectors whose named scores are heads over embeddings.

    Attributes:
        object: name of the product, or None where it is unknown.
        map_from: where anomaly maps come from: token "windows" (WinCLIP), aligned "patches" (one pass), or
            "auto" for patches where the backbone has aligned ones and windows elsewhere.
        window_sizes: sides of the windows in patches.
        window_stride: step between windows in patches.
        image_in_map: include the image's own score in the harmonic mean that makes the map (WinCLIP, section
            4.2).
    """

    object: str | None = None
    map_from: MapSource = "auto"
    window_sizes: tuple[int, ...] = (2, 3)
    window_stride: int = 1
    image_in_map: bool = True

    heads_: dict[str, nn.Module] | None = field(init=False, default=None, repr=False)

    @property
    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """Weights of the named scores in the final one; they sum to one."""

    @abstractmethod
    def _fit_heads(
        self, backbone: Backbone, checkpoint: Path | None, progress: Progress | None
    ) -> tuple[dict[str, nn.Module], dict[str, Any]]:
        """Return the heads by name, and all words used."""

    @abstractmethod
    def _empty_heads(self, width: int) -> dict[str, nn.Module]:
        """Return unfilled heads of the shapes that the parameters say, for `load`."""

    def validate(self) -> None:
        """Check the kind of every parameter, and the range of those that all embedding detectors have.

        Raises:
            UsageError: a parameter is of the wrong kind or out of range; the message names it.
        """
        super().validate()
        if not self.window_sizes:
            raise UsageError("window_sizes must list at least one size in patches, such as (2, 3), got none")
        for size in self.window_sizes:
            check_range("window_sizes", size, 1, 1024, whole=True)
        check_range("window_stride", self.window_stride, 1, min(self.window_sizes), whole=True)

    def _check_backbone(self, backbone: Backbone) -> None:
        """Refuse maps that this backbone cannot give, before anything is fitted or saved."""
        aligned = backbone.has_aligned_patches
        if self.map_from == "patches" and not aligned:
            raise UsageError(
                f"map_from='patches' wants a backbone whose patch tokens agree with its text, which "
                f"'{self.backbone}' does not have; use map_from='windows'"
            )
        if self.map_from == "windows" or not aligned:
            for size in self.window_sizes:
                make_windows(backbone.grid, size, self.window_stride)

    def _fit(
        self, backbone: Backbone, given: Given, checkpoint: Path | None, progress: Progress | None
    ) -> dict[str, Any]:
        self.heads_, words = self._fit_heads(backbone, checkpoint, progress)
        return words

    def request(self, maps: bool) -> Request:
        """Return what `predict_features` must be given."""
        if not maps and not any(name.endswith("_part") for name in self.weights):
            return Request()
        if self._parts_are_patches():
            return Request(patches=True)
        return Request(windows=tuple((size, self.window_stride) for size in self.window_sizes))

    def _parts_are_patches(self) -> bool:
        self._require_fit()
        return bool(self.backbone_.has_aligned_patches) and self.map_from != "windows"

    @torch.inference_mode()
    def predict_features(
        self, features: ImageFeatures, request: Request, sizes: list[tuple[int, int]], *, maps: bool
    ) -> list[Prediction]:
        """Judge images whose embeddings are known; see `BackboneDetector.predict_features`."""
        assert self.heads_ is not None
        logits: dict[str, Tensor] = {}
        part_maps: dict[str, Tensor] = {}
        for name, head in self.heads_.items():
            logits[name] = self._double(head, features.image)
            if maps or f"{name}_part" in self.weights:
                part_maps[name] = self._part_map(head, features, request)
                logits[f"{name}_part"] = part_maps[name].amax(1)
        fused = fuse(logits, self.weights)
        drawn = self._fused_map(part_maps, fused, features.grid) if maps else None
        return predictions(fused, logits, sizes, drawn)

    def _double(self, head: nn.Module, embeddings: Tensor) -> Tensor:
        logits: Tensor = head(embeddings.float().cpu())
        return self._finite(logits.double())

    def _part_map(self, head: nn.Module, features: ImageFeatures, request: Request) -> Tensor:
        """Logits of the patches, (B, P): of the patch tokens, or the harmonic mean over the window sizes."""
        if self._parts_are_patches():
            assert features.patches is not None
            return self._double(head, features.patches)
        maps = []
        for size in self.window_sizes:
            windows = make_windows(features.grid, size, self.window_stride)
            embeddings = features.windows[request.windows.index((size, self.window_stride))]
            maps.append(harmonic_map(self._double(head, embeddings), windows))
        return harmonic_mean(maps)

    def _fused_map(self, part_maps: dict[str, Tensor], image: Tensor, grid: tuple[int, int]) -> Tensor:
        """Probability maps (B, rows, columns); every base score weighs as much as in the image score."""
        weights: dict[str, float] = {}
        for name, weight in self.weights.items():
            base = name.removesuffix("_part")
            weights[base] = weights.get(base, 0.0) + weight
        parts = fuse(part_maps, weights)
        if self.image_in_map:
            # WinCLIP: harmonic mean of image, 2 x 2 and 3 x 3 maps; the parts count once for each scale.
            scales = 1 if self._parts_are_patches() else len(self.window_sizes)
            parts = harmonic_mean([image[:, None].expand_as(parts), *[parts] * scales])
        return torch.sigmoid(parts).reshape(-1, *grid)

    def _state(self) -> dict[str, Tensor]:
        assert self.heads_ is not None
        return {
            f"{name}.{key}": value
            for name, head in self.heads_.items()
            for key, value in head.state_dict().items()
        }

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.device("meta"):  # shapes are compared before memory is taken
            empty = self._empty_heads(self.backbone_.embed_dim)
        self.heads_ = _fill(empty, tensors)

    def _facts(self) -> dict[str, str]:
        weights = ", ".join(f"`{name}` {weight:.2f}" for name, weight in self.weights.items())
        return {"Object": self.object or "unknown", "Score": f"weighted mean of {weights}"}


def _fill(heads: dict[str, nn.Module], tensors: Mapping[str, Tensor]) -> dict[str, nn.Module]:
    empty = {
        f"{name}.{key}": value for name, head in heads.items() for key, value in head.state_dict().items()
    }
    whole = {key for key, value in empty.items() if not value.is_floating_point()}
    take_tensors(tensors, {key: value.shape for key, value in empty.items()}, whole=whole)
    for name, head in heads.items():
        mine = {k.split(".", 1)[1]: v for k, v in tensors.items() if k.split(".", 1)[0] == name}
        head.load_state_dict(mine, assign=True)
        head.eval().requires_grad_(False)
    return heads
