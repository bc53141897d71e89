"""Articles: which one is touched, and how."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroflaw.words.articles import fill, indefinite


@pytest.mark.parametrize(
    ("template", "literal", "agree", "the", "none"),
    [
        ("one of a {}", "one of a odd nut", "one of an odd nut", "one of the odd nut", "one of odd nut"),
        ("A {}", "A odd nut", "An odd nut", "The odd nut", "odd nut"),
        ("a view of an {}", *["a view of an odd nut"] * 2, "a view of the odd nut", "a view of odd nut"),
        ("a photo of the {}", *["a photo of the odd nut"] * 3, "a photo of odd nut"),
        (
            "a photo of a very small {} on a table",
            "a photo of a very small odd nut on a table",
            "a photo of a very small odd nut on a table",
            "a photo of the very small odd nut on a table",
            "a photo of very small odd nut on a table",
        ),
        ("a photo of {}", *["a photo of odd nut"] * 4),
        ("a photo: {}", *["a photo: odd nut"] * 4),
        ("{}", *["odd nut"] * 4),
    ],
)  # fmt: skip
def test_modes(template: str, literal: str, agree: str, the: str, none: str) -> None:
    assert fill(template, "odd nut") == literal
    assert fill(template, "odd nut", "literal") == literal
    assert fill(template, "odd nut", "agree") == agree
    assert fill(template, "odd nut", "the") == the
    assert fill(template, "odd nut", "none") == none


def test_agreeing_looks_at_the_next_word_only() -> None:
    assert fill("a photo of an {}", "nut in oil", "agree") == "a photo of a nut in oil"
    assert fill("a photo of a {}", "", "agree") == "a photo of a"


@pytest.mark.parametrize(
    ("article", "words"),
    [
        (
            "an",
            "anomalous unblemished apple object intact hour honest LED f x 8 8mm 80 11 18 18000 unidentified",
        ),
        (
            "a",
            "normal damaged unit uniform used unique European one-piece PCB USB 7 100 1100 118 ubiquitous",
        ),
    ],
)
def test_indefinite(article: str, words: str) -> None:
    assert {word: indefinite(word) for word in words.split()} == dict.fromkeys(words.split(), article)


@settings(max_examples=40, deadline=None)
@given(
    phrase=st.text(alphabet="ab{} \\%the", max_size=15),
    articles=st.sampled_from(["literal", "agree", "the", "none"]),
)
def test_phrase_is_never_changed(phrase: str, articles: str) -> None:
    filled = fill("a photo of a {} here", phrase, articles)  # type: ignore[arg-type]
    middle = " ".join(phrase.split())
    assert filled in {
        " ".join(f"a photo of {article} {middle} here".split()) for article in ("a", "an", "the", "")
    }
