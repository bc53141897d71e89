"""Learned words for distribution shift: losses against plain loops, prompts, learning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from short_fits import Workshop, noise
from zeroflaw import RWDA, UsageError, WordsError, load_backbone
from zeroflaw.detectors.learned import random_vectors
from zeroflaw.detectors.presets import parse_settings
from zeroflaw.detectors.shift_words import ShiftWords
from zeroflaw.detectors.shift_words.words import (
    Guidance,
    Pairs,
    ShiftLoss,
    ShiftPrompts,
    all_pairs,
    assign,
    description_loss,
    description_vectors,
    diversity_loss,
    least_mean_cosine,
    measure,
    nearest_words,
)
from zeroflaw.towers.backbone import Backbone

SENTENCES = ("object.", "broken object.", "damaged object.")


def unit(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=-1)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


@pytest.fixture(scope="module")
def tiny(tiny_backbone: Path) -> Backbone:
    return load_backbone(f"local-dir:{tiny_backbone}", device="cpu")


@pytest.fixture(scope="module")
def prompts(tiny: Backbone) -> ShiftPrompts:
    return ShiftPrompts(tiny.model.text, tiny.tokenizer, "a photo of", SENTENCES)


# --- losses, by hand


def test_the_diversity_loss_is_the_mean_absolute_cosine_of_all_pairs() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    rows = x.double().numpy()
    values = [abs(cosine(rows[i], rows[j])) for i in range(6) for j in range(i + 1, 6)]
    assert float(diversity_loss(x)) == pytest.approx(sum(values) / 15, rel=1e-5)
    assert float(diversity_loss(torch.eye(4))) == float(diversity_loss(x[:1])) == 0
    # The lower bound is reached by repeated axes.
    assert float(diversity_loss(torch.eye(5).repeat(2, 1))) == pytest.approx(least_mean_cosine(10, 5))
    assert least_mean_cosine(5, 5) == least_mean_cosine(1, 5) == 0
    for seed in range(5):
        assert float(diversity_loss(unit(9, 4, seed=seed))) > least_mean_cosine(9, 4) > 0


def test_every_description_gets_a_word_and_every_other_word_its_nearest() -> None:
    cosines = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.95, -0.5]])
    # (3, 0) is the nearest pair; description 1 then takes the free word nearest to it, 2; 0 and 1 choose 0.
    assert assign(cosines).tolist() == [0, 0, 1, 0]
    words, descriptions = unit(5, 6), unit(5, 6, seed=1)
    assert sorted(assign(words @ descriptions.T).tolist()) == [0, 1, 2, 3, 4]
    few = descriptions[:2]
    chosen = few[assign(words @ few.T)].double().numpy()
    far = [1 - cosine(w, d) for w, d in zip(words.double().numpy(), chosen, strict=True)]
    assert float(description_loss(words, few)) == pytest.approx(np.mean(far), rel=1e-5)


def test_mixtures_are_convex(prompts: ShiftPrompts) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, known = torch.randn(3, 2, generator=generator), torch.randn(2, 4, 5, generator=generator)
    loss = ShiftLoss(prompts, Guidance(reading="mixtures"), unit(3, 5), known)
    for mixed, row in zip(loss.words(logits), logits.exp(), strict=True):
        assert torch.allclose(mixed, (row[0] * known[0] + row[1] * known[1]) / row.sum(), atol=1e-6)


def test_descriptions_are_repeated_to_the_length_of_a_word(tiny: Backbone) -> None:
    tower, tokenizer = tiny.model.text, tiny.tokenizer
    ids, _ = tokenizer.encode(["bright image"])
    vectors = tower.token_embedding.weight[ids[0, 1:3]]
    (found,) = description_vectors(tower, tokenizer, ["bright image"], 3)
    assert torch.equal(found, vectors[[0, 1, 0]])
    with pytest.raises(WordsError, match="raise distribution_length"):
        description_vectors(tower, tokenizer, ["bright image"], 1)
    # The nearest vocabulary words of vocabulary vectors are themselves.
    assert nearest_words(tower, tokenizer, 3 * vectors[None]) == [[("bright", 1.0), ("image", 1.0)]]


# --- prompts


def test_a_prompt_of_vocabulary_vectors_is_the_prompt_written_out(
    tiny: Backbone, prompts: ShiftPrompts
) -> None:
    tower, tokenizer = tiny.model.text, tiny.tokenizer
    ids, _ = tokenizer.encode(["bright", "small dark"])
    table = tower.token_embedding.weight
    bright, small_dark = table[ids[0, 1:2]][None], table[ids[1, 1:3]][None]
    words = [bright.expand(3, -1, -1), small_dark.expand(3, -1, -1)]
    found = prompts.joined(words, torch.arange(3))
    written = tiny.embed_texts([f"a photo of bright small dark {text}" for text in SENTENCES])
    assert torch.allclose(found, written, atol=1e-5)
    assert torch.allclose(
        prompts.anchors(), tiny.embed_texts([f"a photo of {s}" for s in SENTENCES]), atol=1e-5
    )
    assert torch.allclose(prompts.alone(bright), tiny.embed_texts(["a photo of bright"]), atol=1e-5)
    with pytest.raises(WordsError, match="77 tokens"):
        prompts.joined([torch.zeros(1, 70, 32)], torch.tensor([1]))


def test_pairs_take_states_in_turn_and_every_word_meets_every_state() -> None:
    pairs = all_pairs(3, 4, objects=2, normal=1, anomalous=2)
    parts = (pairs.diversity, pairs.distribution, pairs.normal, pairs.anomalous)
    rows = [tuple(row) for row in torch.stack(parts, 1).tolist()]
    assert len(pairs) == len(rows) == 24
    assert rows[:5] == [(0, 0, 0, 1), (0, 1, 0, 2), (0, 2, 0, 1), (0, 3, 0, 2), (1, 0, 0, 2)]
    assert rows[12] == (0, 0, 3, 4)
    assert {(j, a) for _, j, _, a in rows[:12]} == {(j, a) for j in range(4) for a in (1, 2)}


def expected_terms(
    tiny: Backbone, prompts: ShiftPrompts, words: tuple[Tensor, Tensor], batch: Pairs
) -> dict[str, float]:
    """All terms of reading anchors, prompt by prompt, in double precision behind the tower."""

    def embed(ending: str, *vectors: Tensor) -> np.ndarray:
        table = tiny.model.text.token_embedding.weight
        ids, _ = tiny.tokenizer.encode([f"a photo of {ending}".strip()])
        prefix, rest = table[ids[0, :4]], table[ids[0, 4:]]
        whole = torch.cat([prefix, *vectors, rest])[None]
        return tiny.model.text.from_vectors(whole, torch.tensor([whole.shape[1] - 1]))[0].double().numpy()

    d, s = words
    found = {}
    for name, items in (("diversity", d), ("distribution-diversity", s)):
        phi = [embed("", item) for item in items]
        values = [abs(cosine(phi[i], phi[j])) for i in range(len(phi)) for j in range(i)]
        found[name] = sum(values) / len(values)
    g = [embed(text) for text in SENTENCES]
    semantic, knowledge = [], []
    for k, j, n, a in zip(batch.diversity, batch.distribution, batch.normal, batch.anomalous, strict=True):
        for own, other in ((int(n), int(a)), (int(a), int(n))):
            t = embed(SENTENCES[own], d[k], s[j])
            near, far = cosine(t, g[own]), cosine(t, g[other])
            semantic.append(-math.log(math.exp(near / 0.2) / (math.exp(near / 0.2) + math.exp(far / 0.2))))
            knowledge.append(1 - near)
    found["semantic"], found["knowledge"] = sum(semantic) / len(semantic), sum(knowledge) / len(knowledge)
    return found


def test_all_terms_agree_with_plain_loops(tiny: Backbone, prompts: ShiftPrompts) -> None:
    generator = torch.Generator().manual_seed(0)
    words = random_vectors(4, 2, 32, generator), random_vectors(3, 3, 32, generator)
    batch = all_pairs(4, 3, objects=1, normal=1, anomalous=2).take(torch.tensor([0, 5, 7]))
    loss = Guidance(semantic_temperature=0.2).loss(prompts, 3)
    found = {name: float(term) for name, term in loss.terms(*words, batch, torch.arange(4)).items()}
    assert found == pytest.approx(expected_terms(tiny, prompts, words, batch), rel=1e-4)


@pytest.mark.parametrize("reading", ["anchors", "descriptions", "mixtures"])
def test_gradients_reach_the_words_and_not_the_tower(
    tiny: Backbone, prompts: ShiftPrompts, reading: Any
) -> None:
    generator = torch.Generator().manual_seed(0)
    diversity = random_vectors(4, 2, 32, generator).requires_grad_()
    mixed = reading == "mixtures"
    guided = torch.randn(3, 2, generator=generator) if mixed else random_vectors(3, 3, 32, generator)
    guided.requires_grad_()
    loss = Guidance(reading=reading, descriptions=("dark image", "bright")).loss(prompts, 3)
    terms = loss.terms(diversity, guided, all_pairs(4, 3, objects=1, normal=1, anomalous=2), torch.arange(4))
    assert len(terms) == (3 if mixed else 4)
    torch.stack(list(terms.values())).sum().backward()
    for words in (diversity, guided):
        assert words.grad is not None
        assert float(words.grad.flatten(1).norm(dim=1).min()) > 0
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


# --- what went wrong


def test_measures_by_hand() -> None:
    anchors, pairs = unit(3, 6, seed=5), all_pairs(3, 2, objects=1, normal=1, anomalous=2)
    normal, anomalous = unit(6, 6, seed=6), unit(6, 6, seed=7)
    own, right, ordered, alike = [], [], [], []
    for i in range(6):
        g, h = anchors[pairs.normal[i]].numpy(), anchors[pairs.anomalous[i]].numpy()
        n, a = normal[i].numpy(), anomalous[i].numpy()
        own += [cosine(n, g), cosine(a, h)]
        right += [cosine(n, g) > cosine(n, h), cosine(a, h) > cosine(a, g)]
        ordered.append(cosine(a, h) - cosine(a, g) > cosine(n, h) - cosine(n, g))
        for j in range(6):
            if i != j and pairs.normal[i] == pairs.normal[j]:
                alike.append(cosine(n, normal[j].numpy()))
            if i != j and pairs.anomalous[i] == pairs.anomalous[j]:
                alike.append(cosine(a, anomalous[j].numpy()))
    assert len(alike) == 6 * 5 + 2 * 3 * 2
    found = measure(normal, anomalous, anchors, pairs)
    expected = {
        "anchor_cosine_mean": np.mean(own),
        "anchor_cosine_min": min(own),
        "prompt_cosine": np.mean(alike),
        "accuracy": np.mean(right),
        "order": np.mean(ordered),
    }
    assert found == pytest.approx(expected, abs=1e-5)
    assert 0 < expected["accuracy"] < 1
    assert 0 < expected["order"] < 1


@pytest.mark.parametrize("sign", [1, -1])
def test_labels_that_mean_nothing_are_refused(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, sign: int
) -> None:
    """With anchors turned round, the order of every pair is turned round."""

    def turned(normal: Tensor, anomalous: Tensor, anchors: Tensor, pairs: Pairs) -> dict[str, float]:
        return measure(normal, anomalous, sign * anchors, pairs)

    monkeypatch.setattr("zeroflaw.detectors.shift_words.detector.measure", turned)
    order = workshop.fit("shift-words").words_["guards"]["order"]
    detector = workshop.make("shift-words", least_order=0.5)
    if order >= 0.5:
        assert detector.fit().is_fitted
        return
    with pytest.raises(UsageError, match=f"only {order:.0%} .*drowned; turn the semantic loss on"):
        detector.fit()
    assert not detector.is_fitted


def test_prompts_that_are_all_the_same_are_refused(workshop: Workshop) -> None:
    collapsing = {"losses": ("knowledge",), "word_rate": 0.02, "steps": 100, "word_batch": 12}
    drawn, collapsed = (
        workshop.fit("shift-words", **kind).words_["guards"]["prompt_cosine"]
        for kind in ({"steps": 0}, collapsing)
    )
    assert collapsed > drawn
    between = (drawn + collapsed) / 2
    workshop.fit("shift-words", most_alike=between, steps=0)
    with pytest.raises(UsageError, match=r"nearly the same.*turn the diversity losses on"):
        workshop.fit("shift-words", most_alike=between, **collapsing)


# --- the detector


@pytest.mark.parametrize("reading", ["anchors", "descriptions", "mixtures"])
def test_learning_lowers_its_own_loss(workshop: Workshop, reading: Any) -> None:
    settings = {"reading": reading, "descriptions": ("bright", "dark"), "word_batch": 12, "word_rate": 3e-3}
    first, last = (workshop.fit("shift-words", **settings, steps=steps).words_["losses"] for steps in (1, 30))
    totals = [
        sum(weight * part["last"][name] for name, weight in part["weights"].items()) for part in (first, last)
    ]
    assert totals[1] < totals[0] - 0.01


def test_only_the_words_differ_from_the_random_word_detector(workshop: Workshop) -> None:
    theirs, ours = workshop.fit("rwda"), workshop.fit("shift-words")
    assert ours.words_["prompt"] == theirs.words_["prompt"]
    (a,), (b,) = (detector.predict(noise(1)) for detector in (theirs, ours))
    assert a.scores["prompt"] == pytest.approx(b.scores["prompt"], abs=1e-6)
    random, learned = RWDA().get_params(), ShiftWords().get_params()
    assert all(learned[name] == value for name, value in random.items() if name in learned)


def test_words_of_a_loss_that_is_off_stay_as_drawn(workshop: Workshop) -> None:
    def vectors(**settings: Any) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = workshop.fit("shift-words", **settings).fitted_.learned
        return found

    drawn, only = vectors(steps=0), vectors(losses=("diversity", "semantic"))
    np.testing.assert_array_equal(only["distribution"], drawn["distribution"])
    assert not np.array_equal(only["diversity"], drawn["diversity"])
    np.testing.assert_array_equal(vectors(mixture_weight=0.0)["diversity"], only["diversity"])
    assert not np.array_equal(vectors()["distribution"], drawn["distribution"])


def test_the_card_and_the_words_say_how_the_words_were_learned(workshop: Workshop) -> None:
    settings = [
        "objects=metal_nut,pill",
        "losses=diversity,distribution-diversity",
        "descriptions=bright,dark",
    ]
    detector = workshop.fit("shift-words-k3", **parse_settings("shift-words", settings))
    words, card = detector.words_, detector.card_
    assert words["semantic"]["objects"] == ["metal nut", "pill"]
    assert np.allclose(np.sum(words["mixtures"], axis=1), 1, atol=1e-5)
    assert len(words["nearest"]["diversity"]) == 4
    for said in (
        "56 pairs of prompts",
        "losses diversity 1, distribution-diversity 0.5; **shooting conditions named in prompts**",
        "broken metal nut.",
        "Objects in training prompts: metal nut, pill",
        f"cosine {words['guards']['anchor_cosine_mean']:.3f} on average",
    ):
        assert said in card
    plain = workshop.fit("shift-words", losses=("diversity",)).card_
    assert "losses diversity 1; distribution words as drawn\n" in plain
