"""The tokenizer: equal to transformers' on a small vocabulary, and it never cuts a prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeroflaw.errors import WeightsError, WordsError
from zeroflaw.towers.tokenizer import END, START, Tokenizer

PROMPTS = [
    "a photo of a flawless bottle",
    "  A Photo\tof the   DAMAGED screw. ",
    "it's broken, isn't it? 42 %",
    "naïve façade — 検査",
    "x",
]
# Python lower-cases a capital sigma at the end of a word as CLIP's own code does; transformers does not.
ODD = st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="Σ")


@pytest.fixture
def tokenizer(clip_vocabulary: Path) -> Tokenizer:
    return Tokenizer.read(clip_vocabulary, context_length=77)


def reference(folder: Path, texts: list[str]) -> list[list[int]]:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    return [theirs(text)["input_ids"] for text in texts]


def rows(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    ids, ends = tokenizer.encode(texts)
    return [row[: end + 1].tolist() for row, end in zip(ids, ends, strict=True)]


def test_equals_transformers(tokenizer: Tokenizer, clip_vocabulary: Path) -> None:
    assert rows(tokenizer, PROMPTS) == reference(clip_vocabulary, PROMPTS)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(ODD, max_size=12))
def test_equals_transformers_on_odd_text(text: str, tokenizer: Tokenizer, clip_vocabulary: Path) -> None:
    assert rows(tokenizer, [text]) == reference(clip_vocabulary, [text])


def test_tokenizer_json_equals_the_two_files(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizer.text, encoding="utf-8")
    again = Tokenizer.read(tmp_path, context_length=77)
    assert rows(again, PROMPTS) == rows(tokenizer, PROMPTS)
    assert again.vocabulary == tokenizer.vocabulary


def test_a_tokenizer_json_that_pads_and_cuts_does_neither_here(tokenizer: Tokenizer) -> None:
    raw = json.loads(tokenizer.text)
    raw["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    raw["padding"] = {
        "strategy": {"Fixed": 20},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 5,
        "pad_type_id": 0,
        "pad_token": "!",
    }
    changed = Tokenizer(json.dumps(raw), context_length=77)
    assert rows(changed, PROMPTS) == rows(tokenizer, PROMPTS)


def test_batch_is_as_long_as_its_longest_prompt_and_padded_with_zeros(tokenizer: Tokenizer) -> None:
    ids, ends = tokenizer.encode(["bottle", "a photo of a bottle"])
    assert ids.shape == (2, int(ends.max()) + 1)
    assert ids.dtype == ends.dtype == torch.int64
    assert ids[:, 0].tolist() == [tokenizer.start] * 2
    assert ids[torch.arange(2), ends].tolist() == [tokenizer.end] * 2
    assert ids[0, int(ends[0]) + 1 :].eq(0).all()


def test_the_empty_prompt_is_two_markers(tokenizer: Tokenizer) -> None:
    assert rows(tokenizer, [""]) == [[tokenizer.start, tokenizer.end]]


def test_the_longest_prompt_fits_and_the_next_one_is_refused(clip_vocabulary: Path) -> None:
    tokenizer = Tokenizer.read(clip_vocabulary, context_length=8)
    ids, _ = tokenizer.encode(["! ? ! ? ! ?"])
    assert ids.shape == (1, 8)
    with pytest.raises(WordsError, match=r"8 tokens long with its markers, got 9"):
        tokenizer.encode(["fine", "! ? ! ? ! ? !"])


@pytest.mark.parametrize("text", [f"a {END} bottle", f"{START} a bottle"])
def test_markers_in_a_prompt_are_refused(text: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(WordsError, match="must not hold"):
        tokenizer.encode([text])


def test_no_prompt_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(WordsError, match="at least one prompt"):
        tokenizer.encode([])


def test_vocabulary_is_plain_letters_each_once(tokenizer: Tokenizer) -> None:
    pieces = tokenizer.vocabulary
    assert len(pieces) == len(set(pieces)) > 200
    assert all(piece.isascii() and piece.isalpha() and piece.islower() for piece in pieces)
    assert {"photo", "z"} <= set(pieces)


def test_sha256_follows_the_files(clip_vocabulary: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_text((clip_vocabulary / name).read_text(encoding="utf-8"), encoding="utf-8")
    assert Tokenizer.read(tmp_path, context_length=77).sha256 == tokenizer.sha256
    merges = (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "merges.txt").write_text("\n".join(merges[:-1]), encoding="utf-8")
    assert Tokenizer.read(tmp_path, context_length=77).sha256 != tokenizer.sha256


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tokenizer\.json.*got neither"):
        Tokenizer.read(tmp_path, context_length=77)


def test_damaged_files_are_refused(clip_vocabulary: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"must be a tokenizer\.json"):
        Tokenizer.read(tmp_path, context_length=77)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WeightsError, match="UTF-8"):
        Tokenizer.read(tmp_path, context_length=77)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(
        (clip_vocabulary / "vocab.json").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (tmp_path / "merges.txt").write_text("only-one-word-a-line\n", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"vocab\.json and merges\.txt"):
        Tokenizer.read(tmp_path, context_length=77)


def test_a_tokenizer_without_markers_is_refused(clip_vocabulary: Path, tmp_path: Path) -> None:
    vocabulary = json.loads((clip_vocabulary / "vocab.json").read_text(encoding="utf-8"))
    raw = json.loads(Tokenizer.read(clip_vocabulary, context_length=77).text)
    del vocabulary[END]
    raw["model"]["vocab"], raw["model"]["unk_token"] = vocabulary, None
    raw["added_tokens"] = [token for token in raw["added_tokens"] if token["content"] != END]
    with pytest.raises(WeightsError, match="must know the marker"):
        Tokenizer(json.dumps(raw), context_length=77)
