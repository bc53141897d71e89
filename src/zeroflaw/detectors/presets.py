"""Detectors by name: presets, settings written as text, saved folders, and those bundled with the package."""

from __future__ import annotations

import importlib
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from zeroflaw.detectors.contract import Detector, Needs
from zeroflaw.errors import DetectorError, UsageError, closest, needing
from zeroflaw.parameters import Record, parameter_names, require_known
from zeroflaw.runtime.folder import OldSchemaError, SavedDetector, read_folder
from zeroflaw.runtime.stream import Progress
from zeroflaw.words import Vocabulary, states

BUNDLED = Path(__file__).parent / "bundled"
_OWN: dict[str, type[Detector]] = {}  # classes of users, by the name of the detector


class Preset(Record):
    """A name for a detector class with some of its parameters set.

    Attributes:
        home: module and name of the class, with a colon between them.
        summary: one sentence.
        needs: what its detectors must be given.
        source: of the method.
        parameters: those that differ from the class's defaults.
    """

    home: str
    summary: str = ""
    needs: Needs = Needs()
    source: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def detector_class(self) -> type[Detector]:
        """Import and return the class."""
        module, _, name = self.home.partition(":")
        with needing(f"the detector {name}"):
            return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


_DATA = tomllib.loads((Path(__file__).parent / "presets.toml").read_text(encoding="utf-8"))


