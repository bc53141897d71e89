"""State phrases, templates, objects, the vocabulary and its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroflaw.errors import UsageError, WordsError
from zeroflaw.words import (
    ENSEMBLE_ANOMALOUS,
    ENSEMBLE_NORMAL,
    ENSEMBLE_TEMPLATES,
    Vocabulary,
    object_phrase,
    sentences,
    words_sha256,
)
from zeroflaw.words.states import ENSEMBLE_TEMPLATES_21, IMAGENET_TEMPLATES

ENSEMBLE = {"normal": ENSEMBLE_NORMAL, "anomalous": ENSEMBLE_ANOMALOUS, "templates": ENSEMBLE_TEMPLATES}


# --- the ensembles


@pytest.mark.parametrize(
    ("templates", "count", "sha256"),
    [
        (ENSEMBLE_TEMPLATES, 22, "62fcf0562710bb36"),
        (ENSEMBLE_TEMPLATES_21, 21, "f50bfe5b7874c950"),
        (IMAGENET_TEMPLATES, 80, "717aaf1055595d31"),
    ],
)
def test_published_templates_never_change(templates: tuple[str, ...], count: int, sha256: str) -> None:
    assert len(templates) == count
    assert words_sha256(templates).startswith(sha256)


def test_ensemble_sentences() -> None:
    normal, anomalous = sentences(Vocabulary(**ENSEMBLE, object="metal_nut"))
    assert (len(normal), len(anomalous)) == (len(set(normal)), len(set(anomalous))) == (154, 88)
    assert not set(normal) & set(anomalous)
    assert set(normal) >= {
        "a photo of a metal nut",
        "a cropped photo of the flawless metal nut",
        "a photo of a unblemished metal nut",
        "a photo of the large metal nut without flaw",
        "a photo of a perfect metal nut for visual inspection",
    }
    assert set(anomalous) >= {
        "a jpeg corrupted photo of a damaged metal nut",
        "a close-up photo of the metal nut with defect",
        "a photo of the metal nut with damage for anomaly detection",
    }
    normal, anomalous = sentences(Vocabulary(**ENSEMBLE, object="apple"), articles="agree")
    assert {"a photo of an apple", "a photo of an unblemished apple", "a photo of a small apple"} <= set(
        normal
    )
    normal, anomalous = sentences(Vocabulary(templates=IMAGENET_TEMPLATES, object="metal_nut"))
    assert "a photo of the hard to see normal metal nut." in normal
    assert "a origami anomalous metal nut." in anomalous


def test_sentences_keep_the_order_of_the_vocabulary_templates_fastest() -> None:
    words = Vocabulary(
        normal=("fine {}", "{} in order"), anomalous=("bent {}",), templates=("a {}", "one {}"), object="cog"
    )
    normal, anomalous = sentences(words)
    assert normal == ["a fine cog", "one fine cog", "a cog in order", "one cog in order"]
    assert anomalous == ["a bent cog", "one bent cog"]


# --- the object


def test_an_object_may_be_known_unknown_or_left_out() -> None:
    assert sentences(Vocabulary(object="metal_nut"))[0] == ["a photo of a normal metal nut"]
    assert sentences(Vocabulary())[0] == ["a photo of a normal object"]
    assert sentences(Vocabulary(), placeholder="")[0] == ["a photo of a normal"]
    assert sentences(Vocabulary(templates=("{}",)), articles="agree")[1] == ["anomalous object"]
    with pytest.raises(WordsError, match=r"word before \{\} .*got '\{\} with flaw'"):
        sentences(Vocabulary(anomalous=("{} with flaw",)), placeholder="")


def test_object_phrase() -> None:
    assert object_phrase("metal_nut") == "metal nut"
    assert object_phrase("  pipe__fryum ") == "pipe fryum"
    assert object_phrase("Schraube für Ø 8") == "Schraube für Ø 8"
    assert object_phrase(None) == "object"
    assert object_phrase(None, "") == ""
    assert object_phrase("x" * 100) == "x" * 100


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        (" _ ", "empty"),
        ("x" * 101, "100 characters, got 101"),
        ("nut\n", r"U\+000A"),
        ("nut\x1b[31m", r"U\+001B"),
        ("nut\u202eten", r"U\+202E"),
        ("nut\udc80", r"U\+DC80"),
    ],
)
def test_object_phrase_refuses(name: str, reason: str) -> None:
    with pytest.raises(WordsError, match=reason):
        object_phrase(name)


@settings(max_examples=25, deadline=None)
@given(name=st.text(alphabet="abc_{} é", min_size=1, max_size=12))
def test_any_accepted_name_stands_in_each_sentence_once(name: str) -> None:
    try:
        words = Vocabulary(object=name)
    except WordsError:
        assert not name.replace("_", " ").strip()
        return
    assert sentences(words)[0] == [f"a photo of a normal {object_phrase(name)}"]


# --- the vocabulary


def test_a_vocabulary_takes_plain_words_and_describes_itself_in_json() -> None:
    words = Vocabulary(**{**ENSEMBLE, "anomalous": ["scratched", "{} with  rust"]}, object="metal_nut")
    assert (words.anomalous, words.object) == (("scratched {}", "{} with rust"), "metal nut")
    card = words.describe()
    assert json.loads(json.dumps(card)) == card
    assert card["sentences"] == {"normal": 154, "anomalous": 44}
    with pytest.raises(UsageError, match="'anomalus'; did you mean 'anomalous'"):
        Vocabulary(anomalus=("x {}",))  # type: ignore[call-arg]


# --- the file


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "words.toml"
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


def test_a_words_file_may_hold_every_key_or_some(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '\ufeffnormal = ["intact"]\nanomalous = ["scratched", "{} with a dent"]\n'
        'templates = ["a photo of the  {}"]\ndictionary = ["fjord", "blé"]\nobject = "metal_nut"\n',
    )
    assert Vocabulary.words_in(path) == {
        "normal": ("intact {}",),
        "anomalous": ("scratched {}", "{} with a dent"),
        "templates": ("a photo of the {}",),
        "dictionary": ("fjord", "blé"),
        "object": "metal nut",
    }
    assert Vocabulary.words_in(str(write(tmp_path, 'anomalous = ["bent"]'))) == {"anomalous": ("bent {}",)}


BAD_FILES: list[tuple[str | bytes, str]] = [
    ('anomolous = ["bent"]', "'anomolous'; did you mean 'anomalous'"),
    ("[normal]\nx = 1", "normal must be several of: text"),
    ('normal = ["intact", 3]', "normal entry 2 must be text, got 3"),
    ('object = ["nut"]', "object must be text or nothing, got"),
    ('templates = ["a photo"]', "hold {} exactly once and no other brace, got 'a photo'"),
    ('anomalous = ["{} on {}"]', "got '{} on {}'"),
    ('anomalous = ["bent {object}"]', "got 'bent {object}'"),
    ('anomalous = ["bent }"]', "got 'bent }'"),
    ("anomalous = []", "must be several of: text (at least 1 and at most 200), got ()"),
    ('anomalous = ["  "]', "a state must not be empty, got '  '"),
    ('object = ""', "object name must not be empty"),
    ('normal = ["Bent"]\nanomalous = ["bent {}"]', "must not share a phrase, got 'Bent {}' in both"),
    ('normal = ["anomalous"]', "must not share a phrase, got 'anomalous {}' in both"),
    ('normal = ["ok", "OK {}"]', "must hold each entry once, got 'OK {}' twice"),
    (f'normal = ["{"x" * 201}"]', "a state may have 200 characters, got 201"),
    (f'dictionary = ["{"x" * 41}"]', "a word may have 40 characters, got 41"),
    ("normal = [" + ", ".join(f'"w{i}"' for i in range(201)) + "]", "at most 200), got ('w0', "),
    ('dictionary = ["stainless steel"]', "a single word was wanted, got 'stainless steel'"),
    ('normal = ["in\\ntact"]', "must be visible characters in one line, got U+000A"),
    ('object = "nut"\nnormal = [bent]\n', "' in line 2; correct that line"),
    ("object = " + "9" * 5000, "words file"),
    ("normal = " + "[" * 200_000, "words file"),
    (".".join("a" * 20_000) + " = 1", "a key of more than 64 parts"),
    ("", "must hold one of normal, anomalous, templates, dictionary, object, got none"),
    (b'normal = ["ok"]\nobject = "M\xfctter"', "is not UTF-8 (byte 0xfc in line 2)"),
    ("#" * ((4 << 20) + 1), "at most 4,194,304 are read"),
]


@pytest.mark.parametrize("number", range(len(BAD_FILES)))
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path: Path, number: int) -> None:
    content, reason = BAD_FILES[number]
    with pytest.raises(WordsError) as caught:
        Vocabulary.words_in(write(tmp_path, content))
    message = str(caught.value)
    assert reason in message
    assert message.startswith("words file ")
    assert "\n" not in message
    assert len(message) < 400


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WordsError, match="is a folder, not a file"):
        Vocabulary.words_in(tmp_path)
    with pytest.raises(WordsError, match=r"words file '.*words.toml' does not exist"):
        Vocabulary.words_in(tmp_path / "words.toml")
