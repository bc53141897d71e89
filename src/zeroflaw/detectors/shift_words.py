"""Learned words for distribution shift: prompts of learned words train the network that judges images.

After Gao et al. (poster; follows PromptStyler, ICCV 2023, for the idea and RWDA, BMVC 2023, for detection).
Words are learned through the frozen text tower, no image is seen; head, training, two-prompt score and fusion
are those of the random-word detector, so that only the words differ. The poster has no formula: every choice
is a parameter here, and docs/shift-words.md says which readings there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from zeroflaw.detectors.base import take_tensors
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.learned import random_vectors
from zeroflaw.detectors.ranges import check_range, one_of
from zeroflaw.detectors.shift import (
    DESCRIPTIONS,
    LOSSES,
    Form,
    Pairs,
    Reading,
    ShiftLoss,
    ShiftPrompts,
    all_pairs,
    description_vectors,
)
from zeroflaw.detectors.shift_learning import Learner, Schedule
from zeroflaw.detectors.shift_measures import embed_pairs, measure, nearest_words, spread
from zeroflaw.detectors.text_head import TextTrained, stage
from zeroflaw.detectors.training import Checkpoint
from zeroflaw.errors import UsageError
from zeroflaw.runtime.stream import Progress
from zeroflaw.words import Vocabulary, fill, object_phrase

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone

MOST_PAIRS = 1_000_000
_NOT_WORDS = {"least_order", "most_alike", "checkpoint_every"}  # parameters that no learned word depends on


@dataclass(kw_only=True, eq=False)
class ShiftWords(TextTrained):
    """The learned-word detector: unknown object by default, known object with ``object``.

    The two-prompt score's words are ``normal``, ``anomalous`` and ``template``, as of the random-word
    detector; the words of the training prompts are the following. Head and fusion are in `TextTrained`.

    Attributes:
        objects: names that training prompts end with, all of them; None means ``object`` alone, or the word
            "object" where that is unknown.
        prefix: what training prompts begin with; the poster shows "A picture of".
        semantic_normal: semantic words for normal, with ``{}`` for the object; pairs take them in turn.
        semantic_anomalous: semantic words for anomalous; the poster shows "broken" and "damaged".
        n_diversity: number of diversity words K; not in the poster, PromptStyler has 80.
        n_distribution: number of distribution words J; not in the poster.
        diversity_length: vectors in a diversity word.
        distribution_length: vectors in a distribution word.
        losses: which losses are on. Without "knowledge" and "distribution-diversity" the distribution words
            stay as they were drawn.
        reading: what the knowledge of the mixture guidance is: "K1" the hand-made prompts, "K2" descriptions
            of shooting conditions, "K3" convex mixtures of these descriptions.
        descriptions: of shooting conditions, for K2 and K3.
        diversity_form: push apart text "features" of words, or their "vectors".
        knowledge_share: alpha, the part of "knowledge" in the mixture guidance.
        mixture_weight: lambda, weight of the mixture guidance beside the other losses.
        semantic_temperature: divides the cosines of the semantic loss.
        steps: of the optimiser; 0 leaves all words as drawn (a control: random vectors).
        word_rate: learning rate of the words, of Adam.
        word_batch: prompt pairs that a step looks at.
        compared: diversity words that a step pushes apart, drawn anew each time where there are more.
        checkpoint_every: steps between two checkpoints, where one is kept.
        least_order: refuse words with which fewer than this share of the pairs have their anomalous prompt
            on the anomalous side of the normal one: their labels mean nothing.
        most_alike: refuse words with which the mean cosine between prompts of one sentence is larger: they
            are all the same.
    """

    name: ClassVar[str] = "shift-words"
    needs: ClassVar[Needs] = Needs(words=True)
    source: ClassVar[str] = "Gao et al., poster on learned prompt words for zero-shot detection under shift"
    resumable: ClassVar[bool] = True

    objects: tuple[str, ...] | None = None
    prefix: str = "a picture of"
    semantic_normal: tuple[str, ...] = ("{}.",)
    semantic_anomalous: tuple[str, ...] = ("broken {}.", "damaged {}.")
    n_diversity: int = 80
    n_distribution: int = 16
    diversity_length: int = 2
    distribution_length: int = 4
    losses: tuple[str, ...] = LOSSES
    reading: Reading = "K1"
    descriptions: tuple[str, ...] = DESCRIPTIONS
    diversity_form: Form = "features"
    knowledge_share: float = 0.5
    mixture_weight: float = 1.0
    semantic_temperature: float = 0.07
    steps: int = 1000
    word_rate: float = 1e-3
    word_batch: int = 32
    compared: int = 80
    checkpoint_every: int = 25
    least_order: float = 0.5
    most_alike: float = 0.995

    vectors_: dict[str, Tensor] | None = field(init=False, default=None, repr=False)

    def validate(self) -> None:
        """Check every parameter.

        Raises:
            UsageError: a parameter is out of range, or two contradict each other.
            WordsError: a word is refused.
        """
        super().validate()
        self._semantics()
        for name in ("n_diversity", "n_distribution", "compared", "word_batch"):
            check_range(name, getattr(self, name), 1, 100_000, whole=True)
        for name in ("diversity_length", "distribution_length"):
            check_range(name, getattr(self, name), 1, 1000, whole=True)
        check_range("steps", self.steps, 0, 10_000_000, whole=True)
        check_range("checkpoint_every", self.checkpoint_every, 1, 10_000_000, whole=True)
        check_range("word_rate", self.word_rate, 1e-12, 1e3)
        check_range("semantic_temperature", self.semantic_temperature, 1e-3, 1e3)
        check_range("mixture_weight", self.mixture_weight, 0, 1e6)
        for name in ("knowledge_share", "least_order"):
            check_range(name, getattr(self, name), 0, 1)
        check_range("most_alike", self.most_alike, -1, 1)
        count = self.n_diversity * self.n_distribution * len(self._names())
        if count > MOST_PAIRS:
            raise UsageError(
                f"n_diversity x n_distribution x objects may make {MOST_PAIRS:,} pairs, got {count:,}; use "
                "fewer words"
            )
        self._check_losses()
        self._check_descriptions()

    def _check_losses(self) -> None:
        for name in self.losses:
            one_of("losses", name, LOSSES)
        if not self._weights():
            raise UsageError(
                f"no loss is left to learn words by (losses {', '.join(self.losses) or 'none'}, reading "
                f"{self.reading}, mixture_weight {self.mixture_weight}, knowledge_share "
                f"{self.knowledge_share}); turn one on, or use steps=0 for words as drawn"
            )

    def _check_descriptions(self) -> None:
        count = len(self.descriptions)
        if not all(text.strip() for text in self.descriptions):
            raise UsageError(
                f"descriptions must be words, got {list(self.descriptions)}; leave out empty ones"
            )
        if self.reading != "K1" and count < 2:
            raise UsageError(f"reading {self.reading} wants at least 2 descriptions, got {count}; add some")
        if self.reading == "K2" and count > self.n_distribution:
            raise UsageError(
                f"reading K2 gives every description a distribution word, but there are {count} descriptions "
                f"and {self.n_distribution} words; raise n_distribution"
            )

    def _weights(self) -> dict[str, float]:
        """Weights of the losses that are on; those of weight zero are off."""
        share = self.knowledge_share
        weights = {
            "diversity": 1.0,
            "semantic": 1.0,
            # In K3 the mixture itself is the knowledge: its words cannot leave the descriptions.
            "knowledge": 0.0 if self.reading == "K3" else self.mixture_weight * share,
            "distribution-diversity": self.mixture_weight * (1 - share),
        }
        return {name: weight for name, weight in weights.items() if weight and name in self.losses}

    def _names(self) -> tuple[str, ...]:
        return self.objects or (object_phrase(self.object),)

    def _semantics(self) -> Vocabulary:
        """Check the semantic words as state phrases are checked."""
        names = self._names()
        if self.objects == () or len(set(map(object_phrase, names))) < len(names):
            raise UsageError(
                f"objects must list at least one name, each once, got {list(self.objects or ())}; leave it "
                "out for an unknown object"
            )
        return Vocabulary().updated(
            normal=self.semantic_normal, anomalous=self.semantic_anomalous, templates=(f"{self.prefix} {{}}",)
        )

    def _sentences(self) -> tuple[str, ...]:
        """Semantic words with their objects, numbered as `all_pairs` does."""
        words = self._semantics()
        states = (*words.normal, *words.anomalous)
        return tuple(fill(state, object_phrase(name)) for name in self._names() for state in states)

    def _pairs(self) -> Pairs:
        return all_pairs(
            self.n_diversity,
            self.n_distribution,
            objects=len(self._names()),
            normal=len(self.semantic_normal),
            anomalous=len(self.semantic_anomalous),
        )

    def _training_texts(
        self, backbone: Backbone, checkpoint: Path | None, progress: Progress | None
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        tower, tokenizer = backbone.model.text, backbone.tokenizer
        prompts = ShiftPrompts(tower, tokenizer, self.prefix, self._sentences())
        loss, pairs = self._loss(prompts), self._pairs()
        learner = self._learner(loss, tower.config.width, backbone.device)
        kept = None if checkpoint is None else Checkpoint(checkpoint, self._identity(backbone))
        learner.run(pairs, kept, stage(progress, "learned words"))
        diversity, distribution = learner.diversity.detach().cpu(), loss.words(learner.guided).detach().cpu()
        vectors = {"diversity": diversity, "distribution": distribution}
        embed = stage(progress, "text embeddings")
        normal, anomalous = embed_pairs(prompts, diversity, distribution, pairs, progress=embed)
        guards = {**measure(normal, anomalous, loss.anchors.cpu(), pairs), **spread(prompts, vectors)}
        self._refuse_degenerate(guards)
        self.vectors_ = vectors
        used = self._used(learner, guards)
        used["nearest"] = {
            name: nearest_words(tower, tokenizer, tokenizer.vocabulary, words)
            for name, words in vectors.items()
        }
        return normal, anomalous, used

    def _learner(self, loss: ShiftLoss, width: int, device: torch.device) -> Learner:
        generator = torch.Generator().manual_seed(self.seed)
        start = {name: words.to(device) for name, words in self._start(width, generator).items()}
        return Learner(
            loss,
            self._weights(),
            start,
            frozen=self._frozen(),
            generator=generator,
            schedule=self._schedule(),
        )

    def _loss(self, prompts: ShiftPrompts) -> ShiftLoss:
        descriptions = None
        if self.reading == "K2":
            with torch.no_grad():
                descriptions = torch.cat([prompts.alone(text) for text in self.descriptions])
        elif self.reading == "K3":
            descriptions = description_vectors(
                prompts.tower, prompts.tokenizer, self.descriptions, self.distribution_length
            )
        return ShiftLoss(
            prompts,
            prompts.anchors(),
            frozenset(self._weights()),
            self.reading,
            self.diversity_form,
            self.semantic_temperature,
            descriptions,
        )

    def _start(self, width: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the words that learning starts from."""
        diversity = random_vectors(self.n_diversity, self.diversity_length, width, generator)
        if self.reading == "K3":
            # Logits of spread one: with all weights equal the mixtures would be one and the same word.
            guided = torch.randn(self.n_distribution, len(self.descriptions), generator=generator)
        else:
            guided = random_vectors(self.n_distribution, self.distribution_length, width, generator)
        return {"diversity": diversity, "guided": guided}

    def _frozen(self) -> frozenset[str]:
        """Words that no loss of their own guides stay as drawn."""
        mixture = {"knowledge", "distribution-diversity"} & set(self._weights())
        return frozenset() if mixture else frozenset({"guided"})

    def _schedule(self) -> Schedule:
        return Schedule(
            steps=self.steps,
            rate=self.word_rate,
            batch=self.word_batch,
            compared=self.compared,
            checkpoint_every=self.checkpoint_every,
            seed=self.seed,
        )

    def _identity(self, backbone: Backbone) -> dict[str, Any]:
        """Everything that the learned words depend on."""
        params = {name: value for name, value in self.get_params().items() if name not in _NOT_WORDS}
        return {
            "detector": self.name,
            **params,
            "device": backbone.device.type,
            "backbone sha256": backbone.sha256,
            "backbone fingerprint": backbone.fingerprint,
        }

    def _refuse_degenerate(self, guards: Mapping[str, float]) -> None:
        if not all(map(math.isfinite, guards.values())):
            raise UsageError(
                f"the learned words ended as vectors that are not finite (seed {self.seed}); use a smaller "
                "word_rate"
            )
        if guards["order"] < self.least_order:
            raise UsageError(
                f"with these words only {guards['order']:.0%} of the anomalous prompts lie on the anomalous "
                f"side of the normal one, and least_order is {self.least_order:.0%}: what the prompt says is "
                "drowned; turn the semantic loss on, or use fewer steps or a smaller word_rate"
            )
        if guards["prompt_cosine"] > self.most_alike:
            raise UsageError(
                f"with these words all prompts are nearly the same: their mean cosine is "
                f"{guards['prompt_cosine']:.5f}, and most_alike is {self.most_alike}; turn the diversity "
                "losses on, or use a smaller knowledge_share or mixture_weight"
            )

    def _used(self, learner: Learner, guards: Mapping[str, float]) -> dict[str, Any]:
        words = self._semantics()
        used = {
            "prefix": self.prefix,
            "semantic": {
                "objects": [object_phrase(name) for name in self._names()],
                "normal": list(words.normal),
                "anomalous": list(words.anomalous),
            },
            "losses": {
                "weights": self._weights(),
                "last": {name: learner.terms[name] for name in self._weights() if name in learner.terms},
            },
            "guards": dict(guards),
        }
        if self.reading != "K1":
            used["descriptions"] = list(self.descriptions)
        if self.reading == "K3":
            used["mixtures"] = learner.guided.detach().softmax(-1).cpu().tolist()
        return used

    def _state(self) -> dict[str, Tensor]:
        assert self.vectors_ is not None
        return {**super()._state(), **{f"words.{name}": words for name, words in self.vectors_.items()}}

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        width = self.backbone_.model.config.text.width
        shapes = {
            "words.diversity": (self.n_diversity, self.diversity_length, width),
            "words.distribution": (self.n_distribution, self.distribution_length, width),
        }
        mine = take_tensors({name: value for name, value in tensors.items() if name in shapes}, shapes)
        self.vectors_ = {name.removeprefix("words."): value for name, value in mine.items()}
        super()._restore({name: value for name, value in tensors.items() if name not in shapes})

    def _card(self) -> str:
        sentences = self._sentences()
        words = f"{self.prefix} [diversity] [distribution]"
        return (
            f"Trained on {len(self._pairs()):,} pairs of prompts with learned words: {self.n_diversity} "
            f"diversity words of {self.diversity_length} vectors x {self.n_distribution} distribution words "
            f"of {self.distribution_length}, as in\n“{words} {sentences[0]}” / "
            f"“{words} {sentences[len(self.semantic_normal)]}”; head: {self.head}."
        )

    def _facts(self) -> dict[str, str]:
        assert self.words_ is not None
        guards = self.words_["guards"]
        return {
            **super()._facts(),
            "Objects in training prompts": ", ".join(self.words_["semantic"]["objects"]),
            "Words": self._how_learned(),
            "Prompts and their anchors": (
                f"cosine {guards['anchor_cosine_mean']:.3f} on average, {guards['anchor_cosine_min']:.3f} at "
                f"least (low: the words drown what the prompt says); nearer to their own anchor "
                f"{guards['accuracy']:.1%}; pairs in the right order {guards['order']:.1%}"
            ),
            "Prompts among each other": (
                f"mean cosine {guards['prompt_cosine']:.3f} with equal semantic words (near 1: all the same)"
            ),
            "Words among each other": (
                f"mean |cos| of diversity words {guards['diversity']:.3f} (at least "
                f"{guards['diversity_bound']:.3f} for so many), of distribution words "
                f"{guards['distribution']:.3f} (at least {guards['distribution_bound']:.3f})"
            ),
        }

    def _how_learned(self) -> str:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in self._weights().items())
        label = "" if self.reading == "K1" else "; **shooting conditions named in prompts**"
        kept = "; distribution words as drawn" if self._frozen() else ""
        return f"reading {self.reading}, {self.steps:,} steps, losses {weights}{kept}{label}"
