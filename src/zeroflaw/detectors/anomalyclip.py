"""AnomalyCLIP (Zhou et al., ICLR 2024, arXiv 2310.18961): two prompts learned on another, labelled data set.

The prompts name no product ("[V1]...[V12] object." and "[W1]...[W12] damaged object."), so what they learn
from labelled images of some products is applied to others. Maps come from a local path beside the tower's own
attention (`zeroflaw.towers.local`); the image's score comes from the class token alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from zeroflaw.detectors.anomalyclip_features import compute, digest, training_records
from zeroflaw.detectors.anomalyclip_prompts import Prompts, PromptShape
from zeroflaw.detectors.anomalyclip_ranges import NUMBERS, WHOLE
from zeroflaw.detectors.anomalyclip_training import Learner, Objective, Schedule, learn
from zeroflaw.detectors.base import BackboneDetector, Request, predictions, take_tensors
from zeroflaw.detectors.blur import blurred
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import Given
from zeroflaw.detectors.ranges import check_range
from zeroflaw.detectors.training import Checkpoint
from zeroflaw.errors import UsageError
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.stream import Array, Progress
from zeroflaw.towers.local import LocalPath
from zeroflaw.towers.model import ImageFeatures, Interpolation

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone

DEPTH = 9  # text blocks with learned tokens in the published code, where the tower has as many
SHARE = 19 / 24  # of the image tower's blocks have the local path in the published code


@dataclass(kw_only=True, eq=False)
class AnomalyCLIP(BackboneDetector):
    """Softmax between two learned prompts.

    Defaults are those of the published code, on a ViT-L/14 at 518 pixels; those that depend on the backbone
    are worked out from it.

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
        temperature: what cosines are divided by, in learning and in scores.
        sigma: standard deviation of the maps' Gaussian blur, in pixels of the network's input; 0 is none.
        epochs: times that each image is learned from; the last epoch's prompts are kept.
        batch_size: images of a step.
        learning_rate: of Adam.
        beta1: of Adam: how much of the last gradients' mean is kept.
        beta2: of Adam: the same for their squares.
        image_loss: learn from the image's label, by cross entropy.
        focal_loss: learn from masks, by focal loss.
        dice_loss: learn from masks, by the Dice losses of the anomalous and of the normal pixels.
        map_weight: what the losses from masks are multiplied with.
        focal_gamma: exponent of the focal loss.
        focal_smoothing: keeps its logarithm finite.
        dice_smoothing: keeps the Dice losses defined for empty masks; the papers do not state it.
        feature_memory: GiB that the features of the auxiliary images may take while learning.
    """

    name: ClassVar[str] = "anomalyclip"
    needs: ClassVar[Needs] = Needs(words=False, auxiliary_set=True)
    source: ClassVar[str] = "Zhou et al., AnomalyCLIP, ICLR 2024, arXiv 2310.18961"
    resumable: ClassVar[bool] = True

    image_size: int = 0
    value_blocks: int = 0
    map_layers: tuple[int, ...] = ()
    class_norm: bool = False
    interpolation: Interpolation = "bilinear"
    n_ctx: int = 12
    deep_depth: int = 0
    deep_tokens: int = 4
    normal_words: str = "object."
    anomalous_words: str = "damaged object."
    temperature: float = 0.07
    sigma: float = 4.0
    epochs: int = 15
    batch_size: int = 8
    learning_rate: float = 1e-3
    beta1: float = 0.5
    beta2: float = 0.999
    image_loss: bool = True
    focal_loss: bool = True
    dice_loss: bool = True
    map_weight: float = 4.0
    focal_gamma: float = 2.0
    focal_smoothing: float = 1e-5
    dice_smoothing: float = 1.0
    feature_memory: float = 8.0

    prompts_: Prompts | None = field(init=False, default=None, repr=False)
    text_: Tensor | None = field(init=False, default=None, repr=False)

    def validate(self) -> None:
        """Check every parameter.

        Raises:
            UsageError: a parameter is of the wrong kind or out of range, or no loss is left.
        """
        super().validate()
        for name, (low, high) in WHOLE.items():
            check_range(name, getattr(self, name), low, high, whole=True)
        for name, (least, most) in NUMBERS.items():
            check_range(name, getattr(self, name), least, most)
        for layer in self.map_layers:
            check_range("map_layers", layer, 1, 1024, whole=True)
        check_range("deep_tokens", self.deep_tokens, 1, self.n_ctx, whole=True)
        if not self.image_loss and not self._objective().uses_maps:
            raise UsageError(
                "at least one of image_loss, focal_loss and dice_loss must be on (and map_weight above 0 for "
                "the last two), got none; leave one on"
            )

    def _objective(self) -> Objective:
        return Objective(**{part.name: getattr(self, part.name) for part in fields(Objective)})

    @property
    def words(self) -> tuple[str, str]:
        """What follows the learned tokens, for normal and anomalous."""
        return self.normal_words, self.anomalous_words

    @property
    def share_key(self) -> tuple[str, ...]:
        """What detectors have in common when they can share features of images."""
        size, blocks, norm = str(self.image_size), str(self.value_blocks), str(self.class_norm)
        layers = ",".join(map(str, self.map_layers))
        return self.name, *super().share_key[1:], size, blocks, layers, norm, self.interpolation

    def path(self, backbone: Backbone) -> LocalPath:
        """Return the local path on a backbone."""
        blocks = self.value_blocks or max(1, round(SHARE * backbone.model.config.vision.layers))
        return LocalPath(blocks, tuple(sorted(set(self.map_layers))), self.class_norm, self.interpolation)

    def shape(self, backbone: Backbone) -> PromptShape:
        """Return how many learned tokens there are on a backbone."""
        text = backbone.model.config.text
        return PromptShape(
            self.n_ctx, text.width, self.deep_depth or min(DEPTH, text.layers), self.deep_tokens
        )

    def sized(self, backbone: Backbone) -> Backbone:
        """Return the backbone on the image size of this detector."""
        return backbone.with_image_size(self.image_size) if self.image_size else backbone

    def _check_backbone(self, backbone: Backbone) -> None:
        """Refuse a local path, depth or image size that this backbone cannot have."""
        self.sized(backbone)
        self.path(backbone).check(backbone.name, backbone.model.config.vision.layers)
        depth, layers = self.shape(backbone).depth, backbone.model.config.text.layers
        if depth > layers:
            raise UsageError(
                f"deep_depth may be at most {layers}, the text blocks of {backbone.name}, got {depth}; use 0 "
                "for as many as there are"
            )

    def _check_given(self, given: Given) -> None:
        """Refuse a data set without images of both kinds, or without the masks that the losses want."""
        assert given.auxiliary is not None
        training_records(given.auxiliary, masks=self._objective().uses_maps)

    def _fit(
        self, backbone: Any, given: Given, checkpoint: Path | None, progress: Progress | None
    ) -> dict[str, Any]:
        assert given.auxiliary is not None
        objective, shape = self._objective(), self.shape(backbone)
        betas = self.beta1, self.beta2
        schedule = Schedule(self.epochs, self.batch_size, self.learning_rate, betas, self.seed)
        learner = Learner(backbone, self.words, schedule, shape)
        learner.text()  # prompts too long for the tower are refused before images are read
        records = training_records(given.auxiliary, masks=objective.uses_maps)
        keep = None
        if checkpoint is not None:
            parameters = {"parameters": self.get_params(), "backbone": backbone.fingerprint}
            keep = Checkpoint(checkpoint, {**parameters, "data": digest(records)})
            keep.load()  # one of another fit is refused before any work
        features = compute(
            self.sized(backbone),
            self.path(backbone),
            records,
            maps=objective.uses_maps,
            memory=self.feature_memory,
            progress=progress,
        )
        self.take_prompts(backbone, learn(learner, objective, features, keep, progress))
        flawed = int(features.labels.sum())
        return self.written(learned_from={"good": len(records) - flawed, "flawed": flawed})

    def take_prompts(self, backbone: Backbone, prompts: Prompts) -> None:
        """Judge by these prompts from now on."""
        with torch.inference_mode():
            text = prompts.embed(backbone, self.words).float().cpu()
        self.prompts_, self.text_ = prompts, text

    def adopt(
        self, backbone: Backbone, prompts: Prompts, *, origin: Mapping[str, str], seen: dict[str, Any]
    ) -> None:
        """Take prompts that were learned elsewhere, as if by `fit`.

        Args:
            backbone: that they were learned on.
            prompts: as many and as wide as the parameters say.
            origin: where they come from; ``text`` goes into the model card.
            seen: the images that they were learned from; see `Given.describe`.

        Raises:
            UsageError: a parameter is wrong, or does not fit the backbone.
        """
        self.validate()
        self._check_backbone(backbone)
        self.take_prompts(backbone, prompts)
        self.words_, self.seen_ = self.written(origin=dict(origin)), seen
        self.backbone_ = backbone

    def written(self, **more: Any) -> dict[str, Any]:
        """Return the prompts as they would be written, and ``more``, for the saved folder."""
        learned = (" ".join(f"[{letter}{i + 1}]" for i in range(self.n_ctx)) for letter in "VW")
        normal, anomalous = (f"{v} {words}" for v, words in zip(learned, self.words, strict=True))
        return {"prompt": {"normal": [normal], "anomalous": [anomalous]}, **more}

    def request(self, maps: bool) -> Request:
        """Return what `predict_features` must be given."""
        return Request(patches=maps)

    def embed(self, images: list[Array], request: Request) -> ImageFeatures:
        """Embed pictures: the class token and, for maps, the local patch tokens of each layer."""
        self._require_fit()
        backbone = self.sized(self.backbone_)
        return backbone.embed_local(images, self.path(backbone), patches=request.patches)

    @torch.inference_mode()
    def predict_features(
        self, features: ImageFeatures, request: Request, sizes: list[tuple[int, int]], *, maps: bool
    ) -> list[Prediction]:
        """Judge images whose embeddings are known; see `BackboneDetector.predict_features`."""
        assert self.text_ is not None
        normal, anomalous = self.text_.double()
        direction = (anomalous - normal) / self.temperature
        logits = self._finite(features.image.double() @ direction)
        drawn = self._map(features, direction) if maps else None
        return predictions(logits, {"prompt": logits}, sizes, drawn)

    def _map(self, features: ImageFeatures, direction: Tensor) -> Tensor:
        """Probability maps (B, rows, columns): the mean of the layers, blurred."""
        logits = [self._finite(patches.double() @ direction) for patches in features.layers.values()]
        maps = torch.sigmoid(torch.stack(logits)).mean(0).unflatten(1, features.grid)
        patch = self.backbone_.model.config.vision.patch_size
        return blurred(maps, patch, self.sigma).clamp(0, 1)

    def _state(self) -> dict[str, Tensor]:
        assert self.prompts_ is not None
        assert self.text_ is not None
        return {"text": self.text_, **self.prompts_.tensors()}

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        rest = dict(tensors)
        text = {"text": rest.pop("text")} if "text" in rest else {}
        self.text_ = take_tensors(text, {"text": (2, self.backbone_.embed_dim)})["text"]
        self.prompts_ = Prompts.take(rest, self.shape(self.backbone_))

    def _card(self) -> str:
        assert self.words_ is not None
        prompt = self.words_["prompt"]
        pair = f"“{prompt['normal'][0]}” / “{prompt['anomalous'][0]}”"
        if "origin" in self.words_:
            return f"Two learned prompts,\n{pair},\ntaken from {self.words_['origin']['text']}"
        found, times = self.words_["learned_from"], "epoch" if self.epochs == 1 else "epochs"
        return (
            f"Two learned prompts,\n{pair},\nlearned in {self.epochs} {times} on {found['good']} good and "
            f"{found['flawed']} flawed images of other products, from {self._learned_by()}."
        )

    def _learned_by(self) -> str:
        maps = [name for name, on in (("focal", self.focal_loss), ("Dice", self.dice_loss)) if on]
        labels = ["their labels"] * self.image_loss
        masks = [f"their masks ({' and '.join(maps)} loss)"] * self._objective().uses_maps
        return " and ".join(labels + masks)

    def _facts(self) -> dict[str, str]:
        assert self.backbone_ is not None
        path, side = self.path(self.backbone_), self.sized(self.backbone_).preprocess.image_size
        shape = self.shape(self.backbone_)
        return {
            "Images": f"{side} px; local path through the last {path.blocks} blocks",
            "Learned tokens": f"{shape.length} before each prompt{_deep_in_words(shape)}",
        }


def _deep_in_words(shape: PromptShape) -> str:
    if shape.depth < 2:
        return ", none in later text blocks"
    if shape.depth == 2:
        return f", {shape.deep_length} in the text block 2"
    return f", {shape.deep_length} in each of the text blocks 2 to {shape.depth}"
