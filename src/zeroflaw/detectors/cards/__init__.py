"""Model cards: a template for each kind of detector, in Markdown, beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from zeroflaw.detectors.contract import Detector
from zeroflaw.errors import markdown, printable


def model_card(detector: Detector, words: Mapping[str, Any], **facts: Any) -> str:
    """Return the card as Markdown, in which nothing that strangers wrote is taken for HTML, a link or code.

    Args:
        detector: what was fitted.
        words: all words used, as JSON values.
        facts: what templates speak of beside: scorer, backbone, what was seen.
    """
    names = [f"{cls.name}.md" for cls in type(detector).__mro__ if hasattr(cls, "name")]
    card = _cards().select_template([*names, "card.md"])
    return card.render(d=detector, words=_quoted(words), **facts)


@lru_cache(maxsize=1)
def _cards() -> Environment:
    cards = Environment(
        loader=PackageLoader(__name__, "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, for which the cards name what strangers wrote: these filters escape it
    )
    cards.filters |= {"md": markdown, "code": lambda text: printable(text).replace("`", "'")}
    return cards


def _quoted(words: Any) -> Any:
    """Return JSON values whose texts can stand in Markdown."""
    if isinstance(words, Mapping):
        return {key: _quoted(value) for key, value in words.items()}
    if isinstance(words, list | tuple):
        return [_quoted(value) for value in words]
    return markdown(words) if isinstance(words, str) else words
