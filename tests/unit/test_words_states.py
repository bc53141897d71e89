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
    TEMPLATE_PHOTO,
    TWO_CLASS,
    Vocabulary,
    object_phrase,
    sentences,
    words_sha256,
)
from zeroflaw.words.states import ENSEMBLE_TEMPLATES_21, IMAGENET_TEMPLATES

ENSEMBLE = Vocabulary(normal=ENSEMBLE_NORMAL, anomalous=ENSEMBLE_ANOMALOUS, templates=ENSEMBLE_TEMPLATES)


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "words.toml"
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


# --- the ensemble -----------------------------------------------------------------------------------


def test_ensemble_has_the_published_sizes() -> None:
    assert (len(ENSEMBLE_NORMAL), len(ENSEMBLE_ANOMALOUS), len(ENSEMBLE_TEMPLATES)) == (7, 4, 22)
    normal, anomalous = sentences(ENSEMBLE, "bottle")
    assert (len(normal), len(anomalous)) == (154, 88)
    assert len(set(normal)) == 154
    assert len(set(anomalous)) == 88
    assert not set(normal) & set(anomalous)


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


@pytest.mark.parametrize(
    ("side", "sentence"),
    [
        (0, "a photo of a metal nut"),
        (0, "a cropped photo of the flawless metal nut"),
        (0, "a photo of a unblemished metal nut"),
        (0, "a photo of the large metal nut without flaw"),
        (0, "a photo of a perfect metal nut for visual inspection"),
        (1, "a jpeg corrupted photo of a damaged metal nut"),
        (1, "a close-up photo of the metal nut with defect"),
        (1, "a photo of the metal nut with damage for anomaly detection"),
    ],
)
def test_ensemble_sentences(side: int, sentence: str) -> None:
    assert sentence in sentences(ENSEMBLE, "metal_nut")[side]


def test_sentences_keep_the_order_of_the_vocabulary_templates_fastest() -> None:
    words = Vocabulary(
        normal=("fine {}", "{} in order"), anomalous=("bent {}",), templates=("a {}", "one {}")
    )
    normal, anomalous = sentences(words, "cog")
    assert normal == ["a fine cog", "one fine cog", "a cog in order", "one cog in order"]
    assert anomalous == ["a bent cog", "one bent cog"]


def test_agreeing_articles_in_the_ensemble() -> None:
    normal, anomalous = sentences(ENSEMBLE, "apple", articles="agree")
    assert "a photo of an apple" in normal
    assert "a photo of an unblemished apple" in normal
    assert "a photo of a small apple" in normal
    assert "a photo of a damaged apple" in anomalous


def test_sentences_of_the_imagenet_templates() -> None:
    normal, anomalous = sentences(Vocabulary(templates=IMAGENET_TEMPLATES), "metal_nut")
    assert (len(normal), len(anomalous)) == (80, 80)
    assert "a photo of the hard to see normal metal nut." in normal
    assert "a origami anomalous metal nut." in anomalous
    assert "the anomalous metal nut in a video game." in anomalous


def test_the_bare_template_is_the_state_alone() -> None:
    words = Vocabulary(templates=("{}",))
    assert sentences(words) == (["normal object"], ["anomalous object"])
    assert sentences(words, "metal_nut", articles="agree")[1] == ["anomalous metal nut"]


# --- the object -------------------------------------------------------------------------------------


def test_object_argument_goes_before_the_vocabulary_and_that_before_unknown() -> None:
    assert sentences(Vocabulary(object="metal_nut"), "cog")[0] == ["a photo of a normal cog"]
    assert sentences(Vocabulary(object="metal_nut"))[0] == ["a photo of a normal metal nut"]
    assert sentences(Vocabulary())[0] == ["a photo of a normal object"]
    assert sentences(Vocabulary(), placeholder="")[0] == ["a photo of a normal"]


def test_object_cannot_be_left_out_of_a_phrase_that_begins_with_it() -> None:
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
        phrase = object_phrase(name)
    except WordsError:
        assert not name.replace("_", " ").strip()
        return
    for sentence in sentences(Vocabulary(), name)[0]:
        assert sentence == f"a photo of a normal {phrase}"


# --- the vocabulary ---------------------------------------------------------------------------------


def test_default_vocabulary_is_the_two_class_pair() -> None:
    words = Vocabulary()
    assert words.normal + words.anomalous == TWO_CLASS == ("normal {}", "anomalous {}")
    assert words.templates == (TEMPLATE_PHOTO,) == ("a photo of a {}",)


def test_updated_takes_plain_words_and_leaves_out_none() -> None:
    words = ENSEMBLE.updated(anomalous=["scratched", "{} with  rust"], normal=None, object="metal_nut")
    assert words.anomalous == ("scratched {}", "{} with rust")
    assert words.normal == ENSEMBLE_NORMAL
    assert words.templates == ENSEMBLE_TEMPLATES
    assert words.object == "metal nut"


def test_describe_is_json_and_counts_the_sentences() -> None:
    card = ENSEMBLE.describe()
    assert json.loads(json.dumps(card)) == card
    assert card["sentences"] == {"normal": 154, "anomalous": 88}
    assert card["anomalous"] == list(ENSEMBLE_ANOMALOUS)
    assert card["object"] is None


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="'anomalus'; did you mean 'anomalous'"):
        Vocabulary(anomalus=("x {}",))  # type: ignore[call-arg]