def _words(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("@"):
        return getattr(states, value[1:])
    return tuple(value) if isinstance(value, list) else value


PRESETS: Mapping[str, Preset] = {
    name: Preset(
        home=_DATA["classes"][said["class"]]["home"],
        summary=said["summary"],
        needs=Needs.of(_DATA["classes"][said["class"]]["needs"]),
        source=_DATA["classes"][said["class"]]["source"],
        parameters={key: _words(value) for key, value in said.get("parameters", {}).items()},
    )
    for name, said in _DATA["presets"].items()
}


def register(detector: type[Detector]) -> type[Detector]:
    """Make a detector class of your own known by its ``name``, to `zeroflaw.load`, evaluations and grids.

    It can be used as a decorator. On the command line ``--detector MODULE:CLASS`` does the same.

    Raises:
        UsageError: the name belongs to one of ours.
    """
    if detector.name in PRESETS:
        raise UsageError(f"'{detector.name}' is a detector of zeroflaw's own; choose another name")
    _OWN[detector.name] = detector
    return detector


def is_folder(name: str) -> bool:
    """Whether ``name`` means a saved detector rather than a kind: it is an existing folder, or looks like a
    path.
    """
    return name not in PRESETS and name not in _OWN and (Path(name).exists() or "/" in name or "\\" in name)


def preset(name: str) -> Preset:
    """Return the preset of that name; ``MODULE:CLASS`` and names of registered classes will do, too.

    Raises:
        UsageError: the name is unknown; the message lists the known ones.
    """
    if name in PRESETS:
        return PRESETS[name]
    if name not in _OWN and ":" not in name:
        raise UsageError(
            f"there is no detector '{name}'{closest(name, PRESETS)} (known: {', '.join(PRESETS)}; or the "
            "folder of a saved one; or MODULE:CLASS of your own)"
        )
    detector = _OWN[name] if name in _OWN else _imported(name)
    return Preset(
        home=f"{detector.__module__}:{detector.__qualname__}",
        summary=(detector.__doc__ or "").split("\n")[0],
        needs=detector.needs,
        source=detector.source,
    )


def _imported(name: str) -> type[Detector]:
    try:
        detector = Preset(home=name).detector_class
    except (ImportError, AttributeError, ValueError) as error:
        todo = "check the name, and that PYTHONPATH has its folder"
        raise UsageError(f"a detector class was wanted at '{name}', but {error}; {todo}") from error
    if not (isinstance(detector, type) and issubclass(detector, Detector)):
        raise UsageError(f"'{name}' is no subclass of zeroflaw.Detector; derive it from that")
    _OWN[detector.name] = detector
    return detector


def make(name: str, **parameters: Any) -> Detector:
    """Return an unfitted detector by name, with parameters changed.

    Raises:
        UsageError: the name or a parameter is unknown, or its value is wrong.
    """
    chosen = preset(name)
    detector_class = _class_of(name)
    require_known(parameters, parameter_names(detector_class), name)
    return detector_class(**{**chosen.parameters, **parameters})


def _class_of(name: str) -> type[Detector]:
    chosen = preset(name)  # registers MODULE:CLASS
    return _OWN.get(name) or chosen.detector_class


def open_fitted(
    name: str, parameters: Mapping[str, Any], *, progress: Progress | None = None, **given: Any
) -> Detector:
    """Return a fitted detector: the bundled one where no parameter differs, a newly fitted one elsewhere.

    Args:
        name: of the kind of detector.
        parameters: that differ from its defaults.
        progress: see `Detector.fit`.
        given: what else `Detector.fit` takes: reference, auxiliary, checkpoint.

    Raises:
        UsageError: the name or a parameter is wrong.
        WeightsError: the backbone cannot be had.
    """
    detector = make(name, **parameters)
    bundled = BUNDLED / name
    place = {key: parameters[key] for key in ("device", "engine", "tile", "white") if key in parameters}
    usual = make(name).get_params()
    same = {**detector.get_params(), **{key: usual[key] for key in place}} == usual
    if bundled.is_dir() and not given and same:
        return load(bundled, **place)
    return detector.fit(progress=progress, **given)


def load(folder: str | Path, *, calibrated: bool = True, **overrides: Any) -> Detector:
    """Load a saved detector, or a bundled one by its name.

    Args:
        folder: what `Detector.save` wrote, or the name of a bundled detector such as ``"rwda"``.
        calibrated: take its threshold, too, where there is one; not where another is to be set.
        overrides: ``backbone`` (the same weights elsewhere), ``device``, ``dtype``, ``engine``; of a detector
            that has seen no photos, ``tile`` and ``white``, too.

    Raises:
        DetectorError: the folder is missing, damaged, or does not fit the backbone.
        UsageError: another parameter was to be changed.
        WeightsError: the backbone cannot be had.
    """
    for name in overrides:
        if name not in ("backbone", "device", "dtype", "engine", "tile", "white"):
            raise UsageError(
                "a saved detector can take another backbone, device, dtype, engine, tile or white, not "
                f"'{name}'; fit a new one"
            )
    root = Path(folder)
    if isinstance(folder, str) and folder in PRESETS:
        root = BUNDLED / folder
        if not root.is_dir():
            raise UsageError(
                f"'{folder}' is a kind of detector that must be fitted first; fit and save it, or write "
                f"./{folder} for a folder"
            )
    elif isinstance(folder, str) and not root.exists() and (near := closest(folder, PRESETS)):
        raise UsageError(f"there is no saved detector '{folder}'{near}")
    try:
        saved = read_folder(root, calibrated=calibrated)
    except OldSchemaError as error:
        raise DetectorError(f"{error}; renew it with: {_renewal(error.config, root)}") from error
    try:
        detector_class = _saved_class(saved.detector)
    except UsageError:  # its module needs torch, which is missing
        detector_class = _without_its_module(saved)
        if detector_class is None:
            raise
    if detector_class is None:
        raise DetectorError(
            f"{root / 'config.json'} names the detector '{saved.detector}', which this version does not "
            "have; a class of your own must be registered first"
        )
    return detector_class.from_saved(saved, **overrides)  # type: ignore[attr-defined, no-any-return]


def _saved_class(name: str) -> type[Detector] | None:
    """Return the class whose detectors are saved under a name; only that one is imported."""
    known = _DATA["classes"].get(name)
    return _OWN.get(name) if known is None else Preset(home=known["home"]).detector_class


def _without_its_module(saved: SavedDetector) -> type[Detector] | None:
    """Return a class that judges as a saved detector of ours whose own cannot be imported, or None."""
    from zeroflaw.detectors.saved import SavedWords

    known = _DATA["classes"].get(saved.detector)
    if known is None or saved.scorer.get("kind") != SavedWords.scorer_class.kind:
        return None
    facts = {"name": saved.detector, "needs": Needs.of(known["needs"]), "source": known["source"]}
    return type("SavedWords", (SavedWords,), facts)


def _renewal(config: Mapping[str, Any], folder: Path) -> str:
    """Return the command that fits again what an older version saved."""
    name, said = str(config.get("detector")), config.get("parameters")
    words = ["zeroflaw", "fit", "--detector", name]
    if (detector_class := _saved_class(name)) is not None:
        defaults = {key: getattr(detector_class, key, None) for key in parameter_names(detector_class)}
        for key, value in said.items() if isinstance(said, dict) else ():
            several = value if isinstance(value, list) else [value]
            if key not in defaults or defaults[key] in (value, tuple(several)):
                continue
            if key in ("object", "backbone", "device", "engine", "seed", "normal", "anomalous"):
                words += [part for word in several for part in (f"--{key}", str(word))]
            else:
                words += ["--set", f"{key}={','.join(map(str, several))}"]
        words += ["--reference", "GOOD-PHOTOS"] * detector_class.needs.reference_images
        words += ["--auxiliary", "DATA-SET"] * detector_class.needs.auxiliary_set
    return shlex.join([*words, "-o", str(folder), "--overwrite"])


def read_words(detector: str, path: Path) -> dict[str, Any]:
    """Read a words file (see `zeroflaw.words.states`) into parameters of a kind of detector.

    Raises:
        WordsError: the file is wrong.
        UsageError: it holds words that this kind of detector cannot use.
    """
    known = parameter_names(_class_of(detector))
    given = Vocabulary.words_in(path)
    if "templates" in given and "templates" not in known:
        if len(given["templates"]) != 1:
            raise UsageError(
                f"'{detector}' takes one template, and {path} lists {len(given['templates'])}; keep one of "
                "them"
            )
        given["template"] = given.pop("templates")[0]
    if "dictionary" in given:
        given["random_kind"] = "dictionary"
    require_known(given, known, detector)
    return given


def parse_settings(detector: str, settings: Iterable[str]) -> dict[str, Any]:
    """Turn ``NAME=VALUE`` texts into parameters of a kind of detector.

    Lists are written with commas (``hidden=512,256,128``), ranges too (``random_length=3,8``). What cannot be
    read stays a text, and the class itself says what it wants.

    Raises:
        UsageError: no ``=``, or an unknown name.
    """
    detector_class = _class_of(detector)
    hints = get_type_hints(detector_class, include_extras=True)
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set wants NAME=VALUE, got '{setting}'; for example n_pairs=1000")
        require_known([name], parameter_names(detector_class), detector)
        reader: TypeAdapter[Any] = TypeAdapter(hints[name])
        found[name] = text
        for value in ([part.strip() for part in text.split(",") if part.strip()], text):
            with suppress(ValidationError):
                found[name] = reader.validate_python(value)
    return found
