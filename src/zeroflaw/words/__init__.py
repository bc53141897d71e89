"""Everything about language: state words, templates, random words and the prompts made of them.

Reading order: :mod:`~zeroflaw.words.states` (what is said about the state of an object),
:mod:`~zeroflaw.words.random_words` (words that say nothing about it), :mod:`~zeroflaw.words.prompts`
(both put into a template).  Nothing here knows a model; a prompt is plain text.
"""

from zeroflaw.words.articles import Articles, fill
from zeroflaw.words.prompts import Position, training_prompts
from zeroflaw.words.random_words import Kind, RandomWords, default_dictionary, words_sha256
from zeroflaw.words.states import (
    ENSEMBLE_ANOMALOUS,
    ENSEMBLE_NORMAL,
    ENSEMBLE_TEMPLATES,
    TEMPLATE_PHOTO,
    TWO_CLASS,
    Vocabulary,
    object_phrase,
    sentences,
)

__all__ = [
    "ENSEMBLE_ANOMALOUS",
    "ENSEMBLE_NORMAL",
    "ENSEMBLE_TEMPLATES",
    "TEMPLATE_PHOTO",
    "TWO_CLASS",
    "Articles",
    "Kind",
    "Position",
    "RandomWords",
    "Vocabulary",
    "default_dictionary",
    "fill",
    "object_phrase",
    "sentences",
    "training_prompts",
    "words_sha256",
]
