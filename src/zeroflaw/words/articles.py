"""Putting a phrase into a template, and what becomes of the article before it.

"a normal part" but "an anomalous part": with English grammar the article alone tells the two sides of a pair
apart, and a classifier that is trained on such pairs may learn the article instead of the state.  No source
of the method says which form it uses, so the article is a choice, to be tried both ways:

======= ============================ ====================================================================
mode    "a photo of a {}" filled     note
======= ============================ ====================================================================
literal a photo of a anomalous part  word for word, as templates are written; equal on both sides
agree   a photo of an anomalous part English grammar; the article differs between the sides
the     a photo of the anomalous ... natural, and equal on both sides
none    a photo of anomalous part    equal on both sides
======= ============================ ====================================================================

Only the article of the object is touched: the last "a", "an" or "the" before ``{}`` with nothing but plain
words, none of them a preposition, in between ("a photo of a small {}": the second "a").  Articles inside a
state phrase stay as written.
"""

from __future__ import annotations

import re
from typing import Literal

Articles = Literal["literal", "agree", "the", "none"]

_ARTICLES = frozenset({"a", "an", "the"})
_PREPOSITIONS = frozenset(
    {"of", "in", "on", "at", "by", "to", "for", "from", "with", "without", "under", "over", "near", "behind"}
    | {"showing", "featuring"}  # no prepositions, but they part the object from "a photo" just so
)
_YOU_SOUND = re.compile(r"(uni[cfloqstvp]|us[aeu]|ut[eio]|ub[iu]|eu|ewe|one\b|once\b)")
_SILENT_H = re.compile(r"(hour|heir|honest|hono)")
_SPOKEN_WITH_VOWEL = frozenset("aefhilmnorsx")
"""Letters whose names begin with a vowel sound: "an x", "an LED"."""


def indefinite(following: str) -> str:
    """Return ``"a"`` or ``"an"`` as the sound of the next word asks (English spelling rules, no dictionary).

    Abbreviations in capitals of up to four letters and single letters are taken as spelt out.
    """
    word = following.lower()
    if len(word) == 1 or (following.isupper() and following.isalpha() and len(following) <= 4):
        vowel = word[:1] in _SPOKEN_WITH_VOWEL or word == "8"
    elif word[:1].isdigit():
        vowel = word.startswith("8") or re.fullmatch(r"1[18](\d{3})*\D*", word) is not None
    elif word[:1] == "h":
        vowel = _SILENT_H.match(word) is not None
    else:
        vowel = word[:1] in set("aeiou") and not _YOU_SOUND.match(word)
    return "an" if vowel else "a"


def fill(template: str, phrase: str, articles: Articles = "literal") -> str:
    """Return ``template`` with ``phrase`` in the place of its ``{}`` and single blanks throughout.

    ``phrase`` is taken as it is: braces in it mean nothing.  ``template`` holds ``{}`` once.
    """
    before, _, after = template.partition("{}")
    if articles != "literal":
        before = _with_article(before, phrase, articles)
    return " ".join(f"{before}{phrase}{after}".split())


def _with_article(before: str, phrase: str, articles: Articles) -> str:
    found = _object_article(before)
    if found is None:
        return before
    written, rest = found.group(), before[found.end() :]
    article = "" if articles == "none" else "the"
    if articles == "agree" and written.lower() != "the":
        article = indefinite(next(iter(f"{rest}{phrase}".split()), ""))
    return before[: found.start()] + (article.capitalize() if written[0].isupper() else article) + rest


def _object_article(before: str) -> re.Match[str] | None:
    """Return where the article of the object stands in the text before ``{}``."""
    for found in reversed(list(re.finditer(r"\S+(?=\s)", before))):
        word = found.group().lower()
        if word in _ARTICLES:
            return found
        if word in _PREPOSITIONS or not word.replace("-", "").isalpha():
            return None
    return None
