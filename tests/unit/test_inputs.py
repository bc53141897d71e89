"""What a fit is given beside words, and what a saved folder says of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import Given
from zeroflaw.errors import DetectorError, UsageError

PHOTOS = Needs(reference_images=True)
SET = Needs(words=False, auxiliary_set=True)
SEEN: dict[str, Any] = {
    "reference": {"images": 2, "sha256_of_pixels": ["a", "b"]},
    "auxiliary": {"dataset": "d", "categories": {"cup": {"train": 3, "test": 0}}},
}


def picture(value: int) -> np.ndarray:
    return np.full((4, 5, 3), value, dtype=np.uint8)


@pytest.mark.parametrize("one", [picture(1), picture(1)[..., 0], "photo.png", b"bytes", 5])
def test_one_picture_is_no_list_of_pictures(one: Any) -> None:
    with pytest.raises(UsageError, match=r"reference wants a list of images, got one .*; write \[image\]"):
        Given.take("d", PHOTOS, one, None)


def test_pictures_may_come_from_anything_that_can_be_walked_through() -> None:
    found = Given.take("d", PHOTOS, (picture(value) for value in (1, 2)), None)  # type: ignore[arg-type]
    stacked = Given.take("d", PHOTOS, np.stack([picture(1), picture(2)]), None)  # type: ignore[arg-type]
    assert found.digests == stacked.digests
    assert len(found.reference) == 2
    with pytest.raises(UsageError, match="needs photos of good products"):
        Given.take("d", PHOTOS, iter(()), None)  # type: ignore[arg-type]


def test_a_folder_is_no_data_set() -> None:
    with pytest.raises(UsageError, match=r"auxiliary wants a data set, got str; write .*open_auxiliary"):
        Given.take("d", SET, None, "products")  # type: ignore[arg-type]


def test_what_was_seen_is_taken_back() -> None:
    Given.check_seen("d", Needs(), {})
    Given.check_seen("d", PHOTOS, {"reference": SEEN["reference"]})
    Given.check_seen("d", SET, {"auxiliary": SEEN["auxiliary"]})
    Given.check_seen("d", SET, {"auxiliary": {"dataset": "d", "categories": {"unknown": {}}}})


@pytest.mark.parametrize(
    ("needs", "change"),
    [
        (PHOTOS, lambda seen: seen.clear()),
        (PHOTOS, lambda seen: seen.update(reference=[])),
        (PHOTOS, lambda seen: seen["reference"].update(images=0, sha256_of_pixels=[])),
        (PHOTOS, lambda seen: seen["reference"].update(images=3)),
        (PHOTOS, lambda seen: seen["reference"].update(images=True, sha256_of_pixels=["a"])),
        (PHOTOS, lambda seen: seen["reference"].update(sha256_of_pixels=[1, 2])),
        (PHOTOS, lambda seen: seen["reference"].update(sha256_of_pixels=None)),
        (PHOTOS, lambda seen: seen.update(auxiliary=SEEN["auxiliary"])),
        (SET, lambda seen: seen.clear()),
        (SET, lambda seen: seen.update(auxiliary=None)),
        (SET, lambda seen: seen["auxiliary"].update(dataset=5)),
        (SET, lambda seen: seen["auxiliary"].update(categories=["cup"])),
        (SET, lambda seen: seen["auxiliary"]["categories"].update(cup=None)),
        (SET, lambda seen: seen["auxiliary"]["categories"]["cup"].update(train=-1)),
        (SET, lambda seen: seen["auxiliary"]["categories"]["cup"].update(train="3")),
        (SET, lambda seen: seen["auxiliary"]["categories"]["cup"].pop("test")),
        (Needs(), lambda seen: seen.update(reference=SEEN["reference"])),
    ],
)
def test_what_nobody_saw_is_refused(needs: Needs, change: Callable[[dict[str, Any]], None]) -> None:
    wanted = {"reference": needs.reference_images, "auxiliary": needs.auxiliary_set}
    seen = {name: copy.deepcopy(SEEN[name]) for name, need in wanted.items() if need}
    change(seen)
    with pytest.raises(
        DetectorError, match=r"'seen' in config\.json must say what a detector 'd' was fitted"
    ):
        Given.check_seen("d", needs, seen)


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 photo of good products"), (2, "2 photos of good products")]
)
def test_what_was_seen_in_words(count: int, words: str) -> None:
    assert Given.in_words({"reference": {"images": count}}) == words
