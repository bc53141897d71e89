"""Adaptive centred representations (ACR): an image is judged by the batch it comes in.

Li et al., "Zero-Shot Anomaly Detection via Batch Normalization", NeurIPS 2023, arXiv 2302.07849. A small
network with live batch normalisation is trained on good photos of several products: features of one place of
one product are drawn to a centre, noisy copies of them are pushed away. The photos of a new product are then
normalised by their own statistics, place by place, so that what most of them show is normal, and the distance
from the centre is the anomaly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from zeroflaw.detectors import acr_training as live
from zeroflaw.detectors.base import BackboneDetector, Fitted
from zeroflaw.detectors.blur import blurred
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs, Step
from zeroflaw.detectors.training import Learning
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.parameters import Record, Seed, parameters
from zeroflaw.records import Category
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures
from zeroflaw.runtime.heads import Arrays
from zeroflaw.runtime.scorer import Judgement, Scorer, Size
from zeroflaw.runtime.stream import batches, read_ahead
from zeroflaw.towers.backbone import Backbone

USUAL = 0.95  # share of the patches of a batch that lie below one half in maps
FLOOR = 1e-12  # smallest squared distance that a score tells apart; keeps log-odds finite
FEWEST = 2  # images of a product that its statistics can be had from
_PIXELS = 16  # side of a patch of the paper's maps, in which its blur is measured
_NUMBERS = 1 << 22  # features that go through the network at once, which bounds the memory
_TOGETHER = 8  # images that go through the backbone at once during a fit

Noise = Annotated[float, Field(ge=1e-6, le=1e3)]
Sigma = Annotated[float, Field(ge=0, le=1000)]
Least = Annotated[int, Field(ge=2, le=1_000_000)]


class ACRSpec(Record):
    """Choices of an `ACRScorer`: widths of its network, the block whose patch tokens it takes, parameters."""

    widths: Annotated[tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...], Field(min_length=2)]
    block: int
    noise: Noise
    sigma: Sigma
    min_batch: Least
    seed: Seed


@dataclass(frozen=True)
class ACRScorer(Scorer):
    """Distances from a centre after live normalisation, which needs torch. Named score: ``distance``."""

    kind: ClassVar[str] = "acr"
    whole_batch: ClassVar[bool] = True

    network: live.LiveNetwork
    choices: ACRSpec

    @override
    def request(self, maps: bool) -> FeatureRequest:
        return FeatureRequest(layers=(self.choices.block,))

    @override
    def judge(self, features: ImageFeatures, sizes: Sequence[Size], *, maps: bool) -> Judgement:
        """Judge all images of a batch by one another.

        With d the smoothed squared distance of a patch, in units of the distance that one patch in twenty of
        the batch exceeds, maps hold d / (1 + d), and the log-odds are the logarithm of the largest d. (The
        paper stretches distances from the lowest to the highest; one outlier then sets the scale of all.)

        Raises:
            UsageError: the batch is smaller than ``min_batch``.
        """
        if len(sizes) < self.choices.min_batch:
            raise UsageError(
                "acr judges an image by the batch it comes in and wants at least "
                f"{self.choices.min_batch} images of one product at once, got {len(sizes)}; give more, "
                "or fit it with a smaller min_batch"
            )
        found = self.distances(torch.from_numpy(features.layers[self.choices.block])).double().numpy()
        grid = blurred(found.reshape(-1, *features.grid), _PIXELS, self.choices.sigma).clip(FLOOR)
        usual = np.sort(grid, axis=None)[math.ceil(USUAL * grid.size) - 1]
        logits = np.log((grid / usual).clip(FLOOR))
        image = logits.max((1, 2))
        return Judgement(image, {"distance": image}, list(logits) if maps else None)

    @torch.no_grad()
    def distances(self, tokens: Tensor) -> Tensor:
        """Return the squared distance of every image at every position, (N, P), from tokens (N, P, C).

        Noise goes to the images by the rank of their norm, not by their place in the batch, so that the order
        in which they come changes nothing.
        """
        images, positions, width = tokens.shape
        order = torch.linalg.vector_norm(tokens, dim=(1, 2)).argsort(stable=True)
        generator = torch.Generator().manual_seed(self.choices.seed)
        found = tokens.new_empty(images, positions)
        step = max(1, _NUMBERS // (2 * images * width))
        for start in range(0, positions, step):
            rows = (tokens[order, start : start + step] - self.network.mean) / self.network.scale
            both = live.with_noise(rows.transpose(0, 1), self.choices.noise, generator)
            found[order, start : start + step] = self.network(both)[:, :images].T
        return found

    @override
    def spec(self) -> dict[str, object]:
        return self.choices.model_dump(mode="json")

    @override
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}

    @classmethod
    @override
    def read(cls, spec: Mapping[str, object], arrays: Arrays) -> Self:
        choices = ACRSpec.read(spec, "'scorer' in config.json", DetectorError)
        with torch.device("meta"):  # nothing is allocated, whatever the widths say
            network = live.LiveNetwork(choices.widths)
        try:
            network.load_state_dict({k: torch.tensor(value) for k, value in arrays.items()}, assign=True)
        except RuntimeError as error:
            raise DetectorError(
                "head.safetensors does not hold the network that config.json describes; save the detector "
                "again"
            ) from error
        return cls(network.requires_grad_(False), choices)


@parameters
class ACR(BackboneDetector[ACRScorer]):
    """Distance from a centre after normalisation by the batch, place by place. It needs torch at prediction.

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
        last_gain: where the gain of the last normalisation starts: at "one", or "uniform", drawn from
            U(0, 1), as the authors' code has it.
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

    scorer_class: ClassVar[type[Scorer]] = ACRScorer

    layer: Annotated[int, Field(ge=0, le=1000)] = 0
    standardize: Literal["channel", "none"] = "channel"
    depth: Annotated[int, Field(ge=1, le=20)] = 5
    out: Annotated[int, Field(ge=1, le=4096)] = 32
    last_gain: live.LastGain = "one"
    noise: Noise = 0.5
    shots: Annotated[int, Field(ge=2, le=10_000)] = 30
    tasks: Annotated[int, Field(ge=1, le=10_000)] = 32
    iterations: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    learning_rate: Annotated[float, Field(ge=1e-8, le=1)] = 3e-4
    max_images: Annotated[int, Field(ge=FEWEST, le=1_000_000)] = 100
    sigma: Sigma = 4.0
    min_batch: Least = 8

    @override
    def _check_inputs(self, inputs: FitInputs) -> None:
        few = [f"{c.name} ({len(c.train)})" for c in inputs.auxiliary if len(c.train) < FEWEST]
        if few:
            raise UsageError(
                "acr learns from the good training images of every product of the auxiliary set, at least "
                f"{FEWEST} each, but there are too few of {', '.join(few[:5])}; add images, or leave these "
                "products out"
            )

    def _choices(self, backbone: Backbone) -> ACRSpec:
        vision = backbone.model.config.vision
        return ACRSpec(
            widths=live.layer_widths(vision.width, self.out, self.depth),
            block=self.layer or max(1, round(0.75 * vision.layers)),
            noise=self.noise,
            sigma=self.sigma,
            min_batch=self.min_batch,
            seed=self.seed,
        )

    @override
    def _fits(self, scorer: ACRScorer, backbone: Backbone) -> bool:
        return scorer.choices == self._choices(backbone)

    @override
    def _fit(self, backbone: Backbone, inputs: FitInputs) -> Fitted[ACRScorer]:
        choices, step = self._choices(backbone), inputs.stage("embedding")
        generator = torch.Generator().manual_seed(self.seed)
        chosen = [self._choose(category, generator) for category in inputs.auxiliary]
        total, done, features = sum(map(len, chosen)), 0, []
        for paths in chosen:
            parts = []
            for batch in batches(read_ahead(paths, None), _TOGETHER):
                found = backbone.embed_images([pixels for _, pixels in batch], layers=(choices.block,))
                parts.append(torch.from_numpy(found.layers[choices.block]))
                done += len(batch)
                if step is not None:
                    step(done, total)
            features.append(torch.cat(parts))
        return Fitted(ACRScorer(self._train(features, choices.widths, inputs.stage("training")), choices))

    def _choose(self, category: Category, generator: torch.Generator) -> list[Path]:
        order = torch.randperm(len(category.train), generator=generator)[: self.max_images]
        return [category.train[number].image for number in sorted(order.tolist())]

    def _train(
        self, features: list[Tensor], widths: Sequence[int], progress: Step | None = None
    ) -> live.LiveNetwork:
        """Train a network on features (images, positions, C) of several products, scaled where they are."""
        generator = torch.Generator().manual_seed(self.seed)
        network = live.LiveNetwork(widths)
        network.draw(generator, self.last_gain)
        if self.standardize == "channel":
            network.mean, network.scale = live.channel_scale(features)
        for part in features:
            part.sub_(network.mean).div_(network.scale)
        adam = partial(torch.optim.Adam, lr=self.learning_rate)
        learning = Learning(dict(network.named_parameters()), adam, generator, seed=self.seed)

        def one_step() -> None:
            rows = torch.stack(list(live.draw_tasks(features, self.tasks, self.shots, generator)))
            learning.step(live.loss_terms(network(live.with_noise(rows, self.noise, generator))))

        learning.run(self.iterations, one_step, progress=progress)
        return network.requires_grad_(False)
