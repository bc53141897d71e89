"""Prompts of the training pairs."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroflaw import RWDA
from zeroflaw.words import ENSEMBLE_ANOMALOUS, ENSEMBLE_NORMAL, RandomWords, training_prompts
from zeroflaw.words.phrases import visible

WORDS = ["kqe wop", "abc"]


def first(**choices: Any) -> str:
    """The anomalous prompt of the first pair."""
    return training_prompts(WORDS, **choices)[1][0]


def test_defaults_are_the_unknown_object() -> None:
    normal, anomalous = training_prompts(WORDS)
    assert normal == ["a photo of a normal kqe wop", "a photo of a normal abc"]
    assert anomalous == ["a photo of a anomalous kqe wop", "a photo of a anomalous abc"]


@pytest.mark.parametrize(
    ("choices", "prompt"),
    [
        ({"object": "metal_nut"}, "a photo of a bent kqe wop metal nut"),
        ({"object": "metal_nut", "position": "start"}, "a photo of a kqe wop bent metal nut"),
        ({"object": "metal_nut", "position": "end"}, "a photo of a bent metal nut kqe wop"),
        ({"trailing_object": True}, "a photo of a bent kqe wop object"),
        ({"position": "start"}, "a photo of a kqe wop bent"),
        ({"position": "end"}, "a photo of a bent kqe wop"),
        ({"articles": "the", "object": "nut"}, "a photo of the bent kqe wop nut"),
        ({"articles": "none"}, "a photo of bent kqe wop"),
        ({"template": "{} for visual inspection"}, "bent kqe wop for visual inspection"),
    ],
)
def test_positions(choices: dict[str, Any], prompt: str) -> None:
    assert first(states=("fine", "bent"), **choices) == prompt


def test_state_phrases_and_articles_around_the_object() -> None:
    around = {"states": ("fine {}", "{} with flaw"), "object": "nut"}
    assert first(**around) == "a photo of a kqe wop nut with flaw"
    assert first(**around, position="end") == "a photo of a nut with flaw kqe wop"
    assert first(states=("fine", "{} with flaw")) == "a photo of a kqe wop with flaw"
    assert first(articles="agree") == "a photo of an anomalous kqe wop"
    assert first(articles="agree", position="start") == "a photo of a kqe wop anomalous"
    assert training_prompts(["{} {0} }"])[0] == ["a photo of a normal {} {0} }"]  # braces mean nothing


def test_several_states_meet_in_every_combination() -> None:
    states = (ENSEMBLE_NORMAL, ENSEMBLE_ANOMALOUS)
    normal, anomalous = training_prompts(["w"] * 56, states=states, object="nut")
    assert set(Counter(zip(normal, anomalous, strict=True)).values()) == {2}
    assert set(product(set(normal), set(anomalous))) == set(zip(normal, anomalous, strict=True))
    assert len(set(normal)) == 7
    assert len(set(anomalous)) == 4


def test_a_fit_checks_each_phrase_once(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: Counter[str] = Counter()

    def counting(value: str, what: str, most: int) -> str:
        checked[value] += 1
        return visible(value, what, most)

    monkeypatch.setattr("zeroflaw.words.phrases.visible", counting)
    RWDA(backbone=f"local-dir:{tiny_backbone}", n_pairs=50, epochs=1, hidden=(8,)).fit()
    assert checked == {"normal": 1, "anomalous": 1, "a photo of a {}": 1}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 5),
    known=st.sampled_from([None, "metal_nut"]),
    position=st.sampled_from(["start", "middle", "end"]),
    articles=st.sampled_from(["literal", "the", "none"]),
)
def test_pairs_differ_in_the_state_word_alone(
    seed: int, count: int, known: str | None, position: Any, articles: Any
) -> None:
    words = RandomWords(count=count).draw(8, seed)
    normal, anomalous = training_prompts(words, object=known, position=position, articles=articles)
    assert len(normal) == len(anomalous) == 8
    for random, left, right in zip(words, normal, anomalous, strict=True):
        pairs = list(zip(left.split(), right.split(), strict=True))
        assert [pair for pair in pairs if pair[0] != pair[1]] == [("normal", "anomalous")]
        assert f" {random}" in left
        assert ("metal nut" in left) == (known is not None)
