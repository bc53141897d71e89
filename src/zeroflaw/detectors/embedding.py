"""Detectors that score embeddings: what the random-word detector and the prompt detectors share.

Images, token windows and aligned patch tokens all live in the text's space, so one head scores them all.
Subclasses only say which heads they fit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from zeroflaw.clip.model import ImageFeatures
from zeroflaw.clip.weights import load_backbone
from zeroflaw.clip.windows import harmonic_map, harmonic_mean, make_windows
from zeroflaw.detectors import folder as folders
from zeroflaw.detectors.contract import Array, Detector, Prediction, Progress
from zeroflaw.detectors.fusion import fuse
from zeroflaw.detectors.kinds import check_kinds
from zeroflaw.errors import DetectorError, UsageError, closest

if TYPE_CHECKING:
    from typing_extensions import Self

    from zeroflaw.clip.backbone import Backbone

MapSource = Literal["auto", "windows", "patches"]


@dataclass(frozen=True)
class Request:
    """What a detector wants to know of an image: detectors with equal backbones can share the answer."""

    windows: tuple[tuple[int, int], ...] = ()
    patches: bool = False

    def __or__(self, other: Request) -> Request:
        return Request(tuple(sorted({*self.windows, *other.windows})), self.patches or other.patches)


@lru_cache(maxsize=2)
def shared_backbone(name: str, device: str, dtype: str) -> Backbone:
    """Load a backbone once for all detectors of a process that use it."""
    return load_backbone(name, device=device, dtype=dtype)  # type: ignore[arg-type]


@dataclass(kw_only=True, eq=False)
class EmbeddingDetector(Detector):
    """Base of detectors whose named scores are heads over embeddings.

    Attributes:
        backbone: "mini", "architecture/tag" or "local-dir:PATH".
        object: name of the product, or None where it is unknown.
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        dtype: "float32" or "bfloat16".
        map_from: where anomaly maps come from: token "windows" (WinCLIP), aligned "patches" (one pass), or
            "auto" for
            patches where the backbone has aligned ones and windows elsewhere.
        window_sizes: sides of the windows in patches.
        window_stride: step between windows in patches.
        image_in_map: include the image's own score in the harmonic mean that makes the map (WinCLIP, section
            4.2).
    """

    backbone: str = "mini"
    object: str | None = None
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    map_from: MapSource = "auto"
    window_sizes: tuple[int, ...] = (2, 3)
    window_stride: int = 1
    image_in_map: bool = True

    heads_: dict[str, nn.Module] | None = field(init=False, default=None, repr=False)
    words_: dict[str, Any] | None = field(init=False, default=None, repr=False)
    backbone_: Backbone | None = field(init=False, default=None, repr=False)

    @property
    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """Weights of the named scores in the final one; they sum to one."""

    @abstractmethod
    def _fit_heads(
        self, backbone: Backbone, progress: Progress | None
    ) -> tuple[dict[str, nn.Module], dict[str, Any]]:
        """Return the heads by name, and all words used."""

    @abstractmethod
    def _empty_heads(self, width: int) -> dict[str, nn.Module]:
        """Return unfilled heads of the shapes that the parameters say, for `load`."""

    @abstractmethod
    def _card(self) -> str:
        """Return the middle of the model card: what was seen."""

    def __post_init__(self) -> None:
        """Take lists for tuples, so that parameters are equal before and after a trip through JSON."""
        for name, value in self.get_params().items():
            if isinstance(value, list):
                setattr(self, name, tuple(value))

    def validate(self) -> None:
        """Check the kind of every parameter, and the range of those that all embedding detectors have.

        Raises:
            UsageError: a parameter is of the wrong kind or out of range; the message names it.
        """
        check_kinds(self)
        one_of("device", self.device, ("auto", "cpu", "cuda", "mps"))
        one_of("dtype", self.dtype, ("float32", "bfloat16"))
        if not self.window_sizes:
            raise UsageError("window_sizes must list at least one size in patches, such as (2, 3), got none")
        for size in self.window_sizes:
            check_range("window_sizes", size, 1, 1024, whole=True)
        check_range("window_stride", self.window_stride, 1, min(self.window_sizes), whole=True)
        check_range("seed", self.seed, 0, 2**32 - 1, whole=True)

    def _check_maps(self, backbone: Backbone) -> None:
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

    @property
    def is_fitted(self) -> bool:
        """Whether the heads are there."""
        return self.heads_ is not None

    def fit(self, *, progress: Progress | None = None) -> Self:
        """Learn the heads from words; no image is seen.

        Raises:
            UsageError: a parameter is wrong.
            WeightsError: the backbone cannot be had.
        """
        self.validate()
        backbone = shared_backbone(self.backbone, self.device, self.dtype)
        self._check_maps(backbone)
        self.heads_, self.words_ = self._fit_heads(backbone, progress)
        self.backbone_ = backbone
        return self

    def request(self, maps: bool) -> Request:
        """Return what `predict_features` must be given."""
        if not maps and not any(name.endswith("_part") for name in self.weights):
            return Request()
        if self._parts_are_patches():
            return Request(patches=True)
        return Request(windows=tuple((size, self.window_stride) for size in self.window_sizes))

    def _parts_are_patches(self) -> bool:
        return self._fitted_backbone().has_aligned_patches and self.map_from != "windows"

    def _fitted_backbone(self) -> Backbone:
        self._require_fit()
        assert self.backbone_ is not None
        return self.backbone_

    def embed(self, images: list[Array], request: Request) -> ImageFeatures:
        """Embed pictures, uint8 (H, W, 3) of any sizes, as ``request`` says."""
        backbone = self._fitted_backbone()
        return backbone.embed_images(images, windows=request.windows, patches=request.patches)

    def _predict_batch(self, images: list[Array], maps: bool) -> list[Prediction]:
        request = self.request(maps)
        features = self.embed(images, request)
        return self.predict_features(features, request, [image.shape[:2] for image in images], maps=maps)

    @torch.inference_mode()
    def predict_features(
        self, features: ImageFeatures, request: Request, sizes: list[tuple[int, int]], *, maps: bool
    ) -> list[Prediction]:
        """Judge images whose embeddings are known; ``request`` says in which order the windows lie in
        ``features``.

        ``sizes`` are heights and widths of the images in pixels.
        """
        assert self.heads_ is not None
        logits: dict[str, Tensor] = {}
        part_maps: dict[str, Tensor] = {}
        for name, head in self.heads_.items():
            logits[name] = _double(head, features.image)
            if maps or f"{name}_part" in self.weights:
                part_maps[name] = self._part_map(head, features, request)
                logits[f"{name}_part"] = part_maps[name].amax(1)
        fused = fuse(logits, self.weights)
        if not bool(torch.isfinite(fused).all()):
            raise DetectorError(
                f"detector '{self.name}' gives scores that are not finite numbers; fit it again, with a "
                "smaller learning_rate or a larger temperature"
            )
        drawn = self._fused_map(part_maps, fused, features.grid) if maps else [None] * len(sizes)
        return [
            Prediction(
                source=f"image {row}",
                score=_probability(fused[row]),
                logit=float(fused[row]),
                scores={name: _probability(values[row]) for name, values in logits.items()},
                size=(int(size[0]), int(size[1])),
                map=None if picture is None else picture.float().numpy(),
            )
            for row, (size, picture) in enumerate(zip(sizes, drawn, strict=True))
        ]

    def _part_map(self, head: nn.Module, features: ImageFeatures, request: Request) -> Tensor:
        """Logits of the patches, (B, P): of the patch tokens, or the harmonic mean over the window sizes."""
        if self._parts_are_patches():
            assert features.patches is not None
            return _double(head, features.patches)
        maps = []
        for size in self.window_sizes:
            windows = make_windows(features.grid, size, self.window_stride)
            embeddings = features.windows[request.windows.index((size, self.window_stride))]
            maps.append(harmonic_map(_double(head, embeddings), windows))
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

    def save(self, folder: str | Path) -> None:
        """Write the fitted detector as a folder; see `zeroflaw.load`.

        Raises:
            NotFittedError: `fit` was not called.
            DetectorError: the folder cannot be written or holds something else.
        """
        backbone = self._fitted_backbone()
        assert self.heads_ is not None
        assert self.words_ is not None
        tensors = {
            f"{name}.{key}": value
            for name, head in self.heads_.items()
            for key, value in head.state_dict().items()
        }
        identity = {"name": self.backbone, "sha256": backbone.sha256, "revision": backbone.revision}
        identity["fingerprint"] = backbone.fingerprint
        saved = folders.SavedDetector(
            self.name, self.get_params(), identity, tensors, self.words_, self.model_card()
        )
        folders.write_folder(folder, saved)

    @classmethod
    def from_saved(cls, saved: folders.SavedDetector, **overrides: Any) -> Self:
        """Rebuild a detector from its folder's content; ``overrides`` may change backbone, device and dtype.

        Raises:
            DetectorError: parameters, tensors and backbone do not fit together.
        """
        params = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.parameters.items()}
        try:
            cls.check_params(params)
            detector = cls(**{**params, **overrides})
            detector.validate()
        except (UsageError, TypeError, ValueError) as error:
            raise DetectorError(
                f"the saved parameters of detector '{saved.detector}' are wrong: {error}"
            ) from error
        backbone = shared_backbone(detector.backbone, detector.device, detector.dtype)
        if backbone.sha256 != saved.backbone.get("sha256"):
            raise DetectorError(
                f"the detector was fitted on backbone '{saved.backbone.get('name')}' with sha256 "
                f"{saved.backbone.get('sha256')}, but '{detector.backbone}' has {backbone.sha256}; use the "
                "weights it was fitted on, or fit it again"
            )
        if backbone.fingerprint != saved.backbone.get("fingerprint"):
            raise DetectorError(
                f"backbone '{detector.backbone}' has the weights the detector was fitted on, but not its "
                "configuration, preprocessing and tokenizer; restore its folder, or fit the detector again"
            )
        try:
            detector._check_maps(backbone)
        except UsageError as error:
            raise DetectorError(
                f"the saved parameters of detector '{saved.detector}' are wrong: {error}"
            ) from error
        detector.backbone_ = backbone
        detector.words_ = saved.words
        with torch.device("meta"):  # shapes are compared before memory is taken
            empty = detector._empty_heads(backbone.embed_dim)
        detector.heads_ = _fill(empty, saved.tensors)
        return detector

    def model_card(self) -> str:
        """Return the model card, Markdown."""
        backbone = self._fitted_backbone()
        weights = ", ".join(f"`{name}` {weight:.2f}" for name, weight in self.weights.items())
        return (
            f"# zeroflaw detector `{self.name}`\n\n{self._card()}\n\n"
            f"- Source of the method: {self.source}\n"
            f"- Backbone: `{self.backbone}`, sha256 `{backbone.sha256}`, licence {backbone.licence}\n"
            f"- Object: {self.object or 'unknown'}\n- Seed: {self.seed}\n"
            f"- Score: weighted mean of {weights}\n"
            "- Images seen: none. The words it was made from are in `words.json`.\n\n"
            "Scores rank images; 0.5 is no threshold. Set one from good images of your own product.\n"
        )


def backbone_key(detector: EmbeddingDetector) -> tuple[str, ...]:
    """Return what detectors have in common when they can share embeddings of images."""
    return detector.backbone, detector.device, detector.dtype


def _double(head: nn.Module, embeddings: Tensor) -> Tensor:
    logits: Tensor = head(embeddings.float().cpu())
    return logits.double()


def _probability(logit: Tensor) -> float:
    return float(torch.sigmoid(logit))


def one_of(name: str, value: Any, known: Sequence[str]) -> None:
    """Refuse a value that is not one of the known ones."""
    if value not in known:
        raise UsageError(
            f"{name} must be one of {', '.join(known)}, got {value!r}{closest(str(value), known)}"
        )


def check_range(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    """Refuse a value that is not a number from ``low`` to ``high``, whole where that is wanted."""
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        number = "whole number" if whole else "number"
        raise UsageError(f"{name} must be a {number} from {low:,} to {high:,}, got {value!r}")


def _fill(heads: dict[str, nn.Module], tensors: Mapping[str, Tensor]) -> dict[str, nn.Module]:
    expected = {
        f"{name}.{key}": value.shape
        for name, head in heads.items()
        for key, value in head.state_dict().items()
    }
    if set(expected) != set(tensors):
        odd = sorted(set(expected) ^ set(tensors))
        raise DetectorError(
            f"head.safetensors does not hold the tensors that config.json describes: {', '.join(odd[:5])}"
        )
    for key, shape in expected.items():
        if tensors[key].shape != shape:
            raise DetectorError(
                f"tensor '{key}' of head.safetensors has shape {list(tensors[key].shape)}, not {list(shape)}"
            )
    for name, head in heads.items():
        mine = {k.split(".", 1)[1]: v for k, v in tensors.items() if k.split(".", 1)[0] == name}
        head.load_state_dict(mine, assign=True)
        head.eval().requires_grad_(False)
    return heads
