"""Captions of the joint training: a frame (template, subject, random words) with a state put into it.

Everything is drawn from a ``random.Random`` that the caller owns, so one seed gives one list. Two captions
rendered from one :class:`Frame` differ in nothing but the state, which is what makes their difference useful.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from training import vocabulary as words

PLACES = ("before", "subject", "between", "end")
"""Where random words stand: before the state, as the subject, between state and object, at the end."""

_ALL_TEMPLATES = words.ENSEMBLE_TEMPLATES + words.OTHER_TEMPLATES


@dataclass(frozen=True, slots=True)
class Frame:
    """A sentence with one open place for a state phrase such as ``"damaged {}"``.

    Attributes:
        template: sentence with ``{}`` for the phrase.
        subject: what the phrase speaks of; may be empty.
        before: words between template and phrase; may be empty.
        after: words after the whole sentence; may be empty.
        mend_article: write "an" before a vowel; off, "a" stays as template-based prompts have it.
    """

    template: str
    subject: str
    before: str = ""
    after: str = ""
    mend_article: bool = True

    def render(self, phrase: str) -> str:
        """Return the caption with ``phrase`` (one ``{}``) in it, blanks collapsed."""
        body = f"{self.before} {phrase.format(self.subject)}"
        text = " ".join(f"{self.template.format(body)} {self.after}".split())
        return re.sub(r"\b([aA]) (?=[aeio]|un(?!i))", r"\1n ", text) if self.mend_article else text


def random_word(rng: Random) -> str:
    """Return 3 to 8 letters drawn uniformly from a-z."""
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 8)))


def random_words(rng: Random, count: int | None = None) -> str:
    """Return ``count`` random words (1 to 5 when not given), separated by blanks."""
    return " ".join(random_word(rng) for _ in range(count or rng.randint(1, 5)))


def draw_template(rng: Random) -> str:
    """Return a sentence frame: 40 % the one of the two-class pair, else any of the known ones."""
    return "a photo of a {}" if rng.random() < 0.4 else rng.choice(_ALL_TEMPLATES)


def draw_object(rng: Random) -> str:
    """Return an object name, a third of the time a generic one."""
    return rng.choice(words.GENERIC if rng.random() < 0.34 else words.OBJECTS)


def draw_frame(rng: Random) -> Frame:
    """Return a random frame: 45 % a plain object, 5 % no subject, the rest with random words."""
    template, mend, kind = draw_template(rng), rng.random() < 0.7, rng.random()
    if kind < 0.45:
        return Frame(template, draw_object(rng), mend_article=mend)
    if kind < 0.50:
        return Frame(template, "", mend_article=mend)
    return frame_with_words(rng, rng.choice(PLACES), template, mend)


def frame_with_words(rng: Random, place: str, template: str, mend_article: bool = True) -> Frame:
    """Return a frame with 1 to 5 random words at ``place`` (one of :data:`PLACES`)."""
    letters = random_words(rng)
    if place == "subject":
        return Frame(template, letters, mend_article=mend_article)
    if place == "between":
        return Frame(template, f"{letters} {draw_object(rng)}", mend_article=mend_article)
    named = draw_object(rng) if rng.random() < 0.7 else ""
    if place == "before":
        return Frame(template, named, before=letters, mend_article=mend_article)
    return Frame(template, named, after=letters, mend_article=mend_article)


def caption(rng: Random, phrases: Sequence[str]) -> str:
    """Return one caption with a random frame and one of ``phrases``."""
    return draw_frame(rng).render(rng.choice(phrases))


def neutral_caption(rng: Random) -> str:
    """Return a caption that says nothing about the state: half of the time with an attribute."""
    if rng.random() < 0.15:
        return draw_template(rng).format(rng.choice(words.ATTRIBUTES))
    return draw_frame(rng).render(f"{rng.choice(words.ATTRIBUTES)} {{}}" if rng.random() < 0.6 else "{}")


def neutral_pair(rng: Random) -> tuple[str, str]:
    """Return two captions of one frame that differ in one attribute only."""
    frame, pair = draw_frame(rng), rng.sample(words.ATTRIBUTES, 2)
    return frame.render(f"{pair[0]} {{}}"), frame.render(f"{pair[1]} {{}}")
