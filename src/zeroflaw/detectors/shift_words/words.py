"""Words learned against distribution shift: their prompts, and the losses that guide them.

After Gao et al. (poster): a prompt is "a picture of", a *diversity word* d_k, a *distribution word* s_j, and
frozen *semantic words* such as "broken metal nut.". The poster names the losses and gives no formula; the
ones here are written out in docs/shift-words.md, with what was chosen. Everything here is a pure function of
a frozen text tower and of the vectors that are learned.

Three degenerate solutions are known beforehand, and measured. Words that are only pushed apart may drown what
the prompt says; words that are only drawn to the anchors may leave all prompts the same; more words than
dimensions cannot all be at right angles.

Shapes in comments: K diversity words, J distribution words, M vectors in a word, C width of the text tower,
E embedding, S sentences, B prompts, D descriptions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from zeroflaw.detectors.inputs import Step, silent
from zeroflaw.detectors.learned import embed_pieces, word_vectors
from zeroflaw.errors import WordsError
from zeroflaw.parameters import parameters
from zeroflaw.towers.model import TextTower
from zeroflaw.towers.tokenizer import Tokenizer
from zeroflaw.words.phrases import Descriptions

LossName = Literal["diversity", "semantic", "knowledge", "distribution-diversity"]

Reading = Literal["anchors", "descriptions", "mixtures"]
"""What "knowledge" means: the hand-made prompts, descriptions of how images are taken, or their mixtures."""

Form = Literal["features", "vectors"]
"""What is pushed apart: the text features of prompts that hold the words, or the vectors themselves."""

Share = Annotated[float, Field(ge=0, le=1)]
_BATCH = 256  # prompts embedded at a time


def diversity_loss(vectors: Tensor) -> Tensor:
    """Mean of ``|cos|`` over all pairs of vectors (N, E): L_div and L_sdiv (PromptStyler, section 3.1, for
    all pairs at once); zero for one vector.
    """
    if len(vectors) < 2:
        return vectors.sum() * 0.0
    unit = F.normalize(vectors.float(), dim=-1)
    rows, columns = torch.triu_indices(len(unit), len(unit), 1)
    return (unit @ unit.T)[rows, columns].abs().mean()


def semantic_loss(features: Tensor, own: Tensor, other: Tensor, temperature: float) -> Tensor:
    """L_sem: cross entropy of prompts (B, E) between their own anchor and the other side's, each (B, E).

    With two classes, ``-log(exp(a / t) / (exp(a / t) + exp(b / t)))`` is ``softplus((b - a) / t)``.
    """
    return F.softplus((features * (other - own)).sum(-1) / temperature).mean()


def anchor_loss(features: Tensor, own: Tensor) -> Tensor:
    """L_know of anchors: how far prompts (B, E) are from theirs (B, E), ``mean(1 - cos)``."""
    return (1 - (features * own).sum(-1)).mean()


def description_loss(words: Tensor, descriptions: Tensor) -> Tensor:
    """L_know of descriptions: words (J, E) against the description (D, E) that each is assigned to."""
    cosines = words @ descriptions.T
    assigned = assign(cosines.detach())
    return (1 - cosines.gather(1, assigned[:, None])).mean()


def assign(cosines: Tensor) -> Tensor:
    """Return for each of J words the number of its nearest description; all D <= J descriptions get a word.

    Greedy: of the cosines (J, D), the nearest pair of a word and a description, both still free, is taken D
    times; the words that are left go to their nearest description.
    """
    found = cosines.argmax(1)
    free = cosines.clone()
    for _ in range(cosines.shape[1]):
        word, description = divmod(int(free.argmax()), cosines.shape[1])
        found[word] = description
        free[word], free[:, description] = -math.inf, -math.inf
    return found


def description_vectors(tower: TextTower, tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Tensor:
    """Return descriptions as words of ``length`` vectors, (D, M, C); shorter ones are said again and again.

    Raises:
        WordsError: one has more tokens than that.
    """
    rows = []
    for text in texts:
        inner = word_vectors(tower, tokenizer, text)
        if not 0 < len(inner) <= length:
            raise WordsError(
                f"mixtures are made of descriptions of 1 to {length} tokens, the length of a distribution "
                f"word, but '{text}' has {len(inner)}; shorten it or raise distribution_length"
            )
        rows.append(inner[torch.arange(length) % len(inner)])
    return torch.stack(rows).float()


@dataclass(frozen=True)
class Pairs:
    """Prompt pairs by number: which words and which two sentences each is made of; all tensors (N,)."""

    diversity: Tensor
    distribution: Tensor
    normal: Tensor
    anomalous: Tensor

    def __len__(self) -> int:
        return len(self.diversity)

    def take(self, rows: Tensor) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.diversity[rows], self.distribution[rows], self.normal[rows], self.anomalous[rows])


def all_pairs(diversity: int, distribution: int, *, objects: int, normal: int, anomalous: int) -> Pairs:
    """Return every (k, j) for every object; with several states of a side the pairs take them in turn.

    Sentences are numbered object by object, the normal states of an object first.
    """
    o, k, j = torch.meshgrid(
        torch.arange(objects), torch.arange(diversity), torch.arange(distribution), indexing="ij"
    )
    o, k, j = o.flatten(), k.flatten(), j.flatten()
    first, turn = o * (normal + anomalous), k + j  # so every word meets every state
    return Pairs(k, j, first + turn % normal, first + normal + turn // normal % anomalous)


@dataclass(frozen=True, eq=False)
class ShiftPrompts:
    """Prompts through a frozen text tower: a prefix, learned words, and one of the sentences, which are the
    semantic words such as "metal nut." and "broken metal nut.".
    """

    tower: TextTower
    tokenizer: Tokenizer
    prefix: str
    sentences: tuple[str, ...]

    def alone(self, words: Tensor) -> Tensor:
        """Embed learned words (N, M, C) without semantic words, phi: normalised (N, E)."""
        return embed_pieces(self.tower, self.tokenizer, [self.prefix, words])

    def joined(self, words: Sequence[Tensor], sentences: Tensor) -> Tensor:
        """Embed whole prompts: normalised float32 (B, E); gradients flow back to the words.

        Args:
            words: learned words one after the other, each (B, M, C); none for prompts without any.
            sentences: the number of the semantic words of each prompt, (B,).
        """
        said = [self.sentences[row] for row in sentences.tolist()]
        return embed_pieces(self.tower, self.tokenizer, [self.prefix, *words], said)

    @torch.no_grad()
    def anchors(self) -> Tensor:
        """Embed the prompts without learned words, g: normalised (S, E), without gradients."""
        return self.joined([], torch.arange(len(self.sentences)))

    @torch.no_grad()
    def pairs(
        self, diversity: Tensor, distribution: Tensor, pairs: Pairs, progress: Step = silent
    ) -> tuple[Tensor, Tensor]:
        """Embed all pairs of prompts with diversity words (K, M, C) and distribution words (J, M, C).

        Returns:
            Normal and anomalous prompts, each normalised float32 (N, E) on the CPU.
        """
        sentences, found = torch.cat([pairs.normal, pairs.anomalous]), []
        for batch in torch.arange(len(sentences)).split(_BATCH):
            rows = batch % len(pairs)
            words = [diversity[pairs.diversity[rows]], distribution[pairs.distribution[rows]]]
            found.append(self.joined(words, sentences[batch]).cpu())
            progress(int(batch[-1]) + 1, len(sentences))
        normal, anomalous = torch.cat(found).split(len(pairs))
        return normal, anomalous


@parameters
class Guidance:
    """What learned words are guided by, as parameters of `zeroflaw.detectors.shift_words.ShiftWords`.

    Attributes:
        losses: which losses are on. Without "knowledge" and "distribution-diversity" the distribution words
            stay as they were drawn.
        reading: what the knowledge of the mixture guidance is: the hand-made prompts ("anchors"),
            "descriptions" of shooting conditions, or convex "mixtures" of these descriptions.
        descriptions: of shooting conditions, for these two readings.
        diversity_form: push apart text "features" of words, or their "vectors".
        knowledge_share: alpha, the part of "knowledge" in the mixture guidance.
        mixture_weight: lambda, weight of the mixture guidance beside the other losses.
        semantic_temperature: divides the cosines of the semantic loss.
    """

    losses: tuple[LossName, ...] = get_args(LossName)
    reading: Reading = "anchors"
    descriptions: Descriptions = (
        "bright light",
        "dim light",
        "low contrast",
        "blur",
        "noise",
        "another background",
        "another view",
    )
    diversity_form: Form = "features"
    knowledge_share: Share = 0.5
    mixture_weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    semantic_temperature: Annotated[float, Field(ge=1e-3, le=1e3)] = 0.07

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the losses that are on; those of weight zero are off."""
        share = self.knowledge_share
        weights = {
            "diversity": 1.0,
            "semantic": 1.0,
            # A mixture itself is the knowledge: its words cannot leave the descriptions.
            "knowledge": 0.0 if self.reading == "mixtures" else self.mixture_weight * share,
            "distribution-diversity": self.mixture_weight * (1 - share),
        }
        return {name: weight for name, weight in weights.items() if weight and name in self.losses}

    @property
    def guided(self) -> bool:
        """Whether distribution words are learned; without a loss of their own they stay as drawn."""
        return not {"knowledge", "distribution-diversity"}.isdisjoint(self.loss_weights)

    def loss(self, prompts: ShiftPrompts, length: int) -> ShiftLoss:
        """Return the loss on prompts whose distribution words have ``length`` vectors."""
        known = None
        if self.reading == "descriptions":
            with torch.no_grad():
                known = embed_pieces(prompts.tower, prompts.tokenizer, [prompts.prefix], self.descriptions)
        elif self.reading == "mixtures":
            known = description_vectors(prompts.tower, prompts.tokenizer, self.descriptions, length)
        return ShiftLoss(prompts, self, prompts.anchors(), known)


