"""Adaptive centred representations (ACR): an image is judged by the batch it comes in.

Li et al., "Zero-Shot Anomaly Detection via Batch Normalization", NeurIPS 2023, arXiv 2302.07849. A small
network with live batch normalisation is trained on good photos of several products: features of one place of
one product are drawn to a centre, noisy copies are pushed away. The photos of a new product are then
normalised by their own statistics, place by place, so that what most of them show is normal, and the distance
from the centre is the anomaly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from zeroflaw.detectors.acr_training import (
    LiveNetwork,
    Training,
    channel_scale,
    layer_widths,
    train_network,
    with_noise,
)
from zeroflaw.detectors.base import BackboneDetector, Request, predictions, take_tensors
from zeroflaw.detectors.blur import blurred
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import Given
from zeroflaw.detectors.ranges import check_range
from zeroflaw.errors import UsageError
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.stream import Progress, batches, read_ahead
from zeroflaw.towers.model import ImageFeatures

if TYPE_CHECKING:
    from zeroflaw.records import Category, Dataset

USUAL = 0.95  # share of the patches of a batch that lie below one half in maps
FLOOR = 1e-12  # smallest squared distance that a score tells apart; keeps log-odds finite
FEWEST = 2  # images of a product that its statistics can be had from
_PIXELS = 16  # side of a patch of the paper's maps, in which its blur is measured
_NUMBERS = 1 << 22  # features that go through the network at once, which bounds the memory
_TOGETHER = 8  # images that go through the backbone at once during a fit


@dataclass(kw_only=True, eq=False)
class ACR(BackboneDetector):
    """Distance from a centre after normalisation by the batch, place by place.

    Scores are those of one batch: all images of one ``predict`` must show one product in one pose, most of
    them without flaw at any given place. Neither their order nor ``batch_size`` matters; another set of
    images gives other scores.

    Attributes:
        layer: block, counted from 1, whose patch tokens are the features; 0 takes the one at three quarters
            of the depth, as the paper takes the third of four stages of its network.
        standardize: "channel" divides features by the standard deviation of their channel over the auxiliary
            set, so that ``noise`` means the same for every backbone; "none" takes them as they are (paper).
        depth: layers that narrow the features to ``out`` in equal ratios (paper: 5).
        out: width of the representation (paper: 32).
        noise: standard deviation of the noise that makes a pseudo-anomaly, in units of the channel's standard
            deviation unless ``standardize`` is "none" (paper: 0.1 in features that are not scaled).
        shots: normal images of a training task, each with one noisy copy (paper: 30).
        tasks: training tasks of one step (paper: 32).
        iterations: training steps (paper: 50).
        learning_rate: of Adam (paper: 3e-4).
        max_images: of each training product, drawn by the seed where there are more (paper: all).
        sigma: standard deviation of the maps' Gaussian blur, in sixteenths of a patch (paper: 4 pixels where
            patches have 16); 0 is none.
        min_batch: fewest images that are judged together.
    """

    name: ClassVar[str] = "acr"
    needs: ClassVar[Needs] = Needs(words=False, auxiliary_set=True, whole_batch=True)
    source: ClassVar[str] = "Li et al., NeurIPS 2023, arXiv 2302.07849"

    layer: int = 0
    standardize: Literal["channel", "none"] = "channel"
    depth: int = 5
    out: int = 32
    noise: float = 0.5
    shots: int = 30
    tasks: int = 32
    iterations: int = 50
    learning_rate: float = 3e-4
    max_images: int = 100
    sigma: float = 4.0
    min_batch: int = 8

    network_: LiveNetwork | None = field(init=False, default=None, repr=False)
    mean_: Tensor | None = field(init=False, default=None, repr=False)
    scale_: Tensor | None = field(init=False, default=None, repr=False)

    def validate(self) -> None:
        """Check every parameter.

        Raises:
            UsageError: a parameter is of the wrong kind or out of range.
        """
        super().validate()
        for name, low, high in (
            ("layer", 0, 1000),
            ("depth", 1, 20),
            ("out", 1, 4096),
            ("shots", 2, 10_000),
            ("tasks", 1, 10_000),
            ("iterations", 1, 1_000_000),
            ("max_images", FEWEST, 1_000_000),
            ("min_batch", 2, 1_000_000),
        ):
            check_range(name, getattr(self, name), low, high, whole=True)
        check_range("noise", self.noise, 1e-6, 1e3)
        check_range("learning_rate", self.learning_rate, 1e-8, 1.0)
        check_range("sigma", self.sigma, 0, 1000)

    def _check_backbone(self, backbone: Any) -> None:
        blocks = backbone.model.config.vision.layers
        if self.layer > blocks:
            raise UsageError(
                f"layer must be a block of {self.backbone}, from 1 to {blocks}, or 0 for the default, "
                f"got {self.layer}"
            )

    def _check_given(self, given: Given) -> None:
        assert given.auxiliary is not None
        few = [f"{c.name} ({len(c.train)})" for c in given.auxiliary if len(c.train) < FEWEST]
        if few:
            raise UsageError(
                f"detector '{self.name}' learns from the good training images of every product of the "
                f"auxiliary set, at least {FEWEST} each, but there are too few of {', '.join(few[:5])}; add "
                "images, or leave these products out"
            )

    def _block(self, backbone: Any) -> int:
        """Return the block whose patch tokens are the features, counted from 1."""
        return self.layer or max(1, round(0.75 * backbone.model.config.vision.layers))

    # Fitting

    def _fit(
        self, backbone: Any, given: Given, checkpoint: Path | None, progress: Progress | None
    ) -> dict[str, Any]:
        assert given.auxiliary is not None
        features = self._features(backbone, given.auxiliary, progress)
        self.mean_, self.scale_ = channel_scale(features)
        if self.standardize == "none":
            self.mean_, self.scale_ = torch.zeros_like(self.mean_), torch.ones_like(self.scale_)
        for part in features:
            part.sub_(self.mean_).div_(self.scale_)
        how = Training(
            self.iterations, self.tasks, self.shots, self.noise, self.learning_rate, seed=self.seed
        )
        network = LiveNetwork(self._widths(features[0].shape[-1]))
        train_network(
            network, features, how, lambda step: progress and progress("training", step, self.iterations)
        )
        self.network_ = network.requires_grad_(False)
        return {}

    def _widths(self, inputs: int) -> tuple[int, ...]:
        return layer_widths(inputs, self.out, self.depth)

    def _features(self, backbone: Any, auxiliary: Dataset, progress: Progress | None) -> list[Tensor]:
        """Return the features (images, positions, C) of the good images of each product."""
        generator = torch.Generator().manual_seed(self.seed)
        chosen = [self._choose(category, generator) for category in auxiliary]
        total, done, features = sum(map(len, chosen)), 0, []
        for paths in chosen:
            parts = []
            for batch in batches(read_ahead(paths, None), _TOGETHER):
                found = backbone.embed_images(
                    [pixels for _, pixels in batch], layers=(self._block(backbone),)
                )
                parts.append(found.layers[self._block(backbone)])
                done += len(batch)
                if progress is not None:
                    progress("embedding", done, total)
            features.append(torch.cat(parts))
        return features

    def _choose(self, category: Category, generator: torch.Generator) -> list[Path]:
        order = torch.randperm(len(category.train), generator=generator)[: self.max_images]
        return [category.train[number].image for number in sorted(order.tolist())]

    # Prediction

    def request(self, maps: bool) -> Request:
        """Ask for the patch tokens of one block, for maps and scores alike."""
        self._require_fit()
        return Request(layers=(self._block(self.backbone_),))

    def keep(self, features: ImageFeatures) -> ImageFeatures:
        """Keep the tokens of our block; others may have asked for more."""
        block = self._block(self.backbone_)
        return ImageFeatures(features.image, features.grid, layers={block: features.layers[block]})

    def predict_features(
        self, features: ImageFeatures, request: Request, sizes: list[tuple[int, int]], *, maps: bool
    ) -> list[Prediction]:
        """Judge all images of a batch by one another.

        With d the smoothed squared distance of a patch, in units of the distance that one patch in twenty of
        the batch exceeds, maps hold d / (1 + d), and the log-odds are the logarithm of the largest d.

        Raises:
            UsageError: the batch is smaller than ``min_batch``.
        """
        if len(sizes) < self.min_batch:
            raise UsageError(
                f"detector '{self.name}' judges an image by the batch it comes in and wants at least "
                f"{self.min_batch} images of one product at once, got {len(sizes)}; give more images, or fit "
                "it with a smaller min_batch"
            )
        distances = self._distances(features.layers[self._block(self.backbone_)])
        grid = blurred(distances.unflatten(1, features.grid), _PIXELS, self.sigma).clamp_min(FLOOR)
        grid = (grid / usual(grid)).clamp_min(FLOOR)
        logits = self._finite(grid.amax(dim=(1, 2)).log())
        return predictions(logits, {"distance": logits}, sizes, grid / (1 + grid) if maps else None)

    @torch.no_grad()
    def _distances(self, tokens: Tensor) -> Tensor:
        """Return the squared distance of every image at every position, (N, P), from tokens (N, P, C).

        Noise goes to the images by the rank of their norm, not by their place in the batch, so that the order
        in which they come changes nothing.
        """
        network, mean, scale = self._learned()
        images, positions, width = tokens.shape
        order = torch.linalg.vector_norm(tokens, dim=(1, 2)).argsort(stable=True)
        generator = torch.Generator().manual_seed(self.seed)
        found = tokens.new_empty(images, positions)
        step = max(1, _NUMBERS // (2 * images * width))
        for start in range(0, positions, step):
            rows = (tokens[order, start : start + step] - mean) / scale
            both = with_noise(rows.transpose(0, 1), self.noise, generator)
            found[order, start : start + step] = network.distances(both)[:, :images].T
        return found

    # Saving

    def _state(self) -> dict[str, Tensor]:
        network, mean, scale = self._learned()
        return {**network.state_dict(), "mean": mean, "scale": scale}

    def _learned(self) -> tuple[LiveNetwork, Tensor, Tensor]:
        assert self.network_ is not None
        assert self.mean_ is not None
        assert self.scale_ is not None
        return self.network_, self.mean_, self.scale_

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        width = self.backbone_.model.config.vision.width
        network = LiveNetwork(self._widths(width))
        shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        found = take_tensors(tensors, {**shapes, "mean": [width], "scale": [width]})
        self.mean_, self.scale_ = found.pop("mean"), found.pop("scale")
        network.load_state_dict(found)
        self.network_ = network.requires_grad_(False)

    def _card(self) -> str:
        return (
            "Batch-level zero-shot detection by live batch normalisation. A network was trained\n"
            "on good photos of other products. It judges the photos of a new product by one another,\n"
            "place by place: it needs at "
            f"least {self.min_batch} of them in one batch, in one pose, most of them good at any given place."
        )

    def _facts(self) -> dict[str, str]:
        block = self._block(self.backbone_)
        products = (self.seen_ or {})["auxiliary"]["categories"].values()
        images = sum(min(splits["train"], self.max_images) for splits in products)
        return {
            "Learned from": f"{images} good photos of {len(products)} product{'s' * (len(products) != 1)}",
            "Features": f"patch tokens of block {block}, at most {self.max_images} images of each product",
            "Training": f"{self.iterations} steps of {self.tasks} tasks with {self.shots} images and as many "
            f"noisy copies (noise {self.noise:g})",
        }


def usual(grid: Tensor) -> Tensor:
    """Return the value that 95 % of a batch's patches do not exceed, ().

    The paper stretches distances from the lowest to the highest of the whole set; one outlier then sets the
    scale of all maps, which this does not.
    """
    values = grid.flatten()
    return values.kthvalue(math.ceil(USUAL * len(values))).values
