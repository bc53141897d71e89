"""Learned words for distribution shift: prompts of learned words train the network that judges images.

After Gao et al. (poster; follows PromptStyler, ICCV 2023, for the idea and RWDA, BMVC 2023, for detection).
Words are learned through the frozen text tower, no image is seen; head, training, two-prompt score and fusion
are those of the random-word detector, so that only the words differ. The poster has no formula: every choice
is a parameter here, and docs/shift-words.md says which readings there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs, Step
from zeroflaw.detectors.learned import random_vectors
from zeroflaw.detectors.shift_words.words import (
    Guidance,
    Pairs,
    ShiftLoss,
    ShiftPrompts,
    all_pairs,
    measure,
    nearest_words,
    spread,
)
from zeroflaw.detectors.text_head import TextTrained
from zeroflaw.detectors.training import Checkpoint, Learning
from zeroflaw.errors import UsageError
from zeroflaw.parameters import Rate, parameters
from zeroflaw.towers.backbone import Backbone
from zeroflaw.words import Vocabulary, fill, object_phrase
from zeroflaw.words.phrases import ObjectNames

MOST_PAIRS = 1_000_000
_NOT_WORDS = {"least_order", "most_alike", "checkpoint_every"}  # parameters that no learned word depends on

Number = Annotated[int, Field(ge=1, le=100_000)]
Length = Annotated[int, Field(ge=1, le=1000)]
Share = Annotated[float, Field(ge=0, le=1)]


@parameters
class ShiftWords(Guidance, TextTrained):
    """The learned-word detector: unknown object by default, known object with ``object``.

    The two-prompt score's words are ``normal``, ``anomalous`` and ``template``, as of the random-word
    detector; the words of the training prompts are the following. What guides the learned words is in
    `Guidance`, head and fusion in `TextTrained`.

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

    objects: ObjectNames | None = None
    prefix: str = "a picture of"
    semantic_normal: tuple[str, ...] = ("{}.",)
    semantic_anomalous: tuple[str, ...] = ("broken {}.", "damaged {}.")
    n_diversity: Number = 80
    n_distribution: Number = 16
    diversity_length: Length = 2
    distribution_length: Length = 4
    steps: Annotated[int, Field(ge=0, le=10_000_000)] = 1000
    word_rate: Rate = 1e-3
    word_batch: Number = 32
    compared: Number = 80
    checkpoint_every: Annotated[int, Field(ge=1, le=10_000_000)] = 25
    least_order: Share = 0.5
    most_alike: Annotated[float, Field(ge=-1, le=1)] = 0.995

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        self.objects_ = self.objects or (object_phrase(self.object),)
        self.semantics_ = Vocabulary(
            normal=self.semantic_normal,
            anomalous=self.semantic_anomalous,
            templates=(f"{self.prefix} {{}}",),
        )
        states = (*self.semantics_.normal, *self.semantics_.anomalous)
        # Semantic words with their objects, numbered as `all_pairs` does.
        self.sentences_ = tuple(fill(state, name) for name in self.objects_ for state in states)
        count = self.n_diversity * self.n_distribution * len(self.objects_)
        if count > MOST_PAIRS:
            raise UsageError(
                f"n_diversity x n_distribution x objects may make {MOST_PAIRS:,} pairs, got {count:,}; use "
                "fewer words"
            )
        if not self.loss_weights:
            raise UsageError(
                f"no loss is left to learn words by (losses {', '.join(self.losses) or 'none'}, reading "
                f"{self.reading}, mixture_weight {self.mixture_weight}, knowledge_share "
                f"{self.knowledge_share}); turn one on, or use steps=0 for words as drawn"
            )
        most = self.n_distribution if self.reading == "descriptions" else len(self.descriptions)
        if self.reading != "anchors" and not 2 <= len(self.descriptions) <= most:
            raise UsageError(
                f"reading {self.reading} wants at least 2 descriptions, and 'descriptions' no more than "
                f"n_distribution={self.n_distribution}, got {len(self.descriptions)}; change one of them"
            )

    @override
    def _training_texts(
        self, backbone: Backbone, inputs: FitInputs
    ) -> tuple[Tensor, Tensor, dict[str, Any], Mapping[str, Tensor]]:
        tower, tokenizer = backbone.model.text, backbone.tokenizer
        prompts = ShiftPrompts(tower, tokenizer, self.prefix, self.sentences_)
        pairs = all_pairs(
            self.n_diversity,
            self.n_distribution,
            objects=len(self.objects_),
            normal=len(self.semantic_normal),
            anomalous=len(self.semantic_anomalous),
        )
        loss = self.loss(prompts, self.distribution_length)
        generator = torch.Generator().manual_seed(self.seed)
        words = self._start(backbone, generator)
        kept = self._checkpoint(inputs, backbone, without=_NOT_WORDS)
        last = self._learn(loss, pairs, words, generator, kept, inputs.stage("learned words"))
        diversity, guided = (tensor.detach() for tensor in words.values())
        learned = {"diversity": diversity.cpu(), "distribution": loss.words(guided).cpu()}
        normal, anomalous = prompts.pairs(**learned, pairs=pairs, progress=inputs.stage("text embeddings"))
        guards = {**measure(normal, anomalous, loss.anchors.cpu(), pairs), **spread(prompts, learned)}
        self._refuse_degenerate(guards)
        used: dict[str, Any] = {
            "prefix": self.prefix,
            "semantic": {
                "objects": list(self.objects_),
                "normal": list(self.semantics_.normal),
                "anomalous": list(self.semantics_.anomalous),
            },
            "losses": {"weights": self.loss_weights, "last": last},
            "guards": guards,
            "nearest": {name: nearest_words(tower, tokenizer, vectors) for name, vectors in learned.items()},
        }
        if self.reading != "anchors":
            used["descriptions"] = list(self.descriptions)
        if self.reading == "mixtures":
            used["mixtures"] = guided.softmax(-1).cpu().tolist()
        return normal, anomalous, used, learned

    def _start(self, backbone: Backbone, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw what learning starts from: diversity words, and distribution words or their mixtures."""
        width, count = backbone.model.text.config.width, self.n_distribution
        diversity = random_vectors(self.n_diversity, self.diversity_length, width, generator)
        if self.reading == "mixtures":
            # Logits of spread one: with all weights equal the mixtures would be one and the same word.
            guided = torch.randn(count, len(self.descriptions), generator=generator)
        else:
            guided = random_vectors(count, self.distribution_length, width, generator)
        return {
            "diversity": diversity.to(backbone.device).requires_grad_(),
            "guided": guided.to(backbone.device).requires_grad_(self.guided),
        }

    def _learn(
        self,
        loss: ShiftLoss,
        pairs: Pairs,
        words: Mapping[str, Tensor],
        generator: torch.Generator,
        kept: Checkpoint | None,
        progress: Step,
    ) -> dict[str, float]:
        """Learn words in place; return the loss terms of the last step, if there was one."""
        weights = self.loss_weights
        last = torch.zeros(len(weights), dtype=torch.double)  # kept with what moves
        adam = partial(torch.optim.Adam, lr=self.word_rate)
        learning = Learning({**words, "last": last}, adam, generator, seed=self.seed, rate="word_rate")

        def one_step() -> None:
            rows = torch.randperm(len(pairs), generator=generator)[: self.word_batch]
            compared = torch.arange(self.n_diversity)
            if len(compared) > self.compared:
                compared = torch.randperm(len(compared), generator=generator)[: self.compared]
            terms = loss.terms(**words, batch=pairs.take(rows), compared=compared)
            learning.step({name: weights[name] * term for name, term in terms.items()})
            last.copy_(torch.stack([terms[name].detach() for name in weights]))

        learning.run(self.steps, one_step, checkpoint=kept, every=self.checkpoint_every, progress=progress)
        return dict(zip(weights, last.tolist(), strict=True)) if self.steps else {}

    def _refuse_degenerate(self, guards: Mapping[str, float]) -> None:
        if not guards["order"] >= self.least_order:
            raise UsageError(
                f"with these words only {guards['order']:.0%} of the anomalous prompts lie on the anomalous "
                f"side of the normal one, and least_order is {self.least_order:.0%}: what the prompt says is "
                "drowned; turn the semantic loss on, or use fewer steps or a smaller word_rate"
            )
        if not guards["prompt_cosine"] <= self.most_alike:
            raise UsageError(
                f"with these words all prompts are nearly the same: their mean cosine is "
                f"{guards['prompt_cosine']:.5f}, and most_alike is {self.most_alike}; turn the diversity "
                "losses on, or use a smaller knowledge_share or mixture_weight"
            )