@dataclass(frozen=True, eq=False)
class ShiftLoss:
    """The terms of the loss, each without its weight.

    Attributes:
        prompts: of learned words.
        how: which terms are on, and of what kind.
        anchors: embeddings of the prompts without learned words, (S, E).
        descriptions: their embeddings (D, E), or their word vectors (D, M, C) for mixtures.
    """

    prompts: ShiftPrompts
    how: Guidance
    anchors: Tensor
    descriptions: Tensor | None = None

    def words(self, guided: Tensor) -> Tensor:
        """Return the distribution words (J, M, C): what is learned, or its mixtures by logits (J, D)."""
        if self.how.reading != "mixtures":
            return guided
        assert self.descriptions is not None
        return torch.einsum("jd,dmc->jmc", guided.softmax(-1), self.descriptions)

    def terms(self, diversity: Tensor, guided: Tensor, batch: Pairs, compared: Tensor) -> dict[str, Tensor]:
        """Return the loss terms that are on.

        Args:
            diversity: diversity words, (K, M, C).
            guided: distribution words (J, M, C), or the logits of their mixtures (J, D).
            batch: pairs of prompts for the terms that look at prompts.
            compared: numbers of the diversity words that are pushed apart.
        """
        on, reading = self.how.loss_weights, self.how.reading
        words, found = self.words(guided), {}
        if "diversity" in on:
            found["diversity"] = diversity_loss(self._phi(diversity[compared]))
        if "distribution-diversity" in on:
            spread = guided.softmax(-1) if reading == "mixtures" else self._phi(words)
            found["distribution-diversity"] = diversity_loss(spread)
        if "knowledge" in on and reading == "descriptions":
            assert self.descriptions is not None
            found["knowledge"] = description_loss(self.prompts.alone(words), self.descriptions)
        anchored = "knowledge" in on and reading == "anchors"
        if "semantic" in on or anchored:
            sentences = torch.cat([batch.normal, batch.anomalous])
            both = [diversity[batch.diversity].repeat(2, 1, 1), words[batch.distribution].repeat(2, 1, 1)]
            features = self.prompts.joined(both, sentences)
            own = self.anchors[sentences]
            if "semantic" in on:
                other = self.anchors[torch.cat([batch.anomalous, batch.normal])]
                found["semantic"] = semantic_loss(features, own, other, self.how.semantic_temperature)
            if anchored:
                found["knowledge"] = anchor_loss(features, own)
        return found

    def _phi(self, words: Tensor) -> Tensor:
        return words.mean(1) if self.how.diversity_form == "vectors" else self.prompts.alone(words)


