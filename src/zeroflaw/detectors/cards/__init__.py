"""Model cards: a template for each kind of detector, in Markdown, beside this file."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader(__name__, "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )


def card(detector: Any, **facts: Any) -> str:
    """Write the card of a detector by the template of its class, or of the nearest class that has one."""
    names = [f"{cls.name}.md" for cls in type(detector).__mro__ if hasattr(cls, "name")]
    return _templates().select_template([*names, "card.md"]).render(d=detector, **facts)
