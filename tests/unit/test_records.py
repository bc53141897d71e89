"""Records, and what holds them together."""

from __future__ import annotations

from pathlib import Path

import pytest

from zeroflaw.records import Category, LazyRecords, Record


def record(number: int) -> Record:
    return Record("shop", "cup", "test", number % 2, "good", None, Path(f"{number}.png"), None)


def test_lazy_records_are_a_sequence():
    made: list[int] = []
    records = LazyRecords(5, lambda number: made.append(number) or record(number))
    assert (len(records), repr(records), made) == (5, "LazyRecords(5)", [])
    assert records[-1] == record(4)
    assert made == [4]
    assert list(records[1:4][::2]) == [record(1), record(3)]
    with pytest.raises(IndexError):
        records[5]


def test_names_of_a_category():
    plain = Category("shop", "metal_nut", (), (record(1),))
    assert (plain.prompt_name, plain.object_name, plain.domains) == ("metal nut", "metal_nut", ())
    named = Category("shop", "01", (), (), object="product")
    assert (named.prompt_name, named.object_name, named.pixel_test) == ("product", "product", ())


def test_records_are_frozen():
    with pytest.raises(AttributeError):
        record(0).label = 1  # type: ignore[misc]


def test_masks_of_a_record(tmp_path):
    one, two = tmp_path / "1.png", tmp_path / "2.png"
    facts = ("shop", "cup", "test", 1, "dent", None, Path("0.png"))
    assert Record(*facts, None).masks == ()
    assert Record(*facts, one).masks == (one,)
    assert Record(*facts, (one, two)).masks == (one, two)
    two.touch()
    (tmp_path / "notes.txt").touch()
    assert Record(*facts, tmp_path).masks == (two,)
