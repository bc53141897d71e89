"""Learned words for distribution shift: losses against plain loops, learning, resuming, refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from zeroflaw import RWDA, UsageError, WordsError, load, load_backbone
from zeroflaw.detectors.learned import random_vectors
from zeroflaw.detectors.presets import parse_settings
from zeroflaw.detectors.shift_words import ShiftWords
from zeroflaw.detectors.shift_words.words import (
    Pairs,
    ShiftLoss,
    ShiftPrompts,
    all_pairs,
    anchor_loss,
    assign,
    description_loss,
    description_vectors,
    diversity_loss,
    least_mean_cosine,
    measure,
    nearest_words,
    semantic_loss,
)
from zeroflaw.towers.backbone import Backbone

FAST: dict[str, Any] = {
    "n_diversity": 4,
    "n_distribution": 3,
    "steps": 6,
    "word_batch": 4,
    "checkpoint_every": 2,
    "epochs": 1,
    "hidden": (8,),
    "most_alike": 1.0,
    "least_order": 0,  # the tiny tower holds random numbers: what its prompts say means nothing
}
SENTENCES = ("object.", "broken object.", "damaged object.")


def new(backbone: Path, **parameters: Any) -> ShiftWords:
    return ShiftWords(backbone=f"local-dir:{backbone}", **{**FAST, **parameters})


def unit(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=-1)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(sum(x * y for x, y in zip(a, b, strict=True))) / math.sqrt(
        sum(x * x for x in a) * sum(y * y for y in b)
    )


@pytest.fixture(scope="module")
def tiny(tiny_backbone: Path) -> Backbone:
    return load_backbone(f"local-dir:{tiny_backbone}", device="cpu")


@pytest.fixture(scope="module")
def prompts(tiny: Backbone) -> ShiftPrompts:
    return ShiftPrompts(tiny.model.text, tiny.tokenizer, "a photo of", SENTENCES)


# --- losses, by hand ---


def test_the_diversity_loss_is_the_mean_absolute_cosine_of_all_pairs() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    rows = x.double().numpy()
    values = [abs(cosine(rows[i], rows[j])) for i in range(6) for j in range(i + 1, 6)]
    assert float(diversity_loss(x)) == pytest.approx(sum(values) / 15, rel=1e-5)
    assert float(diversity_loss(torch.eye(4))) == 0
    assert float(diversity_loss(x[:1])) == 0


def test_the_semantic_loss_is_a_cross_entropy_between_two_anchors() -> None:
    t, own, other = unit(7, 5), unit(7, 5, seed=1), unit(7, 5, seed=2)
    total = 0.0
    for f, g, h in zip(*(x.double().numpy() for x in (t, own, other)), strict=True):
        a, b = math.exp(cosine(f, g) / 0.1), math.exp(cosine(f, h) / 0.1)
        total -= math.log(a / (a + b))
    assert float(semantic_loss(t, own, other, 0.1)) == pytest.approx(total / 7, rel=1e-5)


def test_knowledge_of_the_first_reading_is_the_distance_from_the_anchors() -> None:
    t, own = unit(7, 5), unit(7, 5, seed=1)
    values = [1 - cosine(f, g) for f, g in zip(t.double().numpy(), own.double().numpy(), strict=True)]
    assert float(anchor_loss(t, own)) == pytest.approx(sum(values) / 7, rel=1e-5)
    assert float(anchor_loss(own, own)) == pytest.approx(0, abs=1e-6)


def test_every_description_gets_a_word_and_every_other_word_its_nearest() -> None:
    cosines = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.95, -0.5]])
    # (3, 0) is the nearest pair; description 1 then takes the free word nearest to it, 2; 0 and 1 choose 0.
    assert assign(cosines).tolist() == [0, 0, 1, 0]
    words, descriptions = unit(5, 6), unit(5, 6, seed=1)
    assert sorted(assign(words @ descriptions.T).tolist()) == [0, 1, 2, 3, 4]


def test_knowledge_of_the_second_reading_is_the_distance_from_the_assigned_description() -> None:
    words, descriptions = unit(4, 6), unit(2, 6, seed=1)
    w, d = words.double().numpy(), descriptions.double().numpy()
    table = [[cosine(a, b) for b in d] for a in w]
    found = {}
    while len(set(found.values())) < 2:
        _, j, n = max(
            (table[j][n], j, n)
            for j in range(4)
            for n in range(2)
            if j not in found and n not in found.values()
        )
        found[j] = n
    for j in range(4):
        found.setdefault(j, 0 if table[j][0] > table[j][1] else 1)
    expected = sum(1 - table[j][n] for j, n in found.items()) / 4
    assert float(description_loss(words, descriptions)) == pytest.approx(expected, rel=1e-5)


def test_mixtures_are_convex(prompts: ShiftPrompts) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, known = torch.randn(3, 2, generator=generator), torch.randn(2, 4, 5, generator=generator)
    found = ShiftLoss(prompts, unit(3, 5), (), "mixtures", descriptions=known).words(logits)
    for j in range(3):
        a, b = (math.exp(float(value)) for value in logits[j])
        assert torch.allclose(found[j], (a * known[0] + b * known[1]) / (a + b), atol=1e-6)


def test_descriptions_are_repeated_to_the_length_of_a_word(tiny: Backbone) -> None:
    ids, _ = tiny.tokenizer.encode(["bright image"])
    bright, image = tiny.model.text.token_embedding.weight[ids[0, 1:3]]
    (found,) = description_vectors(tiny.model.text, tiny.tokenizer, ["bright image"], 3)
    assert torch.equal(found, torch.stack([bright, image, bright]))
    with pytest.raises(WordsError, match="raise distribution_length"):
        description_vectors(tiny.model.text, tiny.tokenizer, ["bright image"], 1)


# --- prompts ---


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


def test_a_prompt_that_is_too_long_is_refused(prompts: ShiftPrompts) -> None:
    with pytest.raises(WordsError, match="77 tokens"):
        prompts.joined([torch.zeros(1, 70, 32)], torch.tensor([1]))


def test_pairs_take_states_in_turn_and_every_word_meets_every_state() -> None:
    pairs = all_pairs(3, 4, objects=2, normal=1, anomalous=2)
    assert len(pairs) == 24
    rows = list(
        zip(
            *(x.tolist() for x in (pairs.diversity, pairs.distribution, pairs.normal, pairs.anomalous)),
            strict=True,
        )
    )
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
    on = ("diversity", "semantic", "knowledge", "distribution-diversity")
    loss = ShiftLoss(prompts, prompts.anchors(), on, temperature=0.2)
    found = loss.terms(*words, batch, torch.arange(4))
    expected = expected_terms(tiny, prompts, words, batch)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("reading", ["anchors", "descriptions", "mixtures"])
def test_gradients_reach_the_words_and_not_the_tower(
    tiny: Backbone, prompts: ShiftPrompts, reading: Any
) -> None:
    generator = torch.Generator().manual_seed(0)
    d = random_vectors(4, 2, 32, generator).requires_grad_()
    known = {
        "anchors": None,
        "descriptions": unit(2, 24),
        "mixtures": torch.randn(2, 3, 32, generator=generator),
    }[reading]
    guided = (
        torch.randn(3, 2, generator=generator)
        if reading == "mixtures"
        else random_vectors(3, 3, 32, generator)
    )
    guided.requires_grad_()
    on = ("diversity", "semantic", "knowledge", "distribution-diversity")
    loss = ShiftLoss(prompts, prompts.anchors(), on, reading, descriptions=known)
    batch = all_pairs(4, 3, objects=1, normal=1, anomalous=2)
    terms = loss.terms(d, guided, batch, torch.arange(4))
    assert set(terms) == set(on) - ({"knowledge"} if reading == "mixtures" else set())
    torch.stack(list(terms.values())).sum().backward()
    for words in (d, guided):
        assert words.grad is not None
        assert float(words.grad.flatten(1).norm(dim=1).min()) > 0
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


# --- what went wrong ---


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


def test_the_lower_bound_of_the_mean_cosine_is_reached_by_repeated_axes() -> None:
    twice = torch.eye(5).repeat(2, 1)
    assert float(diversity_loss(twice)) == pytest.approx(least_mean_cosine(10, 5))
    assert least_mean_cosine(5, 5) == least_mean_cosine(1, 5) == 0
    for seed in range(5):
        assert float(diversity_loss(unit(9, 4, seed=seed))) > least_mean_cosine(9, 4) > 0


def test_the_nearest_vocabulary_words_of_vocabulary_vectors_are_themselves(tiny: Backbone) -> None:
    ids, _ = tiny.tokenizer.encode(["bright image"])
    vectors = 3 * tiny.model.text.token_embedding.weight[ids[:, 1:3]]
    ((first, second),) = nearest_words(tiny.model.text, tiny.tokenizer, vectors)
    assert (first, second) == (("bright", 1.0), ("image", 1.0))


@pytest.mark.parametrize("sign", [1, -1])
def test_labels_that_mean_nothing_are_refused(
    tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch, sign: int
) -> None:
    """With anchors turned round, the order of every pair is turned round."""

    def turned(normal: Tensor, anomalous: Tensor, anchors: Tensor, pairs: Pairs) -> dict[str, float]:
        return measure(normal, anomalous, sign * anchors, pairs)

    monkeypatch.setattr("zeroflaw.detectors.shift_words.detector.measure", turned)
    order = guards(new(tiny_backbone).fit())["order"]
    detector = new(tiny_backbone, least_order=0.5)
    if order >= 0.5:
        assert detector.fit().is_fitted
        return
    with pytest.raises(UsageError, match=f"only {order:.0%} .*drowned; turn the semantic loss on"):
        detector.fit()
    assert not detector.is_fitted


def test_prompts_that_are_all_the_same_are_refused(tiny_backbone: Path) -> None:
    collapsing = {"losses": ("knowledge",), "word_rate": 0.02, "steps": 100, "word_batch": 12}
    drawn, collapsed = (
        guards(new(tiny_backbone, most_alike=1.0, **kind).fit())["prompt_cosine"]
        for kind in ({"steps": 0}, collapsing)
    )
    assert collapsed > drawn
    between = (drawn + collapsed) / 2
    new(tiny_backbone, most_alike=between, steps=0).fit()
    with pytest.raises(UsageError, match=r"nearly the same.*turn the diversity losses on"):
        new(tiny_backbone, most_alike=between, **collapsing).fit()


def test_a_loss_that_is_no_number_stops_the_fit_and_leaves_the_checkpoint(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(10))

    def broken(features: Tensor, own: Tensor, other: Tensor, temperature: float) -> Tensor:
        return semantic_loss(features, own, other, temperature) * (math.nan if next(calls) == 4 else 1)

    monkeypatch.setattr("zeroflaw.detectors.shift_words.words.semantic_loss", broken)
    kept = tmp_path / "kept"
    with pytest.raises(UsageError, match=r"stopped at step 5: .*semantic nan.*seed 0.*smaller word_rate"):
        new(tiny_backbone).fit(checkpoint=kept)
    seen: list[int] = []
    monkeypatch.setattr("zeroflaw.detectors.shift_words.words.semantic_loss", semantic_loss)
    new(tiny_backbone).fit(
        checkpoint=kept, progress=lambda what, done, _: seen.append(done) if what == "learned words" else None
    )
    assert seen == [5, 6]


# --- the detector ---


def guards(detector: ShiftWords) -> dict[str, float]:
    return dict(detector.words_["guards"])


def vectors(detector: ShiftWords) -> dict[str, Tensor]:
    assert detector.fitted_ is not None
    return {name: torch.from_numpy(words) for name, words in detector.fitted_.learned.items()}


@pytest.mark.parametrize("reading", ["anchors", "descriptions", "mixtures"])
def test_learning_lowers_its_own_loss(tiny_backbone: Path, reading: Any) -> None:
    settings = {"reading": reading, "descriptions": ("bright", "dark"), "word_batch": 12, "word_rate": 3e-3}
    first, last = (new(tiny_backbone, **settings, steps=steps).fit().words_["losses"] for steps in (1, 30))
    totals = [
        sum(weight * part["last"][name] for name, weight in part["weights"].items()) for part in (first, last)
    ]
    assert totals[1] < totals[0] - 0.01


def test_only_the_words_differ_from_the_random_word_detector(tiny_backbone: Path) -> None:
    theirs = RWDA(backbone=f"local-dir:{tiny_backbone}", n_pairs=12, epochs=1, hidden=(8,)).fit()
    ours = new(tiny_backbone).fit()
    assert ours.words_["prompt"] == theirs.words_["prompt"]
    images = [np.full((20, 20, 3), 60, dtype=np.uint8)]
    (a,), (b,) = theirs.predict(images), ours.predict(images)
    assert a.scores["prompt"] == pytest.approx(b.scores["prompt"], abs=1e-6)
    shared = set(theirs.get_params()) & set(ours.get_params())
    assert {name: RWDA().get_params()[name] for name in shared} == {
        name: ShiftWords().get_params()[name] for name in shared
    }


def test_words_of_a_loss_that_is_off_stay_as_drawn(tiny_backbone: Path) -> None:
    drawn = vectors(new(tiny_backbone, steps=0).fit())
    only = vectors(new(tiny_backbone, losses=("diversity", "semantic")).fit())
    assert torch.equal(only["distribution"], drawn["distribution"])
    assert not torch.equal(only["diversity"], drawn["diversity"])
    light = vectors(new(tiny_backbone, mixture_weight=0.0).fit())
    assert torch.equal(light["diversity"], only["diversity"])
    assert not torch.equal(vectors(new(tiny_backbone).fit())["distribution"], drawn["distribution"])


def test_same_seed_same_words(tiny_backbone: Path) -> None:
    state = torch.get_rng_state()
    one, two, other = (vectors(new(tiny_backbone, seed=seed, compared=3).fit()) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for name in one:
        assert torch.equal(one[name], two[name])
        assert not torch.equal(one[name], other[name])


def test_what_is_saved_says_how_the_words_were_learned(tiny_backbone: Path, tmp_path: Path) -> None:
    settings = {"reading": "mixtures", "descriptions": ("bright", "dark"), "objects": ("metal_nut", "pill")}
    detector = new(tiny_backbone, **settings).fit()
    detector.save(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert isinstance(again, ShiftWords)
    for name, words in vectors(detector).items():
        assert torch.equal(vectors(again)[name], words)
    assert again.words_["semantic"]["objects"] == ["metal nut", "pill"]
    assert np.allclose(np.sum(again.words_["mixtures"], axis=1), 1, atol=1e-5)
    assert len(again.words_["nearest"]["diversity"]) == 4
    card = again.card_
    assert card == detector.card_
    assert "24 pairs of prompts" in card
    assert "shooting conditions named in prompts" in card
    assert "broken metal nut." in card
    assert "Objects in training prompts: metal nut, pill" in card
    assert f"cosine {guards(again)['anchor_cosine_mean']:.3f} on average" in card
    assert "named in prompts" not in new(tiny_backbone).fit().card_


# --- interrupted fits ---


@pytest.mark.parametrize("step", [1, 3, 6])
@pytest.mark.parametrize("reading", ["anchors", "mixtures"])
def test_a_resumed_fit_ends_with_the_same_bytes(
    tiny_backbone: Path, tmp_path: Path, reading: Any, step: int
) -> None:
    settings = {"reading": reading, "descriptions": ("bright", "dark"), "compared": 3}
    new(tiny_backbone, **settings).fit().save(tmp_path / "whole")
    kept, seen = tmp_path / "kept", []

    def stop(what: str, done: int, total: int) -> None:
        if (what, done) == ("learned words", step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new(tiny_backbone, **settings).fit(checkpoint=kept, progress=stop)
    assert kept.exists() == (step >= FAST["checkpoint_every"])
    resumed = new(tiny_backbone, **settings)
    resumed.fit(checkpoint=kept, progress=lambda what, done, _: seen.append((what, done)))
    resumed.save(tmp_path / "resumed")
    done = [number for what, number in seen if what == "learned words"]
    assert done == list(range(step // 2 * 2 + 1, 7))
    for name in ("head.safetensors", "words.json", "config.json", "README.md"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()


def test_a_checkpoint_of_another_fit_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    new(tiny_backbone).fit(checkpoint=tmp_path / "kept")
    with pytest.raises(UsageError, match="other values of word_rate"):
        new(tiny_backbone, word_rate=0.1).fit(checkpoint=tmp_path / "kept")
    new(tiny_backbone, most_alike=0.9999).fit(checkpoint=tmp_path / "kept")  # nothing that words depend on


def test_parameters_written_as_text() -> None:
    settings = ["objects=nut,metal_nut", "losses=diversity,semantic", "descriptions=blur,dim light"]
    detector = ShiftWords(**parse_settings("shift-words", settings))
    assert detector.objects == ("nut", "metal nut")
    assert detector.losses == ("diversity", "semantic")
    assert detector.descriptions == ("blur", "dim light")


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"reading": "K4"}, "reading must be one of"),
        ({"losses": ("diverse",)}, "did you mean 'diversity'"),
        ({"losses": ()}, "no loss is left"),
        ({"losses": ("knowledge",), "reading": "mixtures"}, "no loss is left"),
        ({"losses": ("knowledge",), "mixture_weight": 0}, "use steps=0"),
        ({"n_distribution": 0}, "n_distribution must be"),
        ({"reading": "descriptions", "n_distribution": 3}, "no more than n_distribution=3, got 7"),
        ({"reading": "mixtures", "descriptions": ("bright",)}, "at least 2 descriptions"),
        ({"reading": "descriptions", "descriptions": ("bright", " ")}, "a description must not be empty"),
        ({"knowledge_share": 1.5}, "knowledge_share must be a number from 0 to 1"),
        ({"semantic_anomalous": ("{}.",)}, "share a phrase"),
        ({"objects": ()}, "objects must be several of: text .at least 1"),
        ({"objects": ("metal_nut", "Metal nut")}, "each entry once"),
        ({"prefix": "a {} of"}, "exactly once"),
        ({"n_diversity": 50_000, "n_distribution": 50}, "may make 1,000,000 pairs"),
        ({"steps": -1}, "steps must be"),
        ({"epochs": 0}, "epochs must be"),
    ],
)
def test_wrong_parameters_are_refused_before_the_backbone_is_touched(
    parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        ShiftWords(**{"backbone": "local-dir:nowhere", **parameters}).fit()