def least_mean_cosine(count: int, width: int) -> float:
    """Return a lower bound of the mean of ``|cos|`` over all pairs of ``count`` vectors of length ``width``.

    The mean of ``cos^2`` is at least ``(K - w) / (w (K - 1))`` (Welch, IEEE Trans. Inform. Theory 1974), and
    ``|cos| >= cos^2``. It is reached where an orthogonal basis is repeated.
    """
    return max(0.0, (count - width) / (width * (count - 1))) if count > 1 else 0.0


def measure(normal: Tensor, anomalous: Tensor, anchors: Tensor, pairs: Pairs) -> dict[str, float]:
    """Measure whether learned words led to one of the degenerate solutions.

    Args:
        normal, anomalous: embeddings of the prompts of ``pairs``, each (N, E).
        anchors: embeddings of the prompts without learned words, (S, E).
        pairs: which prompts those are.

    Returns:
        ``anchor_cosine_mean`` and ``anchor_cosine_min``: of prompts and their anchors; low where the words
        drown what the prompt says. ``prompt_cosine``: mean over pairs of different prompts with the same
        sentence; near one where learned words make no difference. ``accuracy``: share of prompts nearer to
        their own anchor than to the other side's. ``order``: share of pairs whose anomalous prompt lies
        further towards the anomalous anchor than its normal one.
    """
    features, own = torch.cat([normal, anomalous]), torch.cat([pairs.normal, pairs.anomalous])
    other = torch.cat([pairs.anomalous, pairs.normal])
    near, far = ((features * anchors[side]).sum(-1) for side in (own, other))
    towards = ((anomalous - normal) * (anchors[pairs.anomalous] - anchors[pairs.normal])).sum(-1)
    return {
        "anchor_cosine_mean": float(near.mean()),
        "anchor_cosine_min": float(near.min()),
        "prompt_cosine": _mean_cosine(features.double(), own),
        "accuracy": float((near > far).float().mean()),
        "order": float((towards > 0).float().mean()),
    }


