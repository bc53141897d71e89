"""Prompts of training pairs: a state phrase, random words, perhaps an object, in a template.

The two members of a training pair share their random words, so that nothing but the state (and the article,
if it is to agree) tells them apart.  Where the random words stand is not known from the paper (Tamura, BMVC
2023) and therefore a choice; with the random words "kqe wop" and the object "metal nut":

====== ======================================= ================================
        known object                            unknown object
====== ======================================= ================================
start  a photo of a kqe wop normal metal nut   a photo of a kqe wop normal
middle a photo of a normal kqe wop metal nut   a photo of a normal kqe wop
end    a photo of a normal metal nut kqe wop   a photo of a normal kqe wop
====== ======================================= ================================

``trailing_object`` lets the word "object" stand for an unknown object: "a photo of a normal kqe wop object".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from zeroflaw.words.articles import Articles, fill
from zeroflaw.words.phrases import as_phrase
from zeroflaw.words.states import TEMPLATE_PHOTO, object_phrase

Position = Literal["start", "middle", "end"]
"""Random words before the state word, between state and object, or after both."""


def training_prompts(
    words: Sequence[str],
    *,
    states: tuple[str | Sequence[str], str | Sequence[str]] = ("normal", "anomalous"),
    object: str | None = None,
    template: str = TEMPLATE_PHOTO,
    position: Position = "middle",
    articles: Articles = "literal",
    trailing_object: bool = False,
) -> tuple[list[str], list[str]]:
    """Return a normal and an anomalous prompt for each string of random words; pair i shares ``words[i]``.

    States and template are taken as they are: `zeroflaw.words.Vocabulary` checks those that a user wrote.

    Args:
        words: strings of random words, as `zeroflaw.words.random_words.RandomWords.draw` makes them.
        states: the normal and the anomalous state, or several of each, plain words or phrases with ``{}``.
            With several, the pairs take them in turn, so that all combinations come equally often: pair i
            has normal ``i % n``, anomalous ``i // n % m``.
        object: the object's name, or ``None`` for an unknown object.
        template: a sentence with ``{}``; random words, state and object all stand in its place.
        position: where the random words stand, see the module.
        articles: how the article before them is written, see `zeroflaw.words.articles`.
        trailing_object: write the word "object" for an unknown object, instead of nothing.
    """
    normal, anomalous = ([side] if isinstance(side, str) else side for side in states)
    name = object_phrase(object, "object" if trailing_object else "")

    def prompt(state: str, random: str) -> str:
        if position == "middle":
            return fill(template, fill(as_phrase(state), f"{random} {name}"), articles)
        phrase = fill(as_phrase(state), name)
        return fill(template, f"{random} {phrase}" if position == "start" else f"{phrase} {random}", articles)

    n, m = len(normal), len(anomalous)
    return (
        [prompt(normal[i % n], random) for i, random in enumerate(words)],
        [prompt(anomalous[i // n % m], random) for i, random in enumerate(words)],
    )
