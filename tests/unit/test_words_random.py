"""Random words: golden draws, ranges, refusals, the bundled dictionary."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroflaw.errors import UsageError
from zeroflaw.words import RandomWords, default_dictionary, words_sha256

PIECES = ["ab", "c", "xyz", "thing", "ment"]

GOLDEN: list[tuple[dict[str, Any], int, str]] = [
    (
        {},
        0,
        "sqooyhvr akwoat swecwa|ochm kkaa dar|nqg qtj lzuz|jryqvrs kwdpsv njikmsxb|ynjrog ispnit kixgfsqb",
    ),
    (
        {"kind": "digits"},
        0,
        "76559286 038507 781080|5024 4400 106|562 673 4989|3696867 381578 53344780|953652 375537 33822760",
    ),
    (
        {"kind": "tokens", "count": (1, 4)},
        7,
        "thing ment c ab|c c ment|ment ab xyz|ment ab thing ab|xyz ment c",
    ),
    (
        {"count": (1, 5), "length": (1, 12)},
        42,
        "njeyuqkvoll|fc oxbwvhqet sjb zl|xrutfjm mboetrxtjzki xjbmuemdr miforylevq|"
        "scitvluvk xhgrqdvfua uuurmsh|uo lnoadgclrrm woctoq",
    ),
    (
        {"kind": "dictionary"},
        0,
        "swan penguin maritime|dove ferry baker|bird apricot choir|spoken pineapple tulip|"
        "mansion oven whistle",
    ),
]


def draw(parameters: dict[str, Any], n_pairs: int, seed: int) -> list[str]:
    pieces = PIECES if parameters.get("kind") == "tokens" else ()
    return RandomWords(**parameters).draw(n_pairs, seed, pieces=pieces)


@pytest.mark.parametrize(("parameters", "seed", "words"), GOLDEN)
def test_first_words_never_change(parameters: dict[str, Any], seed: int, words: str) -> None:
    assert "|".join(draw(parameters, 5, seed)) == words


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["letters", "digits"]),
    count=st.tuples(st.integers(1, 5), st.integers(0, 5)),
    length=st.tuples(st.integers(1, 9), st.integers(0, 9)),
    seed=st.integers(0, 2**64 - 1),
)
def test_words_keep_their_ranges(
    kind: Any, count: tuple[int, int], length: tuple[int, int], seed: int
) -> None:
    words = RandomWords(kind=kind, count=(count[0], sum(count)), length=(length[0], sum(length)))
    drawn = words.draw(20, seed)
    assert len(drawn) == 20
    symbol = "[a-z]" if kind == "letters" else "[0-9]"
    for line in drawn:
        assert count[0] <= len(line.split(" ")) <= sum(count)
        assert all(re.fullmatch(f"{symbol}{{{length[0]},{sum(length)}}}", word) for word in line.split(" "))
    assert words.draw(20, seed) == drawn


def test_letters_and_lengths_are_uniform_with_both_ends() -> None:
    words = " ".join(RandomWords().draw(4000, 3)).split()
    letters, lengths = Counter("".join(words)), Counter(map(len, words))
    assert len(letters) == 26
    assert sorted(lengths) == [3, 4, 5, 6, 7, 8]
    assert max(letters.values()) < 1.15 * min(letters.values())
    assert max(lengths.values()) < 1.15 * min(lengths.values())


def test_words_come_from_the_given_source() -> None:
    def drawn(**parameters: Any) -> set[str]:
        return set(" ".join(draw({"count": 2, **parameters}, 60, 0)).split())

    assert drawn(kind="dictionary", dictionary=("oak", "elm")) == {"oak", "elm"}
    assert drawn(kind="tokens") == set(PIECES)
    assert drawn(kind="dictionary") <= set(default_dictionary())
    assert {len(word) for word in drawn(kind="letters", length=5)} == {5}


def test_seeds_differ() -> None:
    assert RandomWords().draw(5, 1) != RandomWords().draw(5, 2)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"kind": "leters"}, "kind must be one of .* did you mean 'letters'"),
        ({"count": 0}, r"count must be a number or a range \(low, high\) from 1 to 40, got 0"),
        ({"count": True}, "count must be a whole number or 2 of: a whole number, got True"),
        ({"count": (3, 1)}, r"got \(3, 1\)"),
        ({"length": (0, 4)}, r"length must be .* from 1 to 40, got \(0, 4\)"),
        ({"dictionary": ("oak",)}, "with kind 'dictionary' only, got kind 'letters'"),
        ({"kind": "dictionary", "dictionary": ()}, r"\(at least 1 and at most 100000\) or nothing, got \(\)"),
        ({"kind": "dictionary", "dictionary": ("oak", "Oak")}, "each entry once, got 'Oak' twice"),
    ],
)
def test_parameters_are_refused(parameters: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        RandomWords(**parameters)


def test_tokens_need_pieces() -> None:
    with pytest.raises(UsageError, match=r"'tokens' needs .* two sub-word pieces or more, got 1"):
        RandomWords(kind="tokens").draw(3, 0, pieces=["one"])


def test_describe_says_what_matters_for_the_kind() -> None:
    assert RandomWords().describe() == {"kind": "letters", "count": 3, "length": (3, 8)}
    assert RandomWords(kind="tokens", count=(1, 5)).describe() == {"kind": "tokens", "count": (1, 5)}
    bundled = RandomWords(kind="dictionary").describe()
    assert bundled["dictionary"] == "bundled"
    assert bundled["dictionary_sha256"] == words_sha256(default_dictionary())
    given_words = RandomWords(kind="dictionary", dictionary=("oak", "elm")).describe()
    assert (given_words["dictionary"], given_words["dictionary_words"]) == ("given", 2)


def test_words_sha256_is_that_of_lines() -> None:
    # printf 'oak\nelm\n' | sha256sum
    assert words_sha256(["oak", "elm"]) == "9d1f78014535d3a4e048af9bbb7fedd452e34538423408c658fd776ffe8556db"
    assert words_sha256(["elm", "oak"]) != words_sha256(["oak", "elm"])


def test_bundled_dictionary_is_the_one_of_this_version() -> None:
    words = default_dictionary()
    assert len(words) == 666
    assert words_sha256(words) == "4fe8addd18d0314b260d334e468da023e49ce764d653e1cd6582f68691d91353"
    assert list(words) == sorted(set(words))
    assert all(re.fullmatch("[a-z]{3,12}", word) for word in words)


def test_bundled_dictionary_says_nothing_about_the_state_of_a_thing() -> None:
    told = re.compile(
        "normal|anomal|damag|flaw|defect|perfect|blemish|broke|crack|scratch|dent$|rust|dirt|stain|hole|torn|bent|"
        "burn|worn|clean|fresh|^new$|^old$|good|bad$|fault|intact|rotten|mould|smear|chip|split|fractur|knot|bubble"
    )
    assert [word for word in default_dictionary() if told.search(word)] == ["student"]
