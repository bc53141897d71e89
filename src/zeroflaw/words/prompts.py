"""Prompts: a state phrase, perhaps random words, perhaps an object, in a template.

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
from typing import Literal, get_args

from zeroflaw.errors import UsageError, WordsError
from zeroflaw.words._checks import (
    MAX_PHRASES,
    check_choice,
    check_list,
    check_phrase,
    check_state,
    folded,
    shown,
)
from zeroflaw.words.articles import Articles, fill
from zeroflaw.words.states import TEMPLATE_PHOTO, UnknownObject, object_phrase, state_of

Position = Literal["start", "middle", "end"]
"""Random words before the state word, between state and object, or after both."""

States = tuple[str | Sequence[str], str | Sequence[str]]
"""The normal and the anomalous state, or several of each; a plain word ``"bent"`` means ``"bent {}"``."""


def pair_prompts(
    object: str | None = None,
    *,
    states: tuple[str, str] = ("normal", "anomalous"),
    template: str = TEMPLATE_PHOTO,
    articles: Articles = "literal",
    unknown: UnknownObject = "object",
) -> tuple[str, str]:
    """Return the normal and the anomalous prompt of the two-prompt score.

    Args:
        object: the object's name; ``None`` is an unknown object, for which ``unknown`` says what to write.
        states: the normal and the anomalous state, plain words or phrases with ``{}``.
        template: a sentence with ``{}`` for the state phrase.
        articles: how the article before the object is written, see :mod:`zeroflaw.words.articles`.
        unknown: what stands for an unknown object.

    Raises:
        WordsError: a state, the template or the name is refused.
        UsageError: ``articles`` or ``unknown`` is not a known choice.
    """
    (normal,), (anomalous,) = _checked_states(states)
    name = object_phrase(object, unknown)
    template = check_phrase(template, "template")
    return fill(template, state_of(normal, name), articles), fill(
        template, state_of(anomalous, name), articles
    )


def training_prompts(
    words: Sequence[str],
    *,
    states: States = ("normal", "anomalous"),
    object: str | None = None,
    template: str = TEMPLATE_PHOTO,
    position: Position = "middle",
    articles: Articles = "literal",
    trailing_object: bool = False,
) -> tuple[list[str], list[str]]:
    """Return a normal and an anomalous prompt for each string of random words; pair i shares ``words[i]``.

    Args:
        words: strings of random words, as :meth:`~zeroflaw.words.random_words.RandomWords.draw` makes them.
        states: the normal and the anomalous state.  With several of either, the pairs take them in turn, so
            that all combinations come equally often: pair i has normal ``i % n``, anomalous ``i // n % m``.
        object: the object's name, or ``None`` for an unknown object.
        template: a sentence with ``{}``; random words, state and object all stand in its place.
        position: where the random words stand, see the module.
        articles: how the article before them is written, see :mod:`zeroflaw.words.articles`.
        trailing_object: write the word "object" for an unknown object, instead of nothing.

    Returns:
        Two lists as long as ``words``.

    Raises:
        WordsError: a state, the template or the name is refused.
        UsageError: a choice is not known, or ``trailing_object`` comes with a known object.
    """
    check_choice(position, "position", get_args(Position))
    if trailing_object and object is not None:
        raise UsageError(
            f"trailing_object is for an unknown object, got the object {shown(object)} too; give only one."
        )
    if isinstance(words, str):
        raise UsageError(
            f"a list of strings of random words was wanted, got one string {shown(words)}; put it in a list."
        )
    normal, anomalous = _checked_states(states)
    name = object_phrase(object, "object" if trailing_object else "omit")
    template = check_phrase(template, "template")

    def prompt(state: str, random: str) -> str:
        return fill(template, _placed(state, name, random, position), articles)

    n, m = len(normal), len(anomalous)
    return (
        [prompt(normal[i % n], random) for i, random in enumerate(words)],
        [prompt(anomalous[i // n % m], random) for i, random in enumerate(words)],
    )


def _placed(state: str, name: str, random: str, position: Position) -> str:
    """Return state, object and random words in their order."""
    if position == "middle":
        return fill(state, f"{random} {name}")
    phrase = fill(state, name)
    return f"{random} {phrase}" if position == "start" else f"{phrase} {random}"


def _checked_states(states: States) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not isinstance(states, list | tuple) or len(states) != 2:
        raise WordsError(f"states must be a normal and an anomalous one, got {shown(states)}; give two.")
    normal, anomalous = (
        check_list(
            [side] if isinstance(side, str) else list(side), f"{name} states", check_state, MAX_PHRASES
        )
        for side, name in zip(states, ("normal", "anomalous"), strict=True)
    )
    if shared := {folded(state) for state in normal} & {folded(state) for state in anomalous}:
        raise WordsError(
            f"normal and anomalous states must differ, got {shown(min(shared))} in both; change one."
        )
    return normal, anomalous
