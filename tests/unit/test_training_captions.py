"""The captions, the caption bank and the tokenizer of the training recipe."""

from __future__ import annotations

import re
from random import Random

import pytest

pytest.importorskip("training.captions", reason="the training recipe is not beside the tests")

from training import vocabulary as words
from training.bank import NEUTRAL, NEUTRAL_PAIRS, PER_DEFECT, STATE_PAIRS, build_bank
from training.captions import PLACES, Frame, draw_frame, frame_with_words, neutral_pair, random_words
from training.corpus import Sizes, held_out_texts, training_families
from training.english import nonsense, sentence
from training.tokenizer import END, START, encode, train_tokenizer

KINDS = words.listed(
    """
    scratch,crack,hole,dent,stain,spot,contamination,fibre,cutpaste,missing,edge,smear,warp,glue,print,swap,cut,erode,
    split,rust
    """
)
HARMLESS = words.listed(
    """
    with,a,an,the,on,it,in,of,its,that,or,into,apart,two,some,visible,region,part,piece,area,areas,condition,quality,
    inspection,print,made,texture,material,colour,color,surface,paint,patch,something,line,thin,edge,corner,mark,pen,
    oil,drop,object,not,ok,thread,liquid,glue,hair
    """
)
TEXTS = ["a photo of a normal object", "a photo of an anomalous object", "a scratched bottle"] * 3


@pytest.fixture(scope="module")
def bank():
    return build_bank(0)


def test_bank_is_the_same_for_one_seed_and_another_for_another(bank):
    assert build_bank(0) == bank
    assert build_bank(1)["normal"] != bank["normal"]


def test_bank_has_every_group_in_its_size(bank):
    expected = {"normal": STATE_PAIRS, "anomalous": STATE_PAIRS, "neutral": NEUTRAL}
    expected |= dict.fromkeys(("neutral_pairs_a", "neutral_pairs_b"), NEUTRAL_PAIRS) | dict.fromkeys(
        KINDS, PER_DEFECT
    )
    assert {name: len(texts) for name, texts in bank.items()} == expected
    assert all(text.strip() == text and text for texts in bank.values() for text in texts)


def test_bank_holds_the_ensemble_and_the_pair(bank):
    for template in words.ENSEMBLE_TEMPLATES:
        assert {template.format(s.format("object")) for s in words.ENSEMBLE_NORMAL} <= set(bank["normal"])
        assert {template.format(s.format("object")) for s in words.ENSEMBLE_ANOMALOUS} <= set(
            bank["anomalous"]
        )
    for name, text in zip(("normal", "anomalous"), words.PAIR, strict=True):
        assert text.format("object") in bank[name]


def test_published_sets_have_their_published_sizes():
    sets = (words.ENSEMBLE_NORMAL, words.ENSEMBLE_ANOMALOUS, words.ENSEMBLE_TEMPLATES)
    assert [len(set(s)) for s in sets] == [7, 4, 22]


def _said(phrase: str) -> set[str]:
    """Words that a phrase affirms: what follows "no", "without" or "free of" is denied."""
    affirmed = re.sub(r"\b(without|no|free of)( a| any)? \w+", "", phrase)
    return set(re.findall(r"[a-z-]+", affirmed))


def test_no_normal_or_neutral_phrase_says_anything_of_a_defect():
    anomalous = words.ANOMALOUS + sum(words.DEFECTS.values(), ()) + words.HELD_OUT_ANOMALOUS
    harmless = set(HARMLESS)
    flawed = set().union(*map(_said, anomalous)) - harmless
    neutral = words.ATTRIBUTES + words.OBJECTS + words.GENERIC
    for phrase in words.NORMAL + words.ENSEMBLE_NORMAL + words.HELD_OUT_NORMAL + neutral:
        assert not _said(phrase) & flawed, phrase


def test_no_training_text_contains_a_held_out_word():
    held_out = {p.replace("{}", "").strip() for p in words.HELD_OUT_NORMAL + words.HELD_OUT_ANOMALOUS}
    families = training_families(0, ["steel", "copper"], Sizes(2000, 500, 3000, 100))
    texts = [text for family in families for text in family] + [
        t for group in build_bank(0).values() for t in group
    ]
    assert not [text for text in texts if held_out & set(re.findall("[a-z]+", text.lower()))]
    assert len(set(texts)) > 8000


def test_families_differ_in_the_state_only_and_are_distinct():
    families = training_families(3, ["steel"], Sizes(300, 100, 100, 20))
    assert families == training_families(3, ["steel"], Sizes(300, 100, 100, 20))
    texts = [text for family in families for text in family]
    assert len(texts) == len(set(texts))
    held_out = held_out_texts(3, ["steel"], set(texts), 50)
    assert all(len(sort) == 50 and not set(sort) & set(texts) for sort in held_out.values())


