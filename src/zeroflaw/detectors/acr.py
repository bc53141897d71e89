"""Adaptive centred representations (ACR): an image is judged by the batch it comes in.

Li et al., "Zero-Shot Anomaly Detection via Batch Normalization", NeurIPS 2023, arXiv 2302.07849. A small
network with live batch normalisation is trained on good photos of several products: features of one place of
one product are drawn to a centre, noisy copies of them are pushed away. The photos of a new product are then
normalised by their own statistics, place by place, so that what most of them show is normal, and the distance
from the centre is the anomaly.

The network takes many tasks at once, as (T, N, C): T tasks of N rows of C numbers. Each task is normalised by
its own N rows, so that "normal" means "like the rest of the batch".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from zeroflaw.detectors.base import BackboneDetector, Fitted
from zeroflaw.detectors.blur import blurred
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs, Step, silent
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
EPSILON = 1e-5  # of the variance, as torch.nn.BatchNorm1d has it: a constant batch is divided by its root
NEAREST = 1e-6  # smallest squared distance whose inverse is taken in the loss
_PIXELS = 16  # side of a patch of the paper's maps, in which its blur is measured
_NUMBERS = 1 << 22  # features that go through the network at once, which bounds the memory
_TOGETHER = 8  # images that go through the backbone at once during a fit

LastGain = Literal["one", "uniform"]
Noise = Annotated[float, Field(ge=1e-6, le=1e3)]
Sigma = Annotated[float, Field(ge=0, le=1000)]
Least = Annotated[int, Field(ge=2, le=1_000_000)]


def layer_widths(inputs: int, outputs: int, depth: int) -> tuple[int, ...]:
    """Return the widths from ``inputs`` to ``outputs`` in ``depth`` equal ratios, and ``outputs`` once more.

    The paper's network halves 1024 five times: ``(1024, 512, 256, 128, 64, 32, 32)``.
    """
    ratio = outputs / inputs
    return (inputs, *(round(inputs * ratio ** (step / depth)) for step in range(1, depth + 1)), outputs)


def normalise_live(rows: Tensor) -> Tensor:
    """Give every column of every task mean 0 and (biased) variance 1 over the task's rows, (T, N, C)."""
    centred = rows - rows.mean(dim=1, keepdim=True)
    return centred * (centred.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()


class LiveNetwork(nn.Module):
    """Linear layers, each followed by live normalisation with a gain and a shift, all but the last by ReLU.

    The linear layers have no bias: the normalisation would take it out again.

    Attributes:
        linears: weights, each (out, in).
        gains, shifts: factor and summand after each normalisation, (out,).
        centre: where normal rows are drawn to, (out,).
        mean, scale: of the channels of features, (in,), which callers take out before they give them.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, widths: Sequence[int]) -> None:
        """Lay out a network from the widths of its input and of every layer's output; see `layer_widths`."""
        super().__init__()
        self.linears = nn.ParameterList([torch.zeros(out, into) for into, out in pairwise(widths)])
        self.gains = nn.ParameterList([torch.ones(out) for out in widths[1:]])
        self.shifts = nn.ParameterList([torch.zeros(out) for out in widths[1:]])
        self.centre = nn.Parameter(torch.zeros(widths[-1]))
        self.register_buffer("mean", torch.zeros(widths[0]))
        self.register_buffer("scale", torch.ones(widths[0]))

    def draw(self, generator: torch.Generator, last_gain: LastGain = "one") -> None:
        """Draw the weights uniformly as torch.nn.Linear does, and the centre from a normal distribution.

        The authors draw the last gain, too, from U(0, 1): that is ``last_gain="uniform"``.
        """
        for weight in self.linears:
            bound = weight.shape[1] ** -0.5
            nn.init.uniform_(weight, -bound, bound, generator=generator)
        nn.init.normal_(self.centre, generator=generator)
        if last_gain == "uniform":
            nn.init.uniform_(self.gains[-1], generator=generator)

    @override
    def forward(self, rows: Tensor) -> Tensor:
        """Return the squared distances (T, N) of rows (T, N, C) from the centre, each task by itself."""
        last = len(self.linears) - 1
        for number, weight in enumerate(self.linears):
            rows = normalise_live(rows @ weight.T) * self.gains[number] + self.shifts[number]
            rows = rows if number == last else rows.relu()
        return (rows - self.centre).square().sum(dim=-1)


def draw_tasks(
    features: Sequence[Tensor], tasks: int, shots: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the rows (shots, C) of random tasks: one position of one product each.

    ``features`` are those of the images of each product, (images, positions, C). A product with fewer images
    than ``shots`` gives some of them more than once.
    """

    def below(end: int) -> int:
        return int(torch.randint(end, (), generator=generator))

    for _ in range(tasks):
        chosen = features[below(len(features))]
        images, position = len(chosen), below(chosen.shape[1])
        if images >= shots:
            rows = torch.randperm(images, generator=generator)[:shots]
        else:
            rows = torch.randint(images, (shots,), generator=generator)
        yield chosen[rows, position]


def with_noise(rows: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Put a noisy copy of every row behind the rows of each task: (T, N, C) to (T, 2 N, C)."""
    return torch.cat([rows, rows + noise * torch.randn(rows.shape, generator=generator)], dim=1)


def loss_terms(distances: Tensor) -> dict[str, Tensor]:
    """Return the two summands of the loss for squared distances (T, 2 N), noisy rows behind normal ones.

    Their sum is the mean over all rows of the squared distance of a normal one and the inverse squared
    distance of a noisy one (Li et al., section 3).
    """
    normal, noisy = distances.chunk(2, dim=1)
    return {"normal": normal.mean() / 2, "noisy": noisy.clamp_min(NEAREST).reciprocal().mean() / 2}


def channel_scale(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (C,) of every channel over features (images, positions, C).

    A constant channel has nothing to be divided by: its deviation is given as 1.
    """
    count = sum(part.shape[0] * part.shape[1] for part in features)
    mean = sum((part.sum(dim=(0, 1), dtype=torch.float64) for part in features), torch.zeros(())) / count
    squares = ((part - mean.float()).square().sum(dim=(0, 1), dtype=torch.float64) for part in features)
    spread = (sum(squares, torch.zeros(())) / count).sqrt().float()
    return mean.float(), torch.where(spread > 1e-6, spread, 1.0)


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

    network: LiveNetwork
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
            both = with_noise(rows.transpose(0, 1), self.choices.noise, generator)
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
            network = LiveNetwork(choices.widths)
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
    needs_torch: ClassVar[bool] = True

    layer: Annotated[int, Field(ge=0, le=1000)] = 0
    standardize: Literal["channel", "none"] = "channel"
    depth: Annotated[int, Field(ge=1, le=20)] = 5
    out: Annotated[int, Field(ge=1, le=4096)] = 32
    last_gain: LastGain = "one"
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
            widths=layer_widths(vision.width, self.out, self.depth),
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
                found = backbone.embed_images([one.image for one in batch], layers=(choices.block,))
                parts.append(torch.from_numpy(found.layers[choices.block]))
                done += len(batch)
                step(done, total)
            features.append(torch.cat(parts))
        return Fitted(ACRScorer(self._train(features, choices.widths, inputs.stage("training")), choices))

    def _choose(self, category: Category, generator: torch.Generator) -> list[Path]:
        order = torch.randperm(len(category.train), generator=generator)[: self.max_images]
        return [category.train[number].image for number in sorted(order.tolist())]

    def _train(self, features: list[Tensor], widths: Sequence[int], progress: Step = silent) -> LiveNetwork:
        """Train a network on features (images, positions, C) of several products, scaled where they are."""
        generator = torch.Generator().manual_seed(self.seed)
        network = LiveNetwork(widths)
        network.draw(generator, self.last_gain)
        if self.standardize == "channel":
            network.mean, network.scale = channel_scale(features)
        for part in features:
            part.sub_(network.mean).div_(network.scale)
        adam = partial(torch.optim.Adam, lr=self.learning_rate)
        learning = Learning(dict(network.named_parameters()), adam, generator, seed=self.seed)

        def one_step() -> None:
            rows = torch.stack(list(draw_tasks(features, self.tasks, self.shots, generator)))
            learning.step(loss_terms(network(with_noise(rows, self.noise, generator))))

        learning.run(self.iterations, one_step, progress=progress)
        return network.requires_grad_(False)
