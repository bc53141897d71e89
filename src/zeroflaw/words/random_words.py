"""Random words: text that says nothing about the state of an object, to vary the prompts of a pair.

Tamura (BMVC 2023) puts "several randomly generated words" into the prompts; of what kind, how many and how
long is not known.  The default, three words of 3..8 letters, is the reading that explains "generated" and
"several" best; the other kinds stand beside it to be compared:

========== ==========================================================
kind       a word is
========== ==========================================================
letters    letters, each uniform in a-z, the length uniform in a range
digits     digits, each uniform in 0-9, the length uniform in a range
tokens     a piece of the tokenizer's sub-word table
dictionary a word of a list; by default the bundled list of everyday
           nouns and adjectives that say nothing about quality
========== ==========================================================

The same parameters and seed give the same words on every platform: bits come from PCG64, whose stream NumPy
keeps fixed, as 64-bit integers, and a test holds the first words.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, ValidationInfo

from zeroflaw.errors import UsageError
from zeroflaw.parameters import parameters
from zeroflaw.words.phrases import Words

Kind = Literal["letters", "digits", "tokens", "dictionary"]
"""What a random word is made of."""

_MOST = 40  # random words in one prompt, more would not fit into 77 tokens; and letters of a word

_ALPHABETS = {"letters": string.ascii_lowercase, "digits": string.digits}


def _in_order(value: int | tuple[int, int], info: ValidationInfo) -> int | tuple[int, int]:
    low, high = value if isinstance(value, tuple) else (value, value)
    if not 1 <= low <= high <= _MOST:
        raise UsageError(
            f"{info.field_name} must be a number or a range (low, high) from 1 to {_MOST}, got {value}"
        )
    return value


Range = Annotated[int | tuple[int, int], AfterValidator(_in_order)]
"""A number, or a range ``(low, high)``, both included, that numbers are drawn from."""


@parameters
class RandomWords:
    """Parameters of a generator of random words; ``draw`` makes them.

    Attributes:
        kind: what a word is made of, see the module.
        count: words in a prompt: a number, or a range, drawn for each prompt.
        length: characters in a word of the kinds "letters" and "digits": a number or a range.
        dictionary: the words of the kind "dictionary"; ``None`` means the bundled list.

    Raises:
        UsageError: on construction, a `WordsError` where the dictionary is not a list of single words.
    """

    kind: Kind = "letters"
    count: Range = 3
    length: Range = (3, 8)
    dictionary: Words | None = None

    def __post_init__(self) -> None:
        if self.dictionary is not None and self.kind != "dictionary":
            raise UsageError(f"a dictionary goes with kind 'dictionary' only, got kind '{self.kind}'")

    def draw(self, n_pairs: int, seed: int, *, pieces: Sequence[str] = ()) -> list[str]:
        """Return ``n_pairs`` strings of random words, the words separated by single blanks.

        Draws are independent and with replacement.  A shorter draw is not the beginning of a longer one.

        Args:
            n_pairs: how many strings.
            seed: a whole number from 0; the same seed gives the same words.
            pieces: sub-words in a fixed order, without marks or blanks; for the kind "tokens" alone.
        """
        # Not default_rng(seed): which bit generator that takes may change between versions of NumPy.
        generator = np.random.Generator(np.random.PCG64(seed))
        counts = _drawn(generator, self.count, n_pairs)
        words = self._words(generator, int(counts.sum()), pieces)
        return [" ".join(part) for part in _split(words, counts.tolist())]

    def _words(self, generator: np.random.Generator, total: int, pieces: Sequence[str]) -> Sequence[str]:
        if self.kind in _ALPHABETS:
            lengths = _drawn(generator, self.length, total)
            symbols = _chosen(generator, _ALPHABETS[self.kind], int(lengths.sum()))
            return _split("".join(symbols), lengths.tolist())
        if self.kind == "dictionary":
            return _chosen(generator, self.dictionary or default_dictionary(), total)
        if len(pieces) < 2:
            raise UsageError(f"kind 'tokens' needs pieces=, two sub-word pieces or more, got {len(pieces)}")
        return _chosen(generator, pieces, total)

    def describe(self) -> dict[str, Any]:
        """Return what a model card says: the parameters that matter for the kind, and the list drawn from."""
        card: dict[str, Any] = {"kind": self.kind, "count": self.count}
        if self.kind in _ALPHABETS:
            card["length"] = self.length
        if self.kind == "dictionary":
            words = self.dictionary or default_dictionary()
            card["dictionary"] = "bundled" if self.dictionary is None else "given"
            card |= {"dictionary_words": len(words), "dictionary_sha256": words_sha256(words)}
        return card


@lru_cache(maxsize=1)
def default_dictionary() -> tuple[str, ...]:
    """Return the bundled list of everyday English nouns and adjectives, in the order of its file."""
    text = files("zeroflaw.words").joinpath("dictionary.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def words_sha256(words: Iterable[str]) -> str:
    """Return the SHA-256, in hexadecimal digits, of the words in their order, one a line, as UTF-8."""
    return hashlib.sha256("".join(f"{word}\n" for word in words).encode("utf-8")).hexdigest()


def _drawn(
    generator: np.random.Generator, bounds: int | tuple[int, int], size: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return ``size`` whole numbers, uniform in the bounds, both included."""
    low, high = bounds if isinstance(bounds, tuple) else (bounds, bounds)
    return generator.integers(low, high, size=size, dtype="int64", endpoint=True)


def _chosen(generator: np.random.Generator, source: Sequence[str], size: int) -> list[str]:
    """Return ``size`` items of ``source``, uniform and with replacement."""
    return [source[place] for place in _drawn(generator, (0, len(source) - 1), size).tolist()]


def _split(items: Sequence[str], sizes: list[int]) -> list[Any]:
    """Cut a string or list into consecutive parts of the given sizes."""
    return [items[start:stop] for start, stop in pairwise(accumulate(sizes, initial=0))]
