"""Checks on words and phrases; each refusal is one sentence: the place, what was wanted and got, the cure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

from zeroflaw.errors import UsageError, WordsError, closest

MAX_CHARACTERS = 200
"""Longest phrase or template, in characters; far more than the 77 tokens that a text tower reads."""

MAX_WORD = 40
"""Longest single word, in characters."""

MAX_PHRASES = 200
"""Most phrases in one list; 200 states x 200 templates are 40,000 sentences, a sensible end."""

MAX_DICTIONARY = 100_000
"""Most words in a dictionary."""

# Control, format (zero-width, text direction), lone surrogates, line and paragraph separators: none can be
# seen, so a file that holds one does not say what its reader thinks it says.
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}

_KINDS = {
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    dict: "a table",
    list: "a list",
}


def shown(value: object) -> str:
    """Return ``repr(value)``, cut to what fits into a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def kind_of(value: object) -> str:
    """Return in words what sort of value this is."""
    return "nothing" if value is None else _KINDS.get(type(value), f"a {type(value).__name__}")


def check_text(value: object, what: str, limit: int = MAX_CHARACTERS) -> str:
    """Return ``value`` with tidied blanks when it is a short visible string, else raise ``WordsError``."""
    if not isinstance(value, str):
        raise WordsError(f"{what} must be a string, got {kind_of(value)}; write a text in quotation marks.")
    if hidden := next((c for c in value if unicodedata.category(c) in _INVISIBLE), None):
        name = f"U+{ord(hidden):04X}"
        raise WordsError(
            f"{what} must be one line of visible characters, got {name} in {shown(value)}; remove it."
        )
    tidy = " ".join(value.split())
    if not tidy:
        raise WordsError(f"{what} must not be empty, got {shown(value)}; write a word or leave it out.")
    if len(tidy) > limit:
        raise WordsError(f"{what} may have {limit} characters, got {len(tidy)} in {shown(tidy)}; shorten it.")
    return tidy


def check_phrase(value: object, what: str) -> str:
    """Return a phrase or template with exactly one ``{}`` and no other brace, else raise ``WordsError``."""
    tidy = check_text(value, what)
    if tidy.count("{}") != 1 or "{" in (rest := tidy.replace("{}", "")) or "}" in rest:
        raise WordsError(
            f"{what} must hold {{}} exactly once and no other brace, got {shown(tidy)}; "
            "write {} where the object belongs, as in 'a photo of a {}'."
        )
    return tidy


def check_state(value: object, what: str) -> str:
    """Return a state phrase with one ``{}``; a plain word goes before it: ``bent`` is ``bent {}``."""
    tidy = check_text(value, what)
    return check_phrase(tidy if "{" in tidy or "}" in tidy else f"{tidy} {{}}", what)


def check_word(value: object, what: str, limit: int = MAX_WORD) -> str:
    """Return a single word without blanks, else raise ``WordsError``."""
    tidy = check_text(value, what, limit)
    if " " in tidy:
        raise WordsError(f"{what} must be a single word, got {shown(tidy)}; list its words one by one.")
    return tidy


def check_list(values: object, what: str, check: Callable[[object, str], str], limit: int) -> tuple[str, ...]:
    """Return the checked items of a list that is neither empty, too long nor repetitive."""
    if not isinstance(values, list | tuple):
        raise WordsError(
            f"{what} must be a list of strings, got {kind_of(values)}; write it as ['...', '...']."
        )
    if not values:
        raise WordsError(
            f"{what} must list at least one entry, got an empty list; add one or leave {what} out."
        )
    if len(values) > limit:
        raise WordsError(f"{what} may list {limit} entries, got {len(values)}; shorten the list.")
    items = tuple(check(value, f"{what} entry {place}") for place, value in enumerate(values, start=1))
    if twice := _first_repeated(items):
        raise WordsError(f"{what} must list each entry once, got {shown(twice)} twice; remove one of them.")
    return items


def folded(text: str) -> str:
    """Return the form under which two texts count as the same: case and runs of blanks play no part."""
    return " ".join(text.casefold().split())


def _first_repeated(items: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for item in items:
        if folded(item) in seen:
            return item
        seen.add(folded(item))
    return None


def check_choice(value: object, what: str, known: tuple[str, ...]) -> None:
    """Raise ``UsageError`` with the nearest known name unless ``value`` is one of ``known``."""
    if value not in known:
        near = closest(value, known) if isinstance(value, str) else ""
        raise UsageError(
            f"{what} must be one of {', '.join(known)}, got {shown(value)}{near or '; choose one of them.'}"
        )


def check_keys(values: object, what: str, known: tuple[str, ...]) -> dict[str, Any]:
    """Return ``values`` when it is a mapping whose keys are all known, else raise ``WordsError``."""
    if not isinstance(values, dict):
        raise WordsError(f"{what} must be a mapping with the keys {', '.join(known)}, got {kind_of(values)}.")
    for key in values:
        if key not in known:
            near = closest(str(key), known) or "; remove it."
            raise WordsError(f"{what} knows the keys {', '.join(known)}, got {shown(key)}{near}")
    return values


def check_whole(value: object, what: str, low: int, high: int) -> int:
    """Return a whole number of ``low``..``high``, else raise ``UsageError``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(
            f"{what} must be a whole number from {low} to {high}, got {shown(value)}; change it."
        )
    return value
