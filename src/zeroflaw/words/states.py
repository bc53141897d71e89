"""What is said about the state of an object: the two-class pair, the compositional ensemble, a user's words.

A *state phrase* holds ``{}`` where the object belongs (``"damaged {}"``); a *template* holds ``{}`` where the
state phrase belongs (``"a photo of a {}"``).  The compositional ensemble is that of WinCLIP (Jeong et al.,
CVPR 2023): 7 normal and 4 anomalous states x 22 templates = 154 and 88 sentences for an object.

A words file is TOML; each key may be left out::

    normal = ["intact {}", "{} without scratch"]    # a plain "intact" means "intact {}"
    anomalous = ["scratched", "{} with a scratch"]
    templates = ["a photo of a {}"]
    dictionary = ["river", "table", "blue"]         # for random words of the kind "dictionary"
    object = "metal nut"
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from zeroflaw.errors import WordsError
from zeroflaw.toml_file import read_toml
from zeroflaw.words._checks import (
    MAX_DICTIONARY,
    MAX_PHRASES,
    check_choice,
    check_keys,
    check_list,
    check_phrase,
    check_state,
    check_text,
    check_word,
    folded,
    shown,
)
from zeroflaw.words.articles import Articles, fill

TWO_CLASS = ("normal {}", "anomalous {}")
"""The pair of state phrases of the two-prompt score, normal first."""

TEMPLATE_PHOTO = "a photo of a {}"
"""The one template of the two-prompt score and of the training prompts."""

ENSEMBLE_NORMAL = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
"""The seven normal states of the compositional ensemble."""

ENSEMBLE_ANOMALOUS = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
"""The four anomalous states of the compositional ensemble."""

ENSEMBLE_TEMPLATES = (
    "a cropped photo of a {}",
    "a cropped photo of the {}",
    "a close-up photo of a {}",
    "a close-up photo of the {}",
    "a bright photo of a {}",
    "a bright photo of the {}",
    "a dark photo of a {}",
    "a dark photo of the {}",
    "a jpeg corrupted photo of a {}",
    "a jpeg corrupted photo of the {}",
    "a blurry photo of a {}",
    "a blurry photo of the {}",
    "a photo of a {}",
    "a photo of the {}",
    "a photo of a small {}",
    "a photo of the small {}",
    "a photo of a large {}",
    "a photo of the large {}",
    "a photo of a {} for visual inspection",
    "a photo of the {} for visual inspection",
    "a photo of a {} for anomaly detection",
    "a photo of the {} for anomaly detection",
)
"""The twenty-two templates of the compositional ensemble: eleven views, each with "a" and with "the"."""

ENSEMBLE_TEMPLATES_21 = tuple(
    f"{template}."
    for template in (
        *ENSEMBLE_TEMPLATES[1:8],
        "a jpeg corrupted photo of the {}",
        *ENSEMBLE_TEMPLATES[9:],
    )
)
"""The list of two public implementations (anomalib, Accurate-WinCLIP), each with a period at its end.

