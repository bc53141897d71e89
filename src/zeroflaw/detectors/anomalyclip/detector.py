"""AnomalyCLIP (Zhou et al., ICLR 2024, arXiv 2310.18961): two prompts learned on another, labelled data set.

The prompts name no product ("[V1]...[V12] object." and "[W1]...[W12] damaged object."), so what they learn
from labelled images of some products is applied to others. Maps come from a local path beside the tower's own
attention (`zeroflaw.towers.local`); the image's score comes from the class token alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy.special import logit
from torch import Tensor
from typing_extensions import override

from zeroflaw.detectors.anomalyclip.learning import Losses, compute, digest, training_records
from zeroflaw.detectors.base import BackboneDetector, Fitted
from zeroflaw.detectors.blur import blurred
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.heads import linear
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.detectors.learned import embed_pieces, random_vectors
from zeroflaw.detectors.training import Learning, epoch
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.parameters import Rate, Record, parameters
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures
from zeroflaw.runtime.heads import Arrays, LinearHead
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.runtime.scorer import Judgement, Scorer, Size, read_heads
from zeroflaw.runtime.scores import Doubles, expit
from zeroflaw.runtime.stream import Array
from zeroflaw.towers.backbone import Backbone
from zeroflaw.towers.local import LocalPath
from zeroflaw.towers.model import Interpolation

DEPTH = 9  # text blocks with learned tokens in the published code, where the tower has as many
SHARE = 19 / 24  # of the image tower's blocks have the local path in the published code
NEAR = 1e-12  # a probability of 0 or 1 in a map still has finite log-odds

MapGrid = Literal["patches", "pixels"]
Sigma = Annotated[float, Field(ge=0, le=4096)]
Blocks = Annotated[int, Field(ge=0, le=1024)]
Decay = Annotated[float, Field(ge=0, lt=1)]

# Learned tokens by name: "normal" and "anomalous" (M, C), before the words of the two prompts; and "deep.2",
# "deep.3", ... (N, C), which both prompts get before the text block of that number, counted from 1.
Prompts = Mapping[str, Tensor]


class LocalSpec(Record):
    """How a `LocalScorer` makes maps: layers that are looked at, side of a patch in pixels, parameters."""

    layers: Annotated[tuple[int, ...], Field(min_length=1)]
    patch_size: Annotated[int, Field(ge=1)]
    sigma: Sigma
    map_grid: MapGrid


@dataclass(frozen=True)
class LocalScorer(Scorer):
    """The softmax between two prompts: of the image, and in maps of every patch of a local path.

    The one named score is ``prompt``. A map is the mean of the layers' probabilities, blurred.

    Attributes:
        head: from the embedding of the normal prompt to that of the anomalous one, over the temperature.
        choices: everything else.
    """

    kind: ClassVar[str] = "anomalyclip"

    head: LinearHead
    choices: LocalSpec

    @override
    def request(self, maps: bool) -> FeatureRequest:
        return FeatureRequest(layers=self.choices.layers if maps else ())

    @override
    def judge(self, features: ImageFeatures, sizes: Sequence[Size], *, maps: bool) -> Judgement:
        logits = self.head(features.image)
        return Judgement(logits, {"prompt": logits}, list(self._maps(features)) if maps else None)

    def _maps(self, features: ImageFeatures) -> Doubles:
        layers = [expit(self.head(features.layers[block])) for block in self.choices.layers]
        mean = np.mean(layers, axis=0).reshape(-1, *features.grid)
        pixels = self.choices.map_grid == "pixels"
        smooth = blurred(mean, self.choices.patch_size, self.choices.sigma, pixels=pixels)
        return np.asarray(logit(np.clip(smooth, NEAR, 1 - NEAR)))

    @override
    def spec(self) -> dict[str, object]:
        return self.choices.model_dump(mode="json")

    @override
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {f"prompt.{key}": value for key, value in self.head.arrays().items()}

    @classmethod
    @override
    def read(cls, spec: Mapping[str, object], arrays: Arrays) -> Self:
        choices = LocalSpec.read(spec, "'scorer' in config.json", DetectorError)
        heads = read_heads(arrays)
        head = heads.pop("prompt", None)
        if not isinstance(head, LinearHead) or heads:
            raise DetectorError("head.safetensors does not hold one pair of prompts; save the detector again")
        return cls(head, choices)


@parameters
class AnomalyCLIP(Losses, BackboneDetector[LocalScorer]):
    """Softmax between two learned prompts. Prediction needs torch too: the local path runs on the backbone.

    Defaults are those of the published code, on a ViT-L/14 at 518 pixels; those that depend on the backbone
    are worked out from it. The temperature and what concerns the losses is in `Losses`.

    Attributes:
        image_size: side in pixels that images are brought to; 0 is the backbone's own, published is 518.
        value_blocks: last blocks of the image tower that have the local path; 0 is 19 of 24, in proportion.
        map_layers: blocks, counted from 1, whose local tokens make the map, as a mean; none is the last one.
        class_norm: whether the class token goes through the tower's last normalisation; in the published code
            it does not.
        interpolation: of position embeddings where ``image_size`` is not the backbone's own.
        n_ctx: learned tokens before the words of each prompt.
        deep_depth: text blocks, the input counted as the first, that get learned tokens; 1 is the input
            alone, 0 is nine or as many as the tower has.
        deep_tokens: learned tokens put into each of the blocks from the second on.
        normal_words: what follows the learned tokens of the normal prompt.
        anomalous_words: what follows the learned tokens of the anomalous prompt.
        sigma: standard deviation of the maps' Gaussian blur, in pixels of the network's input; 0 is none.
        map_grid: values of a map: one for each of the "patches", or of the "pixels" of the network's input,
            as published; equal at the centres of the patches.
        epochs: times that each image is learned from; the last epoch's prompts are kept.
        batch_size: images of a step.
        learning_rate: of Adam.
        beta1: of Adam: how much of the last gradients' mean is kept.
        beta2: of Adam: the same for their squares.
        feature_memory: GiB that the features of the auxiliary images may take while learning.
    """

    name: ClassVar[str] = "anomalyclip"
    needs: ClassVar[Needs] = Needs(words=False, auxiliary_set=True)
    source: ClassVar[str] = "Zhou et al., AnomalyCLIP, ICLR 2024, arXiv 2310.18961"
    resumable: ClassVar[bool] = True
    scorer_class: ClassVar[type[Scorer]] = LocalScorer
    needs_torch: ClassVar[bool] = True

    image_size: Annotated[int, Field(ge=0, le=4096)] = 0
    value_blocks: Blocks = 0
    map_layers: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = ()
    class_norm: bool = False
    interpolation: Interpolation = "bilinear"
    n_ctx: Annotated[int, Field(ge=1, le=512)] = 12
    deep_depth: Blocks = 0
    deep_tokens: Annotated[int, Field(ge=1, le=512)] = 4
    normal_words: str = "object."
    anomalous_words: str = "damaged object."
    sigma: Sigma = 4.0
    map_grid: MapGrid = "patches"
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 15
    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 8
    learning_rate: Rate = 1e-3
    beta1: Decay = 0.5
    beta2: Decay = 0.999
    feature_memory: Annotated[float, Field(ge=1e-3, le=1e6)] = 8.0

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.deep_tokens > self.n_ctx:
            raise UsageError(
                f"deep_tokens must be at most {self.n_ctx}, which is n_ctx, got {self.deep_tokens}; lower it"
            )
        if not self.image_loss and not self.learns_maps:
            raise UsageError(
                "at least one of image_loss, focal_loss and dice_loss must be on (and map_weight above 0 for "
                "the last two), got none; leave one on"
            )

    @property
    @override
    def feature_key(self) -> tuple[str, ...]:
        shared = self.backbone, self.device, self.dtype, self.interpolation
        path = self.image_size, self.value_blocks, self.map_layers, self.class_norm
        return self.name, *shared, *map(str, path)

    def path(self, backbone: Backbone) -> LocalPath:
        """Return the local path on a backbone."""
        depth = backbone.model.config.vision.layers
        blocks = self.value_blocks or max(1, round(SHARE * depth))
        layers = tuple(sorted(set(self.map_layers))) or (depth,)
        return LocalPath(blocks, layers, self.class_norm, self.interpolation)

    def depth(self, backbone: Backbone) -> int:
        """Return how many text blocks get learned tokens on a backbone, the input counted as the first."""
        return self.deep_depth or min(DEPTH, backbone.model.config.text.layers)

    def resized(self, backbone: Backbone) -> Backbone:
        """Return the backbone on the image size of this detector."""
        return backbone.with_image_size(self.image_size) if self.image_size else backbone

    def _choices(self, backbone: Backbone) -> LocalSpec:
        patch, layers = backbone.model.config.vision.patch_size, self.path(backbone).layers
        return LocalSpec(layers=layers, patch_size=patch, sigma=self.sigma, map_grid=self.map_grid)

    def _embed_prompts(self, backbone: Backbone, prompts: Prompts) -> Tensor:
        """Embed the normal and the anomalous prompt: (2, E), with gradients."""
        pair = torch.stack([prompts["normal"], prompts["anomalous"]])
        deep = [prompts[f"deep.{block}"] for block in range(2, len(prompts))]
        return embed_pieces(backbone.model.text, backbone.tokenizer, [pair], self._words, deep)

    @property
    def _words(self) -> tuple[str, str]:
        return self.normal_words, self.anomalous_words

    @override
    def _check_backbone(self, backbone: Backbone) -> None:
        self.resized(backbone)
        self.path(backbone).check(backbone.name, backbone.model.config.vision.layers)

    @override
    def _fits(self, scorer: LocalScorer, backbone: Backbone) -> bool:
        return scorer.head.width == backbone.embed_dim and scorer.choices == self._choices(backbone)

    @override
    def _check_inputs(self, inputs: FitInputs) -> None:
        training_records(inputs.auxiliary, masks=self.learns_maps)

    @override
    def _fit(self, backbone: Backbone, inputs: FitInputs) -> Fitted[LocalScorer]:
        generator = torch.Generator().manual_seed(self.seed)
        width, depth = backbone.model.config.text.width, self.depth(backbone)
        pair = random_vectors(2, self.n_ctx, width, generator)
        deep = random_vectors(depth - 1, self.deep_tokens, width, generator)
        drawn = {"normal": pair[0], "anomalous": pair[1], **{f"deep.{n}": t for n, t in enumerate(deep, 2)}}
        prompts = {name: t.to(backbone.device, copy=True).requires_grad_() for name, t in drawn.items()}
        self._embed_prompts(backbone, prompts)  # too long ones are refused before images are read
        maps = self.learns_maps
        records = training_records(inputs.auxiliary, masks=maps)
        keep = self._checkpoint(inputs, backbone, data=digest(records) if inputs.checkpoint else "")
        if keep is not None:
            keep.load()  # one of another fit is refused before any work
        network, path, report = self.resized(backbone), self.path(backbone), inputs.stage("image features")
        features = compute(network, path, records, maps=maps, memory=self.feature_memory, progress=report)
        adam = partial(torch.optim.Adam, lr=self.learning_rate, betas=(self.beta1, self.beta2))
        learning = Learning(prompts, adam, generator, seed=self.seed)

        def one_epoch() -> None:
            for rows in epoch(len(features.labels), self.batch_size, generator):
                text = self._embed_prompts(backbone, prompts)
                learning.step(self.loss_terms(text, features.rows(rows, backbone.device)))

        learning.run(self.epochs, one_epoch, checkpoint=keep, progress=inputs.stage("epochs"))
        flawed = int(features.labels.sum())
        counts = {"good": len(records) - flawed, "flawed": flawed}
        return self.judging_by(backbone, prompts, learned_from=counts)

    def judging_by(
        self, backbone: Backbone, prompts: Prompts, **origin: Mapping[str, Any]
    ) -> Fitted[LocalScorer]:
        """Return what a fit to these prompts comes to; ``origin`` is for the folder."""
        with torch.inference_mode():
            normal, anomalous = self._embed_prompts(backbone, prompts).double().cpu()
        scorer = LocalScorer(linear((anomalous - normal) / self.temperature), self._choices(backbone))
        written = {
            side: [" ".join([*(f"[{letter}{i + 1}]" for i in range(self.n_ctx)), words])]
            for side, letter, words in zip(("normal", "anomalous"), "VW", self._words, strict=True)
        }
        learned = {name: tokens.detach().cpu().numpy() for name, tokens in prompts.items()}
        return Fitted(scorer, {"prompt": written, **origin}, learned)

    @override
    def _resizing(self, request: FeatureRequest) -> list[Preprocess]:
        return [self.resized(self.backbone_).preprocess]

    @override
    def embed(self, images: Sequence[Array], request: FeatureRequest) -> ImageFeatures:
        """Embed pictures on the torch backbone: the class token and, for maps, the local patch tokens."""
        self._require_fit()
        network, path = self.resized(self.backbone_), self.path(self.backbone_)
        return network.embed_local(images, path, patches=bool(request.layers))
