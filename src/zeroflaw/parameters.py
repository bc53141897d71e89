"""Typed parameters and records: checked once, where they come in, and trusted inside.

`parameters` makes a class of keyword-only parameters, `Record` is the base of everything that is read from a
JSON or TOML file. Both are pydantic's, in strict mode; what is wrong with a value is said in one sentence:
the field, what is wanted, what was got.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterable, Mapping
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import pydantic
from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from zeroflaw.errors import UsageError, ZeroflawError, closest, printable

T = TypeVar("T")
M = TypeVar("M", bound="Record")

STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
_LONGEST = 120  # characters of a wrong value that are shown

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[float, Field(ge=1e-12, le=1e3)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


@dataclass_transform(kw_only_default=True, eq_default=False)
def parameters(cls: type[T]) -> type[T]:
    """Make a class of typed, keyword-only parameters out of its annotations; subclasses are decorated too.

    Values are checked when an object is made. Lists are taken for tuples, so that parameters are equal before
    and after a trip through JSON. A ``__post_init__`` may check what concerns several of them.

    Raises:
        UsageError: from the constructor; a name is unknown, or a value is of the wrong kind or out of range.
    """
    made = pydantic.dataclasses.dataclass(kw_only=True, eq=False, config=STRICT)(cls)
    init = made.__init__

    @functools.wraps(init)
    def checked(self: Any, **given: Any) -> None:
        if type(self) is made:
            require_known(given, parameter_names(made), getattr(made, "name", made.__name__))
        try:
            init(self, **{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})
        except ValidationError as error:
            raise in_words(error, made, UsageError) from None

    made.__init__ = checked  # type: ignore[method-assign]
    return made  # type: ignore[return-value]


def parameter_names(cls: type[Any]) -> list[str]:
    """Return the names of a class's parameters; a class that is no dataclass has none."""
    known = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return [field.name for field in known if field.init]


def require_known(names: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Refuse names that are not known.

    Raises:
        UsageError: with the nearest known name.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise UsageError(
                f"'{owner}' has no parameter '{name}'{closest(name, known)} (it has {', '.join(known)})"
            )


class Record(BaseModel):
    """Base of records that are read from files: strict, frozen, without unknown keys."""

    model_config = ConfigDict(**STRICT, frozen=True)

    @classmethod
    def read(cls: type[M], data: Mapping[str, Any], where: str, error: type[ZeroflawError]) -> M:
        """Check what a JSON or TOML file holds; lists in it are taken for tuples.

        Args:
            data: the parsed file.
            where: name of the file, for messages.
            error: class of the error.

        Raises:
            ZeroflawError: of the class ``error``: a key is missing, unknown, or its value is wrong.
        """
        try:
            return cls.model_validate(_tuples(data))
        except ValidationError as wrong:
            raise in_words(wrong, cls, error, where) from None


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(part) for part in value)
    if isinstance(value, dict):
        return {key: _tuples(part) for key, part in value.items()}
    return value


def in_words(
    error: ValidationError, owner: type[Any], kind: type[ZeroflawError], where: str = ""
) -> ZeroflawError:
    """Turn pydantic's error into one of ours: a sentence about the first value that is wrong."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ZeroflawError) and not where:
        return cause
    prefix = f"{where}: " if where else ""
    return kind(prefix + _sentence(first, owner))


def _sentence(first: ErrorDetails, owner: type[Any]) -> str:
    unknown = first["type"] in ("extra_forbidden", "unexpected_keyword_argument")
    # pydantic names the member of a union that it tried, as "tuple[int, ...]"; a stranger's key may look so.
    place = [part for part in first["loc"][: -1 if unknown else None] if "[" not in str(part)]
    place += first["loc"][-1:] if unknown else ()
    name = printable(".".join(str(part) for part in place)) or owner.__name__
    hints = get_type_hints(owner, include_extras=True)
    known = list(getattr(owner, "model_fields", hints))
    if first["type"] == "missing":
        return f"{name} is missing; add it"
    if unknown:
        return f"there is no '{name}'{closest(str(place[-1]), known)}"
    if "error" in first.get("ctx", {}):
        return str(first["ctx"]["error"])
    hint = hints.get(str(place[0])) if place else None
    nested = [part for part in place[1:] if not isinstance(part, int)]
    if hint is None or (nested and not _is_union(hint)):
        return f"{name} must be {_plain(first['msg'])}, got {shown(first['input'])}"
    entry = next((part + 1 for part in place[1:] if isinstance(part, int)), None)
    if entry is not None and not _is_union(hint):
        hint, name = _entry(hint), f"{place[0]} entry {entry}"
    else:
        name = str(place[0])
    value = first["input"]
    near = closest(value, _choices(hint)) if isinstance(value, str) else ""
    return f"{name} must be {wanted_words(hint)}, got {shown(value)}{near}"


def _is_union(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return _is_union(get_args(hint)[0])
    return get_origin(hint) in (Union, types.UnionType)


def _entry(hint: Any) -> Any:
    """The annotation of the entries of a tuple."""
    return _entry(get_args(hint)[0]) if get_origin(hint) is Annotated else get_args(hint)[0]


def _plain(message: str) -> str:
    text = message.removeprefix("Input should be ").removeprefix("Value should be ")
    return text[:1].lower() + text[1:]


def shown(value: object) -> str:
    """Return a value as it is written, cut where it would fill the screen."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "nothing"}


def wanted_words(hint: Any) -> str:
    """Say in words what an annotation asks for: kind, choices and range."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        flat = [m for mark in marks for m in (mark.metadata if hasattr(mark, "metadata") else [mark])]
        return wanted_words(inner) + _range(flat)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        return " or ".join(wanted_words(part) for part in arguments)
    if origin is tuple:
        several = "several" if Ellipsis in arguments else str(len(arguments))
        return f"{several} of: {wanted_words(arguments[0])}"
    return _NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def _range(marks: Iterable[Any]) -> str:
    low = high = ""
    lengths = []
    for mark in marks:
        if isinstance(mark, Ge | Gt):
            low = _number(mark.ge) if isinstance(mark, Ge) else f"above {_number(mark.gt)}"
        elif isinstance(mark, Le | Lt):
            high = _number(mark.le) if isinstance(mark, Le) else f"below {_number(mark.lt)}"
        elif isinstance(mark, MinLen | MaxLen | Len):
            lengths.append(_lengths(mark))
    if lengths:
        return f" ({' and '.join(lengths)})"
    if low and high:
        return f" from {low} to {high}"
    if low.startswith("above") or high.startswith("below"):
        return f" {low}{high}"
    return f" of at least {low}" if low else f" of at most {high}" if high else ""


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _lengths(mark: Any) -> str:
    least, most = getattr(mark, "min_length", None), getattr(mark, "max_length", None)
    return " and ".join([f"at least {least}"] * bool(least) + [f"at most {most}"] * bool(most))


def _choices(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(choice for part in get_args(hint) for choice in _choices(part))
    return get_args(hint) if get_origin(hint) is Literal else ()
