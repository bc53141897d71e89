"""Detectors by name: what presets.toml says of them, settings written as text, and classes of one's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pytest
from pydantic import Field

from zeroflaw import UsageError, load
from zeroflaw.detectors import PRESETS, make, parse_settings, presets, read_words
from zeroflaw.detectors.contract import Detector, Needs
from zeroflaw.errors import DetectorError, WordsError
from zeroflaw.parameters import parameters
from zeroflaw.words.states import IMAGENET_TEMPLATES

OWN = '''
from typing import ClassVar
from zeroflaw.detectors.clip_pair import ClipPair
from zeroflaw.parameters import parameters

@parameters
class Own(ClipPair):
    """Mine, from a module."""

    name: ClassVar[str] = "own"
    gain: float = 1.0

NUMBER = 5
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with a detector class."""
    (tmp_path / "my_detectors.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(presets, "_OWN", {})
    yield "my_detectors"
    sys.modules.pop("my_detectors", None)


@pytest.mark.parametrize("name", sorted({preset.home for preset in PRESETS.values()}))
def test_the_file_says_of_a_class_what_the_class_says(name: str) -> None:
    said = next(preset for preset in PRESETS.values() if preset.home == name)
    assert said.needs == said.detector_class.needs
    assert said.source == said.detector_class.source


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_made_and_differs_from_the_defaults_where_it_says(name: str) -> None:
    detector = make(name)
    usual = PRESETS[PRESETS[name].detector_class.name].detector_class().get_params()
    changed = {key: value for key, value in detector.get_params().items() if value != usual[key]}
    assert changed == PRESETS[name].parameters
    assert detector.name in presets._DATA["classes"]
    assert PRESETS[name].summary.endswith((".", ".)"))


def test_lists_of_words_are_named_in_the_file() -> None:
    assert PRESETS["clip-ac-templates"].parameters["templates"] == IMAGENET_TEMPLATES


def test_an_unknown_detector_is_told_with_its_nearest_name() -> None:
    with pytest.raises(
        UsageError, match=r"no detector 'rwad'; did you mean 'rwda'\? \(known: rwda, .*MODULE:CLASS"
    ):
        make("rwad")
    with pytest.raises(UsageError, match="'rwda-lda' has no parameter 'n_pear'; did you mean 'n_pairs'"):
        make("rwda-lda", n_pear=3)


# --- classes of one's own


def test_a_class_of_a_module_is_a_detector_too(own: str, tiny_backbone: Path, tmp_path: Path) -> None:
    name = f"{own}:Own"
    assert presets.preset(name).summary == "Mine, from a module."
    detector = make(name, backbone=f"local-dir:{tiny_backbone}", **parse_settings(name, ["gain=2"]))
    assert detector.get_params()["gain"] == 2.0
    detector.fit().save(tmp_path / "saved")
    image = np.zeros((9, 9, 3), np.uint8)
    first, again = (next(d.predict([image])) for d in (detector, load(tmp_path / "saved")))
    assert first.logit == pytest.approx(again.logit, abs=1e-4)
    assert "Zero-shot classification between 1 normal" in detector.card_  # type: ignore[attr-defined]
    assert make("own").name == "own"  # known by its name from now on
    presets._OWN.clear()
    with pytest.raises(
        DetectorError, match="'own', which this version does not have; a class of your own must"
    ):
        load(tmp_path / "saved")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("no_such_module:Own", "wanted at 'no_such_module:Own', but No module named"),
        ("my_detectors:Other", "has no attribute 'Other'"),
        ("my_detectors:NUMBER", "is no subclass of zeroflaw.Detector"),
        (":Own", "a detector class was wanted at ':Own'"),
    ],
)
def test_what_is_no_class_of_a_module_is_refused(place: str, says: str, own: str) -> None:
    with pytest.raises(UsageError, match=says):
        make(place)


def test_a_class_may_be_registered_unless_its_name_is_taken(own: str) -> None:
    detector_class = importlib.import_module(own).Own
    assert presets.register(detector_class) is detector_class
    assert type(make("own")) is detector_class
    assert not presets.is_folder("own")
    detector_class.name = "rwda"
    with pytest.raises(UsageError, match="'rwda' is a detector of zeroflaw's own"):
        presets.register(detector_class)


def test_what_means_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("rwda").mkdir()
    found = {name: presets.is_folder(name) for name in ("mine", "rwda", "./rwda", "a\\b", "other", "winclip")}
    assert [name for name, means in found.items() if means] == ["mine", "./rwda", "a\\b"]


# --- settings written as text


@parameters
class Knobs(Detector):
    """Every kind of parameter."""

    name: ClassVar[str] = "knobs"
    needs: ClassVar[Needs] = Needs()
    source: ClassVar[str] = "nowhere"

    count: Annotated[int, Field(ge=1)] = 1
    rate: float = 0.5
    flag: bool = False
    way: Literal["up", "down"] = "up"
    maybe: str | None = None
    sides: tuple[int, ...] = (1,)
    either: Annotated[int, Field(ge=0)] | tuple[int, int] = 1
    texts: tuple[str, ...] | None = None

    fit = save = _predict_batch = is_fitted = None  # type: ignore[assignment]


@pytest.fixture
def knobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the class known."""
    monkeypatch.setattr(presets, "_OWN", {"knobs": Knobs})


@pytest.mark.usefixtures("knobs")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("count=3", 3),
        ("rate=1e-3", 1e-3),
        ("flag=yes", True),
        ("flag=FALSE", False),
        ("way=down", "down"),
        ("maybe=a=b", "a=b"),
        ("sides=1, 2,3", (1, 2, 3)),
        ("sides=", ()),
        ("either=4", 4),
        ("either=4,5", (4, 5)),
        ("texts=a b,c", ("a b", "c")),
    ],
)
def test_settings_are_read_as_what_a_parameter_takes(text: str, value: object) -> None:
    found = parse_settings("knobs", [text])
    assert found == {text.partition("=")[0]: value}
    assert make("knobs", **found).get_params()[text.partition("=")[0]] == value


@pytest.mark.usefixtures("knobs")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("count", "--set wants NAME=VALUE, got 'count'"),
        ("count=three", "count must be a whole number of at least 1, got 'three'"),
        ("count=0", "count must be a whole number of at least 1, got '0'"),
        ("rate=inf", "rate must be a number, got inf"),
        ("flag=maybe", "flag must be true or false, got 'maybe'"),
        ("way=dwn", "way must be one of up, down, got 'dwn'; did you mean 'down'"),
        ("sides=1,x", "sides must be several of: a whole number, got '1,x'"),
        ("cuont=1", "'knobs' has no parameter 'cuont'; did you mean 'count'"),
    ],
)
def test_settings_that_cannot_be_read_are_told(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make("knobs", **parse_settings("knobs", [text]))


# --- words files


def test_words_of_a_file_become_parameters(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text('normal = ["fine"]\ntemplates = ["a {} here"]\ndictionary = ["one", "two"]\n')
    assert read_words("rwda", path) == {
        "normal": ("fine {}",),
        "template": "a {} here",
        "dictionary": ("one", "two"),
        "random_kind": "dictionary",
    }
    with pytest.raises(UsageError, match="'clip' has no parameter 'dictionary'"):
        read_words("clip", path)
    path.write_text('templates = ["a {} here", "the {}"]\n')
    assert read_words("clip", path) == {"templates": ("a {} here", "the {}")}
    with pytest.raises(UsageError, match=r"takes one template, and .* lists 2"):
        read_words("rwda", path)
    path.write_text("normal = 5")
    with pytest.raises(WordsError, match="normal"):
        read_words("clip", path)
