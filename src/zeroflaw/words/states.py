"""What is said about the state of an object: the two-class pair, the compositional ensemble, a user's words.

A *state phrase* holds ``{}`` where the object belongs (``"damaged {}"``); a *template* holds ``{}`` where the
state phrase belongs (``"a photo of a {}"``).  A words file is TOML; each key may be left out::

    normal = ["intact {}", "{} without scratch"]    # a plain "intact" means "intact {}"
    anomalous = ["scratched", "{} with a scratch"]
    templates = ["a photo of a {}"]
    dictionary = ["river", "table", "blue"]         # for random words of the kind "dictionary"
    object = "metal nut"
"""

from __future__ import annotations

import os
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from zeroflaw.errors import UsageError, WordsError, printable
from zeroflaw.files import read_toml
from zeroflaw.parameters import parameter_names, parameters
from zeroflaw.words.articles import Articles, fill
from zeroflaw.words.phrases import ObjectName, States, Templates, Words, object_name

_MOST_BYTES = 4 << 20  # a dictionary of 100,000 words of usual length needs about 1.5 MB

TWO_CLASS = ("normal {}", "anomalous {}")
TEMPLATE_PHOTO = "a photo of a {}"
"""The pair of state phrases of the two-prompt score, normal first, and the template of that pair."""

_LISTS: dict[str, list[str]] = tomllib.loads((files("zeroflaw.words") / "states.toml").read_text("utf-8"))

ENSEMBLE_NORMAL = tuple(_LISTS["ensemble_normal"])
ENSEMBLE_ANOMALOUS = tuple(_LISTS["ensemble_anomalous"])
ENSEMBLE_TEMPLATES = tuple(_LISTS["ensemble_templates"])
"""The compositional ensemble of WinCLIP (Jeong et al., CVPR 2023): 7 and 4 states, 22 templates."""

ENSEMBLE_TEMPLATES_21 = tuple(_LISTS["ensemble_templates_21"])
"""The templates of two public implementations, each with a period: 21 entries, 20 of them distinct."""

IMAGENET_TEMPLATES = tuple(_LISTS["imagenet_templates"])
"""The eighty templates with which CLIP names the classes of ImageNet (Radford et al., ICML 2021)."""


def object_phrase(name: str | None, placeholder: str = "object") -> str:
    """Return the words for an object: underscores become blanks, ``None`` (unknown) the placeholder.

    Raises:
        WordsError: the name is empty, too long, or holds characters that cannot be seen.
    """
    return placeholder if name is None else object_name(name)


@parameters
class Vocabulary:
    """All words that a detector may use; by default the two-class pair in one template.

    Attributes:
        normal: states of the normal side, phrases with one ``{}`` or plain words that go before the object.
        anomalous: states of the anomalous side; none may stand on both sides.
        templates: sentences with one ``{}`` for the state phrase.
        dictionary: single words to draw random words from; ``None`` means the bundled list.
        object: the object's name; ``None`` means unknown.

    Raises:
        UsageError: on construction, a `WordsError` where an entry is not as described.
    """

    name: ClassVar[str] = "words"

    normal: States = (TWO_CLASS[0],)
    anomalous: States = (TWO_CLASS[1],)
    templates: Templates = (TEMPLATE_PHOTO,)
    dictionary: Words | None = None
    object: ObjectName | None = None

    def __post_init__(self) -> None:
        anomalous = {phrase.casefold() for phrase in self.anomalous}
        if shared := next((phrase for phrase in self.normal if phrase.casefold() in anomalous), None):
            raise WordsError(f"normal and anomalous must not share a phrase, got {shared!r} in both")

    @classmethod
    def words_in(cls, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Read the words of a words file, checked: keys that it leaves out are not there.

        Raises:
            WordsError: the file cannot be read, is not TOML (with the line) or holds anything but words.
        """
        told = read_toml(Path(path), _MOST_BYTES, "words file", WordsError)
        try:
            if not told:
                known = ", ".join(parameter_names(cls))
                raise WordsError(f"it must hold one of {known}, got none of them; add one")
            words = cls(**told)
        except UsageError as error:
            raise WordsError(f"words file '{printable(path)}': {error}") from None
        return {key: getattr(words, key) for key in told}

    def describe(self) -> dict[str, Any]:
        """Return what a model card says: object, states, templates and how many sentences they make."""
        sides = {"normal": list(self.normal), "anomalous": list(self.anomalous)}
        counts = {side: len(states) * len(self.templates) for side, states in sides.items()}
        return sides | {"templates": list(self.templates), "object": self.object, "sentences": counts}


def sentences(
    vocabulary: Vocabulary, *, articles: Articles = "literal", placeholder: str = "object"
) -> tuple[list[str], list[str]]:
    """Return every state in every template, for the normal and for the anomalous side.

    Args:
        vocabulary: the words.
        articles: how the article before the object is written; "the" and "none" turn templates that differ
            in their article into equal sentences, which are all kept.
        placeholder: what stands for an object whose name is ``None``; "" is nothing.

    Returns:
        Two lists of ``states x templates`` sentences each, in the order of the vocabulary, templates fastest.

    Raises:
        WordsError: the object's name is left out where a state phrase needs it.
    """
    name = placeholder if vocabulary.object is None else vocabulary.object

    def side(states: tuple[str, ...]) -> list[str]:
        phrases = [state_of(state, name) for state in states]
        return [fill(template, phrase, articles) for phrase in phrases for template in vocabulary.templates]

    return side(vocabulary.normal), side(vocabulary.anomalous)


def state_of(state: str, name: str) -> str:
    """Return a state phrase about an object: ``"damaged {}"`` and ``"nut"`` give ``"damaged nut"``.

    Raises:
        WordsError: ``name`` is empty and the phrase begins with it: "a photo of a with flaw" says nothing.
    """
    if not name and state.startswith("{}"):
        raise WordsError(f"a state phrase needs a word before {{}} where no object is named, got {state!r}")
    return fill(state, name)
