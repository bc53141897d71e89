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
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.resources import files
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from zeroflaw.errors import UsageError
from zeroflaw.words._checks import (
    MAX_CHARACTERS,
    MAX_DICTIONARY,
    MAX_WORD,
    check_choice,
    check_keys,
    check_list,
    check_whole,
    check_word,
    shown,
)

if TYPE_CHECKING:
    import numpy as np

    Whole = np.ndarray[tuple[int], np.dtype[np.int64]]

Kind = Literal["letters", "digits", "tokens", "dictionary"]
"""What a random word is made of."""

MAX_COUNT = 40
"""Most random words in one prompt; more would not fit into 77 tokens."""

MAX_DRAWS = 10_000_000
"""Most word strings in one draw."""

_ALPHABETS = {"letters": string.ascii_lowercase, "digits": string.digits}


class SubWords(Protocol):
    """A tokenizer as far as random words need it."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """Plain sub-word pieces in a fixed order: no special tokens, no end-of-word marks, no blanks."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomWords:
    """Parameters of a generator of random words; ``draw`` makes them.

    Attributes:
        kind: what a word is made of, see the module.
        count: words in a prompt: a number, or a range ``(low, high)``, both included, drawn for each prompt.
        length: characters in a word of the kinds "letters" and "digits": a number or a range as above.
        dictionary: the words of the kind "dictionary"; ``None`` means the bundled list.

    Raises:
        UsageError: on construction, when a value is out of its range or a dictionary comes with another kind.
        WordsError: on construction, when the dictionary is not a list of single words.
    """

    kind: Kind = "letters"
    count: int | tuple[int, int] = 3
    length: int | tuple[int, int] = (3, 8)
    dictionary: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_choice(self.kind, "kind of random words", get_args(Kind))
        self._set("count", _range(self.count, "count of random words", MAX_COUNT))
        self._set("length", _range(self.length, "length of random words", MAX_WORD))
        if self.dictionary is None:
            return
        if self.kind != "dictionary":
            raise UsageError(
                f"a dictionary is drawn from with kind 'dictionary' only, got kind {shown(self.kind)}; "
                "change the kind or leave the dictionary out."
            )
        self._set("dictionary", check_list(self.dictionary, "dictionary", check_word, MAX_DICTIONARY))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the way to tidy a field of a frozen dataclass

    def draw(self, n_pairs: int, seed: int, *, pieces: SubWords | None = None) -> list[str]:
        """Return ``n_pairs`` strings of random words, the words separated by single blanks.

        Draws are independent and with replacement.  A shorter draw is not the beginning of a longer one.

        Args:
            n_pairs: how many strings, at least 1.
            seed: a whole number from 0; the same seed gives the same words.
            pieces: the sub-word table; needed by the kind "tokens" and by no other.

        Raises:
            UsageError: a number is out of its range, or ``pieces`` is missing or not usable.
        """
        check_whole(n_pairs, "number of prompt pairs", 1, MAX_DRAWS)
        generator = _generator(seed)
        counts = _drawn(generator, self.count, n_pairs)
        words = self._words(generator, int(counts.sum()), pieces)
        return [" ".join(part) for part in _split(words, counts.tolist())]

    def _words(self, generator: np.random.Generator, total: int, pieces: SubWords | None) -> Sequence[str]:
        if self.kind in _ALPHABETS:
            lengths = _drawn(generator, self.length, total)
            return _split(
                "".join(_chosen(generator, _ALPHABETS[self.kind], int(lengths.sum()))), lengths.tolist()
            )
        if self.kind == "tokens":
            return _chosen(generator, _checked_pieces(pieces), total)
        return _chosen(generator, self.dictionary or default_dictionary(), total)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters for JSON; ``from_dict`` gives an equal generator."""
        values = {key: getattr(self, key) for key in _KEYS}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RandomWords:
        """Return the generator that ``to_dict`` described, also after a trip through JSON.

        Raises:
            WordsError: a key is not known.
            UsageError: a value is not as described in the class.
        """
        return cls(**check_keys(values, "random words", _KEYS))

    def describe(self) -> dict[str, Any]:
        """Return what a model card says: the parameters that matter for the kind, and the list drawn from."""
        card: dict[str, Any] = {"kind": self.kind, "count": _plain(self.count)}
        if self.kind in _ALPHABETS:
            card["length"] = _plain(self.length)
        if self.kind == "dictionary":
            words = self.dictionary or default_dictionary()
            card["dictionary"] = "bundled" if self.dictionary is None else "given"
            card |= {"dictionary_words": len(words), "dictionary_sha256": words_sha256(words)}
        return card


_KEYS = tuple(field.name for field in fields(RandomWords))


@lru_cache(maxsize=1)
def default_dictionary() -> tuple[str, ...]:
    """Return the bundled list of everyday English nouns and adjectives, in the order of its file."""
    text = files("zeroflaw.words").joinpath("dictionary.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def words_sha256(words: Iterable[str]) -> str:
    """Return the SHA-256, in hexadecimal digits, of the words in their order, one a line, as UTF-8."""
    return hashlib.sha256("".join(f"{word}\n" for word in words).encode("utf-8")).hexdigest()


def _generator(seed: int) -> np.random.Generator:
    import numpy as np  # not above: the command's help must not wait for it

    # Not default_rng(seed): which bit generator that takes may change between versions of NumPy.
    return np.random.Generator(np.random.PCG64(check_whole(seed, "seed", 0, 2**64 - 1)))


def _range(value: object, what: str, high: int) -> int | tuple[int, int]:
    """Return a number, or a range of two numbers in order, each of 1..``high``, else raise ``UsageError``."""
    if not isinstance(value, list | tuple):
        return check_whole(value, what, 1, high)
    if len(value) != 2:
        raise UsageError(
            f"{what} must be a number or a range of two, got {shown(value)}; write it as (low, high)."
        )
    low, top = (check_whole(end, what, 1, high) for end in value)
    if low > top:
        raise UsageError(f"{what} must be a range from low to high, got {shown(value)}; swap its ends.")
    return low, top


def _plain(value: int | tuple[int, int]) -> int | list[int]:
    return list(value) if isinstance(value, tuple) else value


def _drawn(generator: np.random.Generator, bounds: int | tuple[int, int], size: int) -> Whole:
    """Return ``size`` whole numbers, uniform in the bounds, both included."""
    low, high = bounds if isinstance(bounds, tuple) else (bounds, bounds)
    return generator.integers(low, high, size=size, dtype="int64", endpoint=True)


def _chosen(generator: np.random.Generator, source: Sequence[str], size: int) -> list[str]:
    """Return ``size`` items of ``source``, uniform and with replacement."""
    return [source[place] for place in _drawn(generator, (0, len(source) - 1), size).tolist()]


def _split(items: Sequence[str], sizes: list[int]) -> list[Any]:
    """Cut a string or list into consecutive parts of the given sizes."""
    return [items[start:stop] for start, stop in pairwise(accumulate(sizes, initial=0))]


def _checked_pieces(pieces: SubWords | None) -> Sequence[str]:
    if pieces is None:
        raise UsageError(
            "random words of kind 'tokens' need the backbone's sub-word table, got none; pass pieces=..."
        )
    table = pieces.vocabulary
    if len(table) < 2:
        raise UsageError(
            f"a table of at least two sub-word pieces was wanted, got {len(table)}; check the tokenizer."
        )
    return [
        check_word(piece, "sub-word piece", MAX_CHARACTERS) for piece in table
    ]  # some are long runs of dashes
