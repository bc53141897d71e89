"""Whether parameters are of the kinds that their annotations say."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from zeroflaw.errors import UsageError, closest

_LONGEST = 120  # characters of a wrong value that are shown


def check_kinds(parameters: Any) -> None:
    """Refuse a dataclass whose constructor fields are not what their annotations say.

    Raises:
        UsageError: with the field, what is wanted and what was given.
    """
    # Names that only type checkers import belong to learned state, which is not looked at.
    hints = get_type_hints(type(parameters), localns={"Backbone": object})
    for field in dataclasses.fields(parameters):
        value, hint = getattr(parameters, field.name), hints[field.name]
        if field.init and not _fits(value, hint):
            near = closest(value, _choices(hint)) if isinstance(value, str) else ""
            raise UsageError(f"{field.name} must be {_words(hint)}, got {_shown(value)}{near}")


def _shown(value: Any) -> str:
    """A value as it is written, cut where it would fill the screen."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        wanted = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(wanted) == len(value) and all(map(_fits, value, wanted))
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def _choices(hint: Any) -> tuple[str, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "nothing"}


def _words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in arguments)
    if origin is tuple:
        return f"several of: {_words(arguments[0])}"
    return _NAMES.get(hint, str(hint))
