"""Types of words, phrases and templates: checked once, where they come in, and plain text from there on.

They annotate parameters and records, see `zeroflaw.parameters`.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

from zeroflaw.errors import WordsError
from zeroflaw.parameters import shown

# Control, format (zero-width, text direction), lone surrogates, line and paragraph separators: none can be
# seen, so a file that holds one does not say what its reader thinks it says.
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(value: str, what: str, most: int) -> str:
    """Return a text of at most so many characters with single blanks; ``what`` names it in messages."""
    if hidden := next((c for c in value if unicodedata.category(c) in _INVISIBLE), None):
        code = f"U+{ord(hidden):04X}"
        raise WordsError(f"{what} must be visible characters in one line, got {code} in {shown(value)}")
    tidy = " ".join(value.split())
    if not tidy:
        raise WordsError(f"{what} must not be empty, got {value!r}; write a word or leave it out")
    if len(tidy) > most:
        raise WordsError(f"{what} may have {most} characters, got {len(tidy)} in {shown(tidy)}; shorten it")
    return tidy


def as_phrase(state: str) -> str:
    """Return a state as a phrase: a plain word goes before the object, ``bent`` is ``bent {}``."""
    return state if "{" in state or "}" in state else f"{state} {{}}"


def object_name(value: str) -> str:
    """Return the name of an object, underscores turned into blanks, when it is `visible`."""
    return visible(value.replace("_", " "), "the object name", 100)


def _with_place(tidy: str) -> str:
    if tidy.count("{}") != 1 or tidy.count("{") + tidy.count("}") != 2:
        raise WordsError(
            f"a phrase must hold {{}} exactly once and no other brace, got {shown(tidy)}; "
            "write {} where the object belongs, as in 'a photo of a {}'"
        )
    return tidy


def _word(value: str) -> str:
    tidy = visible(value, "a word", 40)
    if " " in tidy:
        raise WordsError(f"a single word was wanted, got {shown(tidy)}; list its words one by one")
    return tidy


def _each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    known: set[str] = set()
    for value in values:
        if value.casefold() in known:
            raise WordsError(f"a list must hold each entry once, got {value!r} twice; remove one of them")
        known.add(value.casefold())
    return values


ObjectName = Annotated[str, AfterValidator(object_name)]
Placeholder = Annotated[str, AfterValidator(lambda value: object_name(value) if value else "")]
"""What is written for an object whose name is not known; "" is nothing."""

# 200 characters are far more than the 77 tokens of a text tower.
Template = Annotated[str, AfterValidator(lambda value: _with_place(visible(value, "a template", 200)))]
"""A sentence with ``{}`` for the state phrase."""

State = Annotated[str, AfterValidator(lambda value: _with_place(as_phrase(visible(value, "a state", 200))))]
"""A phrase with ``{}`` for the object; a plain word ``"bent"`` becomes ``"bent {}"``."""

Word = Annotated[str, AfterValidator(_word)]
Description = Annotated[str, AfterValidator(lambda value: visible(value, "a description", 200))]

Templates = Annotated[tuple[Template, ...], Field(min_length=1, max_length=200), AfterValidator(_each_once)]
States = Annotated[tuple[State, ...], Field(min_length=1, max_length=200), AfterValidator(_each_once)]
Words = Annotated[tuple[Word, ...], Field(min_length=1, max_length=100_000), AfterValidator(_each_once)]
Descriptions = Annotated[tuple[Description, ...], Field(max_length=200)]
ObjectNames = Annotated[
    tuple[ObjectName, ...], Field(min_length=1, max_length=10_000), AfterValidator(_each_once)
]
