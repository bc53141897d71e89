"""What a fit is given beside words, and what a saved folder says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.errors import DetectorError, ImageError, UsageError
from zeroflaw.records import Category, Dataset, Record
from zeroflaw.runtime.folder import Seen

PHOTOS, SET = Needs(reference_images=True), Needs(words=False, auxiliary_set=True)
TRAIN = tuple(Record("d", "cup", "train", 0, "good", None, Path(f"{n}.png"), None) for n in range(3))
DATA = Dataset("d", (Category("d", "cup", TRAIN, ()),))


def picture(value: int) -> np.ndarray:
    return np.full((4, 5, 3), value, dtype=np.uint8)


def take(needs: Needs, reference: Any = None, auxiliary: Any = None) -> FitInputs:
    return FitInputs.from_arguments("mine", needs, reference, auxiliary)


@pytest.mark.parametrize("one", [picture(1), picture(1)[..., 0], "photo.png", b"bytes", 5])
def test_one_picture_is_no_list_of_pictures(one: Any) -> None:
    with pytest.raises(UsageError, match=r"reference wants a list of images, got one .*; write \[image\]"):
        take(PHOTOS, one)


def test_pictures_may_come_from_anything_that_can_be_walked_through() -> None:
    walked = take(PHOTOS, (picture(value) for value in (1, 2)))
    assert walked.seen() == take(PHOTOS, np.stack([picture(1), picture(2)])).seen()
    assert len(walked.reference) == 2
    with pytest.raises(ImageError, match="not an allowed kind of picture"):
        take(PHOTOS, [picture(1), b"no picture"])


@pytest.mark.parametrize(
    ("needs", "given", "says"),
    [
        (PHOTOS, {}, "mine needs photos of good products; give them with --reference"),
        (PHOTOS, {"reference": iter(())}, "needs photos of good products"),
        (SET, {}, "mine needs a data set of other products .* --auxiliary"),
        (SET, {"auxiliary": "products"}, "auxiliary wants a data set, got str; write .*open_auxiliary"),
        (PHOTOS, {"reference": [picture(1)], "auxiliary": DATA}, "mine does not use auxiliary images; drop"),
        (Needs(), {"reference": [picture(1)]}, "drop --reference, or take --detector memory"),
    ],
)
def test_what_is_missing_or_of_no_use_is_told(needs: Needs, given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        take(needs, **given)


def test_what_was_seen_is_told_and_read_back() -> None:
    assert str(take(PHOTOS, [picture(1)]).seen()) == "1 photo of good products"
    assert str(take(PHOTOS, [picture(1)] * 2).seen()) == "2 photos of good products"
    seen = take(SET, auxiliary=DATA).seen()
    assert str(seen) == "the data set d (cup)"
    assert seen.auxiliary is not None
    assert seen.auxiliary.categories == {"cup": {"train": 3, "test": 0}}
    assert str(take(Needs()).seen()) == "none"
    assert Seen.read(seen.model_dump(exclude_none=True, mode="json"), "config.json", DetectorError) == seen


@pytest.mark.parametrize(
    "said",
    [
        {"reference": {"images": 0, "sha256_of_pixels": []}},
        {"auxiliary": {"dataset": "d", "categories": {"cup": {"train": -1, "test": 0}}}},
        {"others": {}},
    ],
)
def test_what_nobody_saw_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(DetectorError, match=r"^config\.json: "):
        Seen.read(said, "config.json", DetectorError)


def test_needs_are_told_by_their_names() -> None:
    assert Needs.of(["auxiliary_set", "whole_batch"]) == Needs(False, False, False, True, True)
    assert str(Needs.of(["words", "reference_images"])) == "words, reference images"
    assert str(Needs(words=False)) == "nothing"