@pytest.mark.parametrize(
    ("place", "pattern"),
    [
        ("before", r"a photo of a( [a-z]{3,8}){1,5} damaged"),
        ("subject", r"a photo of a damaged( [a-z]{3,8}){1,5}$"),
        ("between", r"a photo of a damaged( [a-z]{3,8}){1,5} \w+"),
        ("end", r"a photo of a damaged .*[a-z]{3,8}$"),
    ],
)
def test_random_words_stand_where_they_were_asked_for(place, pattern):
    assert place in PLACES
    rng = Random(5)
    for _ in range(20):
        text = frame_with_words(rng, place, "a photo of a {}", mend_article=False).render("damaged {}")
        assert re.match(pattern, text), text


def test_random_words_have_three_to_eight_letters_and_the_asked_count():
    assert [len(random_words(Random(i), 4).split()) for i in range(5)] == [4] * 5
    assert all(3 <= len(w) <= 8 and w.isascii() and w.isalpha() for w in random_words(Random(1), 200).split())


def test_article_is_mended_only_when_asked():
    assert Frame("a photo of a {}", "object").render("anomalous {}") == "a photo of an anomalous object"
    assert Frame("a photo of a {}", "object").render("uniform {}") == "a photo of a uniform object"
    plain = Frame("a photo of a {}", "object", mend_article=False).render("anomalous {}")
    assert plain == "a photo of a anomalous object"


def test_neutral_pair_differs_in_one_attribute():
    for seed in range(20):
        first, second = neutral_pair(Random(seed))
        assert first != second
        # An article may follow its attribute.
        pairs = zip(first.split(), second.split(), strict=True)
        changed = {frozenset(pair) for pair in pairs if pair[0] != pair[1]} - {frozenset(("a", "an"))}
        assert len(changed) == 1


def test_frames_without_subject_and_with_random_words_both_occur():
    frames = [draw_frame(Random(i)) for i in range(300)]
    assert any(not f.subject and not f.before and not f.after for f in frames)
    assert any(f.before for f in frames)
    assert any(f.after for f in frames)


def test_sentences_fill_every_slot_and_use_the_lexicon():
    rng = Random(2)
    texts = [sentence(rng, ["zymurgy"]) for _ in range(300)]
    assert not [text for text in texts if "{" in text]
    assert any("zymurgy" in text for text in texts)
    assert len(set(texts)) > 250
    assert len({nonsense(Random(i)) for i in range(50)}) > 45


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 320)


@pytest.mark.parametrize(
    "text",
    [
        "a photo of a normal object",
        "xqzv kfj 0471",
        "naïve café",
        "异常 正常 品",
        "🔧⚙️ ✅",
        "tab\u00a0x €",
        "\x00\x07",
    ],
)
def test_tokenizer_gives_every_text_back(tokenizer, text):
    coded = tokenizer.encode(text)
    assert coded.tokens[0] == START
    assert coded.tokens[-1] == END
    assert tokenizer.decode(coded.ids).strip() == re.sub(r"\s+", " ", text).strip()


def test_tokenizer_ignores_case_and_blanks_and_is_deterministic(tokenizer):
    assert tokenizer.encode("  A  Photo\tof ").ids == tokenizer.encode("a photo of").ids
    assert tokenizer.encode("").tokens == [START, END]
    assert train_tokenizer(TEXTS, 320).to_str() == tokenizer.to_str()
    assert tokenizer.padding is None
    assert tokenizer.truncation is None


def test_special_tokens_have_the_highest_ids_and_small_vocabularies_are_refused(tokenizer):
    size = tokenizer.get_vocab_size()
    assert [tokenizer.token_to_id(token) for token in (START, END)] == [size - 2, size - 1]
    with pytest.raises(ValueError, match="at least 258"):
        train_tokenizer(TEXTS, 257)


def test_encode_pads_and_cuts_long_texts_at_the_end_token(tokenizer):
    ids, ends = encode(tokenizer, ["object", "q" * 200], context=20)
    end = tokenizer.token_to_id(END)
    assert ids.shape == (2, 20)
    assert ends[1] == 19
    assert [int(row[e]) for row, e in zip(ids, ends, strict=True)] == [end, end]
    assert not ids[0, ends[0] + 1 :].any()


def test_captions_teach_the_ensemble_that_detectors_use() -> None:
    from training import vocabulary

    from zeroflaw import words

    assert sorted(vocabulary.ENSEMBLE_TEMPLATES) == sorted(words.ENSEMBLE_TEMPLATES)