"Cropped" and "jpeg corrupted" are missing with "a", and "jpeg corrupted" stands there twice with "the": 21
entries, 20 of them distinct.
"""

IMAGENET_TEMPLATES = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)
"""The eighty templates with which CLIP names the classes of ImageNet (Radford et al., ICML 2021), in the
authors' spelling and order.
"""

MAX_OBJECT = 100
"""Longest object name, in characters."""

UnknownObject = Literal["object", "omit"]
"""What stands for an object whose name is not known: the word "object", or nothing."""


def object_phrase(name: str | None, unknown: UnknownObject = "object") -> str:
    """Return the words for an object: underscores become blanks, ``None`` (unknown) "object" or nothing.

    Raises:
        WordsError: the name is empty, too long, or holds characters that cannot be seen.
        UsageError: ``unknown`` is neither ``"object"`` nor ``"omit"``.
    """
    check_choice(unknown, "unknown", get_args(UnknownObject))
    if name is None:
        return "object" if unknown == "object" else ""
    plain = name.replace("_", " ") if isinstance(name, str) else name
    return check_text(plain, "object name", MAX_OBJECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """All words that a detector may use; by default the two-class pair in one template.

    Attributes:
        normal: state phrases of the normal side, each with one ``{}``.
        anomalous: state phrases of the anomalous side, each with one ``{}``; none may stand on both sides.
        templates: sentences with one ``{}`` for the state phrase.
        dictionary: single words to draw random words from; ``None`` means the bundled list.
        object: the object's name; ``None`` means unknown.

    Raises:
        WordsError: on construction, when an entry is not as described.
    """

    normal: tuple[str, ...] = (TWO_CLASS[0],)
    anomalous: tuple[str, ...] = (TWO_CLASS[1],)
    templates: tuple[str, ...] = (TEMPLATE_PHOTO,)
    dictionary: tuple[str, ...] | None = None
    object: str | None = None

    def __post_init__(self) -> None:
        for name in ("normal", "anomalous", "templates"):
            self._set(name, check_list(getattr(self, name), name, check_phrase, MAX_PHRASES))
        if self.dictionary is not None:
            self._set("dictionary", check_list(self.dictionary, "dictionary", check_word, MAX_DICTIONARY))
        if self.object is not None:
            self._set("object", object_phrase(self.object))
        self._refuse_shared_phrase()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the way to tidy a field of a frozen dataclass

    def _refuse_shared_phrase(self) -> None:
        anomalous = {folded(phrase) for phrase in self.anomalous}
        if shared := next((phrase for phrase in self.normal if folded(phrase) in anomalous), None):
            raise WordsError(
                f"normal and anomalous must not share a phrase, got {shown(shared)} in both; remove one."
            )

    @classmethod
    def two_class(cls) -> Vocabulary:
        """Return the two-class pair in the one template "a photo of a {}"."""
        return cls()

    @classmethod
    def ensemble(cls) -> Vocabulary:
        """Return the compositional ensemble: 7 normal and 4 anomalous states x 22 templates."""
        return cls(normal=ENSEMBLE_NORMAL, anomalous=ENSEMBLE_ANOMALOUS, templates=ENSEMBLE_TEMPLATES)

    def updated(self, **words: Any) -> Vocabulary:
        """Return a copy with other words as a user writes them: a plain state ``"bent"`` means ``"bent {}"``.

        Args:
            words: any of the attributes; ``None`` leaves one as it is, so absent flags can be passed on.

        Raises:
            WordsError: a key or an entry is not as described in the class.
        """
        given = {key: value for key, value in check_keys(words, "words", _KEYS).items() if value is not None}
        for side in ("normal", "anomalous"):
            if side in given:
                given[side] = check_list(given[side], side, check_state, MAX_PHRASES)
        return replace(self, **given)

    @classmethod
    def words_in(cls, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Read only the words that a words file holds, checked: keys that it leaves out are not there.

        Args:
            path: a TOML file in UTF-8 with any of the keys normal, anomalous, templates, dictionary, object.

        Raises:
            WordsError: the file cannot be read, is not TOML, or holds anything but words; names the file.
        """
        try:
            given = check_keys(read_toml(path), "a words file", _KEYS)
            if not given:
                raise WordsError(
                    f"a words file must hold one of {', '.join(_KEYS)}, got none of them; add one."
                )
            checked = cls().updated(**given)
        except WordsError as error:
            raise WordsError(f"words file {os.fspath(path)!r}: {error}") from None
        return {key: getattr(checked, key) for key in given}

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], base: Vocabulary | None = None) -> Vocabulary:
        """Read a words file; keys that it leaves out keep the words of ``base`` (two-class when ``None``).

        Raises:
            WordsError: see `words_in`; or the file's words and those of ``base`` contradict each other.
        """
        words = cls.words_in(path)
        try:
            return (base or cls()).updated(**words)
        except WordsError as error:
            raise WordsError(f"words file {os.fspath(path)!r}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return the words as plain lists for JSON; ``from_dict`` gives an equal vocabulary."""
        values = {key: getattr(self, key) for key in _KEYS}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Vocabulary:
        """Return the vocabulary that ``to_dict`` described; every phrase must hold its ``{}``.

        Raises:
            WordsError: a key or an entry is not as described in the class.
        """
        return cls(**check_keys(values, "a vocabulary", _KEYS))

    def describe(self) -> dict[str, Any]:
        """Return what a model card says: object, states, templates and how many sentences they make.

        The dictionary is left to :meth:`zeroflaw.words.random_words.RandomWords.describe`.
        """
        words = {key: value for key, value in self.to_dict().items() if key != "dictionary"}
        return words | {
            "sentences": {
                "normal": len(self.normal) * len(self.templates),
                "anomalous": len(self.anomalous) * len(self.templates),
            }
        }


_KEYS = tuple(field.name for field in fields(Vocabulary))


def sentences(
    vocabulary: Vocabulary,
    object: str | None = None,
    *,
    articles: Articles = "literal",
    unknown: UnknownObject = "object",
) -> tuple[list[str], list[str]]:
    """Return every state in every template, for the normal and for the anomalous side.

    Args:
        vocabulary: the words.
        object: the object's name; ``None`` takes ``vocabulary.object``, and when that is ``None`` too, the
            object is unknown.
        articles: how the article before the object is written, see :mod:`zeroflaw.words.articles`; "the" and
            "none" turn templates that differ in their article into equal sentences, which are all kept.
        unknown: what stands for an unknown object.

    Returns:
        Two lists of ``states x templates`` sentences each, in the order of the vocabulary, templates fastest.

    Raises:
        WordsError: the object's name is refused, or is left out where a state phrase needs it.
        UsageError: ``articles`` or ``unknown`` is not a known choice.
    """
    name = object_phrase(object if object is not None else vocabulary.object, unknown)
    return (
        _side(vocabulary.normal, vocabulary.templates, name, articles),
        _side(vocabulary.anomalous, vocabulary.templates, name, articles),
    )


def _side(states: tuple[str, ...], templates: tuple[str, ...], name: str, articles: Articles) -> list[str]:
    phrases = [state_of(state, name) for state in states]
    return [fill(template, phrase, articles) for phrase in phrases for template in templates]


def state_of(state: str, name: str) -> str:
    """Return a state phrase about an object: ``"damaged {}"`` and ``"nut"`` give ``"damaged nut"``.

    Raises:
        WordsError: ``name`` is empty and the phrase begins with it: "a photo of a with flaw" says nothing.
    """
    if not name and state.startswith("{}"):
        raise WordsError(
            f"a state phrase needs a word before {{}} when the object is left out, got {shown(state)}; "
            "name the object, or let the word 'object' stand for it."
        )
    return fill(state, name)
