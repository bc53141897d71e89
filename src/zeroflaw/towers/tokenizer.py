"""Prompts to token ids, with the vocabulary and the merges that a text tower was trained with.

The text is cleaned as CLIP cleans it: white space collapsed, lower case. Two steps of CLIP's own code are
left out, since prompts are typed or generated, not scraped: HTML entities are not unescaped (``&amp;`` stays
five characters) and broken Unicode is not repaired (``ftfy``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import tokenizers
import torch
from tokenizers import Regex, models, normalizers, pre_tokenizers
from torch import Tensor

from zeroflaw.errors import WeightsError, WordsError
from zeroflaw.files import read_text

START = "<|startoftext|>"
END = "<|endoftext|>"
WORD_END = "</w>"  # how CLIP's vocabulary marks a piece that ends a word
WORD_START = "\u0120"  # how byte-level vocabularies mark a piece that starts one
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_LARGEST = 64 * 2**20  # bytes of a file; CLIP's have 2
_PLAIN = re.compile(r"[a-z]+")


class Tokenizer:
    """A byte-pair encoder with CLIP's start and end markers.

    Attributes:
        text: the ``tokenizer.json`` that it was built from.
        sha256: of the file or files that it was read from.
        context_length: the longest prompt, in tokens with both markers.
        start, end: ids of the markers.
    """

    def __init__(self, text: str, *, context_length: int, sha256: str | None = None) -> None:
        try:
            self._encoder = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise WeightsError(
                f"the tokenizer must be a tokenizer.json of the tokenizers library, got: {error}"
            ) from error
        self._encoder.no_padding()
        self._encoder.no_truncation()
        self.text = text
        self.sha256 = sha256 or hashlib.sha256(text.encode()).hexdigest()
        self.context_length = context_length
        self.start, self.end = self._marker(START), self._marker(END)

    @classmethod
    def read(cls, path: Path, context_length: int, *, sha256: str | None = None) -> Tokenizer:
        """Read ``tokenizer.json``, or ``vocab.json`` with ``merges.txt`` where there is none.

        Args:
            path: the folder they lie in, or a tokenizer.json under any name.
            context_length: the longest prompt, in tokens with both markers.
            sha256: what to take for the digest of the files, where they were made from others.

        Raises:
            WeightsError: the files are missing or cannot be read.
        """
        whole = path if path.is_file() else path / "tokenizer.json"
        if whole.is_file():
            return cls(_text(whole), context_length=context_length, sha256=sha256)
        vocabulary, merges = path / "vocab.json", path / "merges.txt"
        if not (vocabulary.is_file() and merges.is_file()):
            raise WeightsError(
                f"a tokenizer.json, or a vocab.json with a merges.txt, must lie in {path}, got neither; "
                "copy the tokenizer files that belong to the weights there"
            )
        sources = _text(vocabulary), _text(merges)
        digest = hashlib.sha256("\0".join(sources).encode()).hexdigest()
        return cls(_clip_layout(*sources, path), context_length=context_length, sha256=digest)

    @property
    def size(self) -> int:
        """How many token ids there are, the markers among them."""
        return int(max(self._encoder.get_vocab(True).values())) + 1

    @property
    def vocabulary(self) -> list[str]:
        """Pieces of plain letters (a to z), each once, by token id: the material of random words."""
        by_id = sorted(self._encoder.get_vocab(False).items(), key=lambda item: item[1])
        pieces = (piece.removesuffix(WORD_END).removeprefix(WORD_START) for piece, _ in by_id)
        return list(dict.fromkeys(piece for piece in pieces if _PLAIN.fullmatch(piece)))

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Turn prompts into ids (B, T) and the positions of their end markers (B,), both int64.

        T is the length of the longest prompt; shorter ones are padded with 0 on the right.

        Raises:
            WordsError: there is no prompt, one is longer than the context (prompts are never cut), or one
                holds a marker or a character that the vocabulary lacks.
        """
        if not texts:
            raise WordsError("at least one prompt is needed, got none; give a list of prompts")
        cleaned = [" ".join(text.lower().split()) for text in texts]
        bodies = [found.ids for found in self._encoder.encode_batch(cleaned, add_special_tokens=False)]
        for text, body in zip(texts, bodies, strict=True):
            self._check(text, body)
        ids = torch.zeros(len(texts), max(map(len, bodies)) + 2, dtype=torch.long)
        for row, body in zip(ids, bodies, strict=True):
            row[: len(body) + 2] = torch.tensor([self.start, *body, self.end])
        return ids, torch.tensor([len(body) + 1 for body in bodies])

    def _check(self, text: str, body: list[int]) -> None:
        if len(body) + 2 > self.context_length:
            raise WordsError(
                f"a prompt may be {self.context_length} tokens long with its markers, got {len(body) + 2} "
                f"for '{text[:60]}...'; use fewer or shorter words"
            )
        if self.start in body or self.end in body:
            raise WordsError(
                f"a prompt must not hold '{START}', '{END}' or characters that the vocabulary lacks, got "
                f"'{text[:60]}'; leave them out"
            )

    def _marker(self, marker: str) -> int:
        number = self._encoder.token_to_id(marker)
        if number is None:
            raise WeightsError(
                f"the tokenizer must know the marker '{marker}', got one without; use a CLIP tokenizer"
            )
        return int(number)


def _text(path: Path) -> str:
    return read_text(path, _LARGEST, "tokenizer", WeightsError)


def _clip_layout(vocabulary: str, merges: str, folder: Path) -> str:
    lines = [line for line in merges.splitlines() if line and not line.startswith("#version")]
    try:
        model = models.BPE(
            vocab=json.loads(vocabulary),
            merges=[_pair(line) for line in lines],
            unk_token=END,
            end_of_word_suffix=WORD_END,
            continuing_subword_prefix="",
        )
    except Exception as error:  # the library raises bare Exception
        raise WeightsError(
            f"vocab.json and merges.txt in {folder} must hold CLIP's vocabulary and merges, got: {error}; "
            "fetch them again"
        ) from error
    encoder = tokenizers.Tokenizer(model)
    encoder.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    encoder.add_special_tokens([START, END])
    return str(encoder.to_str())


def _pair(line: str) -> tuple[str, str]:
    left, right = line.split()
    return left, right
