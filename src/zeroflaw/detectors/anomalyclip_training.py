"""Learning AnomalyCLIP's prompts: frozen image features, the losses, the loop (Zhou et al., section 3.3).

Images pass through the frozen tower once; every epoch works on the features that are kept. Shapes: B images,
L map layers, P patches, E embedding, S side of the network's input in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zeroflaw.detectors.anomalyclip_prompts import Prompts, PromptShape
from zeroflaw.detectors.blur import stretching
from zeroflaw.detectors.training import Checkpoint, generator_state, total_loss
from zeroflaw.errors import UsageError

if TYPE_CHECKING:
    from zeroflaw.detectors.anomalyclip_features import AuxiliaryFeatures, Features
    from zeroflaw.runtime.stream import Progress
    from zeroflaw.towers.backbone import Backbone


@dataclass(frozen=True)
class Objective:
    """What the prompts are learned for; see the parameters of `AnomalyCLIP` with the same names."""

    temperature: float
    image_loss: bool
    focal_loss: bool
    dice_loss: bool
    map_weight: float
    focal_gamma: float
    focal_smoothing: float
    dice_smoothing: float

    @property
    def uses_maps(self) -> bool:
        """Whether any term looks at patches and masks."""
        return self.map_weight > 0 and (self.focal_loss or self.dice_loss)

    def terms(self, text: Tensor, batch: Features) -> dict[str, Tensor]:
        """Return the terms of the loss by name, to be added up.

        Args:
            text: embeddings of the normal and the anomalous prompt, (2, E).
            batch: features, labels and masks of some images.
        """
        found = {}
        if self.image_loss:
            found["image"] = F.cross_entropy(batch.image @ text.T / self.temperature, batch.labels)
        if not self.uses_maps:
            return found
        maps = self._maps(text, batch)  # (B, L, S, S)
        layers = maps.unbind(1)
        if self.focal_loss:
            focal = [focal_loss(m, batch.masks, self.focal_gamma, self.focal_smoothing) for m in layers]
            found["focal"] = self.map_weight * torch.stack(focal).sum()
        if self.dice_loss:
            both = [
                dice_loss(m, batch.masks, self.dice_smoothing)
                + dice_loss(1 - m, ~batch.masks, self.dice_smoothing)
                for m in layers
            ]
            found["dice"] = self.map_weight * torch.stack(both).sum()
        return found

    def _maps(self, text: Tensor, batch: Features) -> Tensor:
        """Probability of anomalous, brought to the size of the masks bilinearly, (B, L, S, S)."""
        found = torch.sigmoid(batch.patches @ (text[1] - text[0]) / self.temperature)  # (B, L, P)
        tall, wide = (
            stretching(patches, pixels).to(found)
            for patches, pixels in zip(batch.grid, batch.masks.shape[-2:], strict=True)
        )
        return torch.einsum("yr,blrc,xc->blyx", tall, found.unflatten(-1, batch.grid), wide)


def focal_loss(anomalous: Tensor, masks: Tensor, gamma: float = 2.0, smoothing: float = 1e-5) -> Tensor:
    """Mean over all pixels of ``-(1 - p)^gamma log p``, p the probability of the true class.

    Targets are ``smoothing`` and ``1 - smoothing`` instead of 0 and 1, and ``smoothing`` is added to p, so
    that the logarithm stays finite (Lin et al., ICCV 2017, without class weights).

    Args:
        anomalous: probability of anomalous, (B, Y, X).
        masks: True where it is right, (B, Y, X).
        gamma: how much less sure pixels count.
        smoothing: see above.
    """
    right = torch.where(masks, anomalous, 1 - anomalous)
    p = (1 - smoothing) * right + smoothing * (1 - right) + smoothing
    return -((1 - p).clamp_min(1e-12) ** gamma * p.log()).mean()


def dice_loss(probabilities: Tensor, masks: Tensor, smoothing: float = 1.0) -> Tensor:
    """Mean over images of ``1 - (2 sum(p g) + smoothing) / (sum p + sum g + smoothing)``.

    Args:
        probabilities: p, (B, Y, X).
        masks: g, (B, Y, X).
        smoothing: keeps images without a masked pixel defined.
    """
    p, g = probabilities.flatten(1), masks.flatten(1).to(probabilities)
    overlap = (2 * (p * g).sum(1) + smoothing) / (p.sum(1) + g.sum(1) + smoothing)
    return (1 - overlap).mean()


@dataclass(frozen=True)
class Schedule:
    """How the prompts are learned; see the parameters of `AnomalyCLIP` with the same names."""

    epochs: int
    batch_size: int
    learning_rate: float
    betas: tuple[float, float]
    seed: int


class Learner:
    """Prompts on their way, with all that decides the next step."""

    def __init__(self, backbone: Backbone, words: tuple[str, str], schedule: Schedule, shape: PromptShape):
        self.backbone, self.words, self.schedule, self.shape = backbone, words, schedule, shape
        self.generator = torch.Generator().manual_seed(schedule.seed)
        self.epoch = 0
        self._learn(Prompts.random(shape, self.generator))

    def _learn(self, prompts: Prompts) -> None:
        self.prompts = prompts.learnable(self.backbone.device)
        self.optimiser = torch.optim.Adam(
            self.prompts.tensors().values(), lr=self.schedule.learning_rate, betas=self.schedule.betas
        )

    def text(self) -> Tensor:
        """Embed the prompts as they stand: normal and anomalous, (2, E), with gradients.

        Raises:
            WordsError: a prompt is longer than the text tower's context.
        """
        return self.prompts.embed(self.backbone, self.words)

    def run_epoch(self, objective: Objective, features: AuxiliaryFeatures) -> None:
        """Go through all images once, in an order drawn anew.

        Raises:
            UsageError: the loss is not a finite number.
        """
        order = torch.randperm(len(features), generator=self.generator)
        batches = order.split(self.schedule.batch_size)
        for number, rows in enumerate(batches, 1 + self.epoch * len(batches)):
            batch = features.rows(rows).to(self.backbone.device)
            terms = objective.terms(self.text(), batch)
            loss = total_loss(terms, step=number, seed=self.schedule.seed)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        self.epoch += 1

    def state(self) -> dict[str, Tensor]:
        """Return everything that the rest of the fit depends on."""
        adam = {
            f"adam.{number}.{key}": value
            for number, values in self.optimiser.state_dict()["state"].items()
            for key, value in values.items()
        }
        prompts = {f"prompts.{name}": tokens for name, tokens in self.prompts.tensors().items()}
        return {
            **prompts,
            **adam,
            "generator": generator_state(self.generator),
            "epoch": torch.tensor(self.epoch),
        }

    def go_on(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` returned."""
        found = {name.removeprefix("prompts."): t for name, t in state.items() if name.startswith("prompts.")}
        self._learn(Prompts.take(found, self.shape))
        moments: dict[int, dict[str, Any]] = {}
        for name, value in state.items():
            if name.startswith("adam."):
                _, number, key = name.split(".")
                moments.setdefault(int(number), {})[key] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(state["generator"])
        self.epoch = int(state["epoch"])


def learn(
    learner: Learner,
    objective: Objective,
    features: AuxiliaryFeatures,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
) -> Prompts:
    """Learn the prompts, from where the checkpoint stands, and keep it up to date after every epoch.

    Raises:
        UsageError: a loss or a learned number is not finite, or the checkpoint belongs to another fit.
        DetectorError: the checkpoint cannot be read or written.
    """
    epochs = learner.schedule.epochs
    kept = None if checkpoint is None else checkpoint.load()
    if kept is not None:
        learner.go_on(kept)
    while learner.epoch < epochs:
        learner.run_epoch(objective, features)
        if checkpoint is not None:
            checkpoint.save(learner.state())
        if progress is not None:
            progress("epochs", learner.epoch, epochs)
    found = {name: tokens.detach().cpu() for name, tokens in learner.prompts.tensors().items()}
    _require_finite(found.values(), learner.schedule)
    return Prompts.take(found, learner.shape)


def _require_finite(tensors: Iterable[Tensor], schedule: Schedule) -> None:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise UsageError(
            f"training ended with numbers that are not finite (seed {schedule.seed}, learning rate "
            f"{schedule.learning_rate}); use a smaller learning_rate"
        )