def _mean_cosine(features: Tensor, group: Tensor) -> float:
    """Mean over all pairs of different rows (N, E) of one group (N,), in linear time; zero without pairs.

    Rows have length one, so the cosines of a group of n, each with each, sum up to ``|sum of rows|^2 - n``.
    """
    total, count = 0.0, 0
    for number in group.unique():
        rows = features[group == number]
        total += float(rows.sum(0).square().sum()) - len(rows)
        count += len(rows) * (len(rows) - 1)
    return total / max(count, 1)


@torch.no_grad()
def spread(prompts: ShiftPrompts, words: Mapping[str, Tensor]) -> dict[str, float]:
    """Measure how far apart learned words of a kind are, and how far apart so many could be.

    Returns:
        For each KIND of words (N, M, C) the mean of ``|cos|`` between the text features of its words, as
        ``KIND``, and its lower bound, as ``KIND_bound``.
    """
    found = {}
    for kind, vectors in words.items():
        features = torch.cat([prompts.alone(part) for part in vectors.split(_BATCH)])
        found[kind] = float(diversity_loss(features))
        found[f"{kind}_bound"] = least_mean_cosine(*features.shape)
    return found


def nearest_words(tower: TextTower, tokenizer: Tokenizer, words: Tensor) -> list[list[tuple[str, float]]]:
    """Return, for the reader, the vocabulary word nearest to each vector of each learned word (N, M, C).

    Word embeddings of the tower are compared; pieces of more than one token are left out.

    Returns:
        For each word M pairs of a vocabulary word and its cosine.
    """
    candidates = tokenizer.vocabulary
    ids, ends = tokenizer.encode(candidates)
    single = (ends == 2).nonzero()[:, 0]  # start, word, end
    table = tower.token_embedding.weight.detach().float().cpu()
    known = F.normalize(table[ids[single, 1]], dim=-1)
    best = (F.normalize(words.detach().float().cpu(), dim=-1) @ known.T).max(-1)  # (N, M)
    return [
        [(candidates[int(single[i])], round(float(c), 3)) for i, c in zip(places, cosines, strict=True)]
        for places, cosines in zip(best.indices, best.values, strict=True)
    ]