# --- the file ---------------------------------------------------------------------------------------


def test_from_toml_reads_every_key(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '\ufeffnormal = ["intact"]\nanomalous = ["scratched", "{} with a dent"]\n'
        'templates = ["a photo of the  {}"]\ndictionary = ["fjord", "blé"]\nobject = "metal_nut"\n',
    )
    found = {
        "normal": ("intact {}",),
        "anomalous": ("scratched {}", "{} with a dent"),
        "templates": ("a photo of the {}",),
        "dictionary": ("fjord", "blé"),
        "object": "metal nut",
    }
    assert Vocabulary.words_in(path) == found
    assert vars(Vocabulary.from_toml(path)).items() >= found.items()


def test_from_toml_keeps_the_base_for_absent_keys(tmp_path: Path) -> None:
    path = write(tmp_path, 'anomalous = ["bent"]\n')
    assert Vocabulary.words_in(path) == {"anomalous": ("bent {}",)}
    assert Vocabulary.from_toml(str(path)).templates == (TEMPLATE_PHOTO,)
    words = Vocabulary.from_toml(path, ENSEMBLE)
    assert (words.normal, words.anomalous) == (ENSEMBLE_NORMAL, ("bent {}",))


BAD_FILES: dict[str, tuple[str | bytes, str]] = {
    "unknown key": ('anomolous = ["bent"]', "'anomolous'; did you mean 'anomalous'"),
    "table": ("[normal]\nx = 1", "normal must be several of: text"),
    "string for list": ('normal = "intact"', "normal must be several of: text"),
    "number in list": ('normal = ["intact", 3]', "normal entry 2 must be text, got 3"),
    "bool in list": ("templates = [true]", "templates entry 1 must be text, got True"),
    "list in list": ('normal = [["intact"]]', "normal entry 1 must be text, got ['intact']"),
    "list for object": ('object = ["nut"]', "object must be text or nothing, got"),
    "no placeholder": (
        'templates = ["a photo"]',
        "hold {} exactly once and no other brace, got 'a photo'",
    ),
    "two placeholders": ('anomalous = ["{} on {}"]', "got '{} on {}'"),
    "named placeholder": ('anomalous = ["bent {object}"]', "got 'bent {object}'"),
    "half a placeholder": ('anomalous = ["bent }"]', "got 'bent }'"),
    "empty list": (
        "anomalous = []",
        "must be several of: text (at least 1 and at most 200), got ()",
    ),
    "empty phrase": ('anomalous = ["  "]', "a state must not be empty, got '  '"),
    "empty object": ('object = ""', "object name must not be empty"),
    "both sides": (
        'normal = ["Bent"]\nanomalous = ["bent {}"]',
        "must not share a phrase, got 'Bent {}' in both",
    ),
    "both sides with base": ('normal = ["anomalous"]', "must not share a phrase, got 'anomalous {}' in both"),
    "twice": ('normal = ["ok", "OK {}"]', "must hold each entry once, got 'OK {}' twice"),
    "long phrase": (f'normal = ["{"x" * 201}"]', "a state may have 200 characters, got 201"),
    "long word": (f'dictionary = ["{"x" * 41}"]', "a word may have 40 characters, got 41"),
    "many": ("normal = [" + ", ".join(f'"w{i}"' for i in range(201)) + "]", "at most 200), got ('w0', "),
    "blank in word": ('dictionary = ["stainless steel"]', "a single word was wanted, got 'stainless steel'"),
    "line break": ('normal = ["in\\ntact"]', "must be visible characters in one line, got U+000A"),
    "escape": ('normal = ["\\u001b[2J"]', "got U+001B"),
    "syntax": ('object = "nut"\nnormal = [bent]\n', "' in line 2; correct that line"),
    "syntax at the end": ('object = "nut"\n\nnormal = ["bent"', "' in line 3; correct that line"),
    "key twice": ('object = "a"\nobject = "b"', "' in line 2; correct that line"),
    "json": ('{"normal": ["intact"]}', "' in line 1; correct that line"),
    "huge number": ("object = " + "9" * 5000, "words file"),
    "deep": ("normal = " + "[" * 200_000, "words file"),
    "key of many parts": (".".join("a" * 20_000) + " = 1", "a key of more than 64 parts"),
    "empty": ("", "must hold one of normal, anomalous, templates, dictionary, object, got none"),
    "latin-1": (b'normal = ["ok"]\nobject = "M\xfctter"', "is not UTF-8 (byte 0xfc in line 2)"),
    "utf-16": ('object = "nut"'.encode("utf-16"), "is not UTF-8 (byte 0x"),
    "too large": ("#" * ((4 << 20) + 1), "at most 4,194,304 are read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_from_toml_refuses_in_one_sentence(tmp_path: Path, name: str) -> None:
    content, reason = BAD_FILES[name]
    path = write(tmp_path, content)
    with pytest.raises(WordsError) as caught:
        Vocabulary.from_toml(path)
    message = str(caught.value)
    assert reason in message
    assert message.startswith("words file ")
    assert "\n" not in message
    assert len(message) < 400


def test_from_toml_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(WordsError, match="is a folder, not a file"):
        Vocabulary.from_toml(tmp_path)
    with pytest.raises(WordsError, match=r"words file '.*nowhere.toml' does not exist"):
        Vocabulary.from_toml(tmp_path / "nowhere.toml")
