"""Typed parameters and records: what is wrong with a value is said in one sentence."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from zeroflaw.errors import DetectorError, UsageError, WordsError
from zeroflaw.parameters import Count, Record, parameter_names, parameters, shown, wanted_words


@parameters
class Mill:
    """A class of parameters of every kind."""

    name = "mill"

    speed: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    depth: float = 0.5
    share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    cold: bool = False
    tool: Literal["drill", "saw"] = "drill"
    label: str | None = None
    sizes: Annotated[tuple[Count, ...], Field(min_length=1, max_length=3)] = (1,)
    lengths: Annotated[int, Field(gt=0)] | tuple[int, int] = 1
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.label == "both":
            raise WordsError("label wants one thing")
        self.product_ = self.speed * self.depth


@parameters
class Lathe(Mill):
    """Parameters are inherited, and may get other defaults."""

    depth: float = 2.0
    turns: int = 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"speed": 0}, "speed must be a whole number from 1 to 1,000,000, got 0"),
        ({"speed": 2.0}, "speed must be a whole number from 1 to 1,000,000, got 2.0"),
        ({"speed": True}, "speed must be a whole number from 1 to 1,000,000, got True"),
        ({"depth": "deep"}, "depth must be a number, got 'deep'"),
        ({"depth": float("nan")}, "depth must be a number, got nan"),
        ({"share": 1.0}, "share must be a number from 0 to below 1, got 1.0"),
        ({"cold": 1}, "cold must be true or false, got 1"),
        ({"tool": "dril"}, "tool must be one of drill, saw, got 'dril'; did you mean 'drill'?"),
        ({"label": 3}, "label must be text or nothing, got 3"),
        ({"sizes": 4}, r"sizes must be several of: a whole number from 1 to 1,000,000 \(.*\), got 4"),
        ({"sizes": ()}, r"sizes must be several of: .* \(at least 1 and at most 3\), got \(\)"),
        ({"sizes": [1, 0]}, "sizes entry 2 must be a whole number from 1 to 1,000,000, got 0"),
        ({"words": ("a", None)}, "words entry 2 must be text, got None"),
        ({"words": ("x",) * 90 + (5,)}, "words entry 91 must be text, got 5"),
        ({"label": 10**200}, r"label must be text or nothing, got 1000+\.\.\.$"),
        ({"lengths": -1}, "lengths must be a whole number above 0 or 2 of: a whole number, got -1"),
        ({"sped": 3}, r"'mill' has no parameter 'sped'; did you mean 'speed'\? \(it has speed, depth,"),
        ({"label": "both"}, "^label wants one thing$"),
    ],
)
def test_wrong_values_are_told_in_a_sentence(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Mill(**given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 350


def test_lists_are_taken_for_tuples_and_whole_numbers_for_numbers() -> None:
    mill = Mill(sizes=[1, 2], lengths=[3, 4], depth=2)  # type: ignore[arg-type]
    assert (mill.sizes, mill.lengths, mill.product_) == ((1, 2), (3, 4), 20.0)


def test_subclasses_inherit_and_check_their_own() -> None:
    assert parameter_names(Lathe) == [*parameter_names(Mill), "turns"]
    assert (Lathe().depth, Lathe(turns=3).product_) == (2.0, 20.0)
    for wrong, says in (({"turns": "two"}, "turns must be"), ({"turn": 2}, "did you mean 'turns'")):
        with pytest.raises(UsageError, match=says):
            Lathe(**wrong)  # type: ignore[arg-type]


def test_a_class_without_parameters_has_none() -> None:
    assert parameter_names(type("Bare", (), {})) == []


class Axis(Record):
    """Nested, with ranges."""

    length: Annotated[float, Field(gt=0)]
    marks: tuple[Literal["left", "right"], ...] = ()


class Machine(Record):
    """What a file may hold."""

    axis: Axis
    speeds: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    note: str | None = None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "m.json: axis is missing; add it"),
        ({"axis": {}}, "m.json: axis.length is missing; add it"),
        ({"axis": {"length": 1.0}, "speed": {}}, "m.json: there is no 'speed'; did you mean 'speeds'?"),
        (
            {"axis": {"length": 1.0}, "spee[]ds": {}},
            "m.json: there is no 'spee\\[]ds'; did you mean 'speeds'?",
        ),
        ({"axis": {"length": 1.0, "[": 1}}, r"m.json: there is no 'axis.\['"),
        ({"axis": {"length": 1.0}, "\x1b[1m": {}}, r"m.json: there is no '\\x1b\[1m'"),
        ({"axis": {"length": 0.0}}, "m.json: axis.length must be greater than 0, got 0.0"),
        ({"axis": {"length": "1"}}, "m.json: axis.length must be a valid number, got '1'"),
        (
            {"axis": {"length": 1, "marks": ["up"]}},
            "m.json: axis.marks.0 must be 'left' or 'right', got 'up'",
        ),
        ({"axis": {"length": 1}, "speeds": {"a": -1}}, "m.json: speeds.a must be greater than or equal to 0"),
        ({"axis": 5}, "m.json: axis must be .*, got 5"),
        ({"axis": {"length": 1}, "note": 5}, "m.json: note must be text or nothing, got 5"),
    ],
)
def test_records_are_checked_where_they_are_read(data: dict[str, Any], says: str) -> None:
    with pytest.raises(DetectorError, match=says) as caught:
        Machine.read(data, "m.json", DetectorError)
    assert "\n" not in str(caught.value)


def test_a_record_is_what_was_read() -> None:
    machine = Machine.read({"axis": {"length": 2, "marks": ["left"]}}, "m.json", DetectorError)
    assert machine == Machine(axis=Axis(length=2.0, marks=("left",)))
    with pytest.raises(ValueError, match="frozen"):
        machine.note = "x"


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Annotated[float, Field(ge=1e-12, le=1e3)], "a number from 1e-12 to 1000"),
        (Annotated[int, Field(le=5)], "a whole number of at most 5"),
        (tuple[str, ...] | None, "several of: text or nothing"),
        (bytes, "bytes"),
    ],
)
def test_what_an_annotation_asks_for(hint: Any, words: str) -> None:
    assert wanted_words(hint) == words


def test_long_values_are_cut() -> None:
    assert shown("x" * 500) == "'" + "x" * 116 + "..."
