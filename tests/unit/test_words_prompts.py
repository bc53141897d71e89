"""Prompts of the two-prompt score and of the training pairs."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroflaw.errors import UsageError, WordsError
from zeroflaw.words import RandomWords, Vocabulary, pair_prompts, training_prompts

WORDS = ["kqe wop", "abc"]


def first(**choices: Any) -> str:
    """The anomalous prompt of the first pair."""
    return training_prompts(WORDS, **choices)[1][0]


# --- the two-prompt score ---------------------------------------------------------------------------


def test_pair_prompts() -> None:
    assert pair_prompts() == ("a photo of a normal object", "a photo of a anomalous object")
    assert pair_prompts("metal_nut", articles="agree")[1] == "a photo of an anomalous metal nut"
    assert pair_prompts(unknown="omit", articles="the") == (
        "a photo of the normal",
        "a photo of the anomalous",
    )
    assert pair_prompts("nut", states=("{} in order", "bent"), template="the {}") == (
        "the nut in order",
        "the bent nut",
    )


def test_pair_prompts_refuse() -> None:
    with pytest.raises(WordsError, match=r"template must hold \{\} exactly once"):
        pair_prompts(template="a photo")
    with pytest.raises(WordsError, match=r"states must differ, got 'bent \{\}' in both"):
        pair_prompts(states=("bent", "Bent {}"))
    with pytest.raises(WordsError, match="object name must not be empty"):
        pair_prompts("")


# --- the training pairs -----------------------------------------------------------------------------


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


def test_state_phrases_around_the_object() -> None:
    around = {"states": ("fine {}", "{} with flaw"), "object": "nut"}
    assert first(**around) == "a photo of a kqe wop nut with flaw"
    assert first(**around, position="end") == "a photo of a nut with flaw kqe wop"
    assert first(states=("fine", "{} with flaw")) == "a photo of a kqe wop with flaw"


def test_articles_agree_with_what_follows() -> None:
    assert first(articles="agree") == "a photo of an anomalous kqe wop"
    assert first(articles="agree", position="start") == "a photo of a kqe wop anomalous"


def test_braces_in_words_mean_nothing() -> None:
    assert training_prompts(["{} {0} }"])[0] == ["a photo of a normal {} {0} }"]


def test_several_states_meet_in_every_combination() -> None:
    ensemble = Vocabulary.ensemble()
    states = (ensemble.normal, ensemble.anomalous)
    normal, anomalous = training_prompts(["w"] * 56, states=states, object="nut")
    assert set(Counter(zip(normal, anomalous, strict=True)).values()) == {2}
    assert set(product(set(normal), set(anomalous))) == set(zip(normal, anomalous, strict=True))
    assert len(set(normal)) == 7
    assert len(set(anomalous)) == 4


def test_no_words_no_prompts() -> None:
    assert training_prompts([]) == ([], [])


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        (
            {"position": "midle"},
            "position must be one of start, middle, end, got 'midle'; did you mean 'middle'",
        ),
        ({"articles": "teh"}, "articles must be one of"),
        ({"trailing_object": True, "object": "nut"}, "got the object 'nut' too; give only one"),
        ({"template": "{} {}"}, "template must hold {} exactly once"),
        ({"object": " "}, "object name must not be empty"),
        ({"states": ("normal",)}, "states must be a normal and an anomalous one"),
        ({"states": "no"}, "states must be a normal and an anomalous one, got 'no'"),
        ({"states": ("same", "same {}")}, "states must differ, got 'same {}'"),
        ({"states": ("normal", ())}, "anomalous states must list at least one entry"),
        ({"states": ("normal", "")}, "anomalous states entry 1 must not be empty"),
    ],
)
def test_refusals(choices: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        training_prompts(WORDS, **choices)


def test_one_string_instead_of_a_list_is_refused() -> None:
    with pytest.raises(
        UsageError, match="a list of strings of random words was wanted, got one string 'abc'"
    ):
        training_prompts("abc")


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
