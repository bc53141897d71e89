"""Detectors by name: presets, settings written as text, saved folders, and the ready ones of the package."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zeroflaw.detectors.contract import Detector
from zeroflaw.errors import DetectorError, UsageError, closest
from zeroflaw.runtime.stream import Progress
from zeroflaw.words import ENSEMBLE_ANOMALOUS, ENSEMBLE_NORMAL, ENSEMBLE_TEMPLATES, Vocabulary
from zeroflaw.words.states import ENSEMBLE_TEMPLATES_21, IMAGENET_TEMPLATES

READY = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class Preset:
    """A name for a kind of detector with some of its parameters set."""

    module: str
    kind_name: str
    summary: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def kind(self) -> type[Detector]:
        """Import and return the class."""
        return getattr(importlib.import_module(self.module), self.kind_name)  # type: ignore[no-any-return]


def _rwda(summary: str, **parameters: Any) -> Preset:
    return Preset("zeroflaw.detectors.rwda", "RWDA", summary, parameters)


def _clip(summary: str, **parameters: Any) -> Preset:
    return Preset("zeroflaw.detectors.clip_pair", "ClipPair", summary, parameters)


_ENSEMBLE = {
    "normal": ENSEMBLE_NORMAL,
    "anomalous": ENSEMBLE_ANOMALOUS,
    "templates": ENSEMBLE_TEMPLATES,
    "articles": "literal",
}


def _winclip(summary: str, **parameters: Any) -> Preset:
    return Preset("zeroflaw.detectors.winclip", "WinCLIP", summary, parameters)


def _winclip_plus(summary: str, **parameters: Any) -> Preset:
    return Preset("zeroflaw.detectors.winclip_plus", "WinCLIPPlus", summary, parameters)


# Facts about public versions of WinCLIP; docs/winclip.md lists them.
_ANOMALIB = {"templates": ENSEMBLE_TEMPLATES_21, "sentence_mean": "raw", "keep_underscores": True}
_CAOYUNKANG = {
    "temperature": 0.01,
    "sentence_mean": "unnormalised",
    "keep_underscores": True,
    "harmonic_over": "normal",
    "image_in_map": False,
    "image_score": "map",
}
_MALA = {"temperature": 0.01, "non_square": "tile"}


def _shift(summary: str, **parameters: Any) -> Preset:
    return Preset("zeroflaw.detectors.shift_words", "ShiftWords", summary, parameters)


PRESETS: Mapping[str, Preset] = {
    "rwda": _rwda("Random words: network on text embeddings, with the two-prompt score (the default)."),
    "rwda-fnn": _rwda("Random words: the network's score alone.", fusion="head"),
    "rwda-mean-difference": _rwda(
        "Control: mean difference of the same text embeddings.", head="mean-difference", fusion="head"
    ),
    "rwda-logistic": _rwda(
        "Control: logistic regression on the same text embeddings.", head="logistic", fusion="head"
    ),
    "rwda-lda": _rwda("Control: linear discriminant of the same text embeddings.", head="lda", fusion="head"),
    "shift-words": _shift("Learned words for distribution shift, guided by the hand-made prompts (K1)."),
    "shift-words-k2": _shift(
        "Learned words, guided by shooting conditions that are named in prompts.", reading="K2"
    ),
    "shift-words-k3": _shift("Learned words: mixtures of named shooting conditions.", reading="K3"),
    "shift-words-diversity": _shift(
        "Control: learned words that are only pushed apart.", losses=("diversity",)
    ),
    "shift-words-no-distribution": _shift(
        "Control: learned words without the mixture guidance.", losses=("diversity", "semantic")
    ),
    "clip": _clip("Two prompts: a photo of a normal / an anomalous object."),
    "clip-ac": _clip(
        "Two bare prompts, normal / anomalous object: CLIP-AC as WinCLIP's paper uses the name.",
        templates=("{}",),
        articles="literal",
    ),
    "clip-ac-templates": _clip(
        "The pair in CLIP's 80 ImageNet templates: CLIP-AC as AnomalyCLIP's paper uses the name.",
        templates=IMAGENET_TEMPLATES,
        articles="literal",
    ),
    "clip-ensemble": _clip("Prompt ensemble: 7 normal and 4 anomalous states in 22 templates.", **_ENSEMBLE),
    "maeday": Preset(
        "zeroflaw.detectors.maeday",
        "MAEDAY",
        "Masked autoencoder: reconstruction error over random masks (needs weights with a decoder).",
    ),
    "promptstyler": Preset(
        "zeroflaw.detectors.promptstyler",
        "PromptStyler",
        "Learned style words: linear classifier of sentences in 80 styles.",
    ),
    "anomalyclip": Preset(
        "zeroflaw.detectors.anomalyclip",
        "AnomalyCLIP",
        "Two prompts learned on a labelled data set of other products, with maps from a local path.",
    ),
    "acr": Preset(
        "zeroflaw.detectors.acr",
        "ACR",
        "Live batch normalisation: judges a whole batch, place by place, by its majority.",
    ),
    "winclip": _winclip("Prompt ensemble on the image and its windows; the defaults are the paper's."),
    "winclip-anomalib": _winclip("WinCLIP with the choices of anomalib.", **_ANOMALIB),
    "winclip-zqhang": _winclip("WinCLIP with the choices of zqhang/Accurate-WinCLIP.", **_ANOMALIB),
    "winclip-caoyunkang": _winclip("WinCLIP with the choices of caoyunkang.", **_CAOYUNKANG),
    "winclip-mala": _winclip("WinCLIP with the choices of mala-lab: tiles where not square.", **_MALA),
    "winclip-plus": _winclip_plus("WinCLIP and the distance from a few photos of good products."),
    "winclip-plus-anomalib": _winclip_plus("WinCLIP+ with the choices of anomalib.", **_ANOMALIB),
    "winclip-plus-caoyunkang": _winclip_plus(
        "WinCLIP+ with the choices of caoyunkang.", **_CAOYUNKANG, map_fusion="harmonic"
    ),
    "winclip-plus-mala": _winclip_plus("WinCLIP+ with the choices of mala-lab.", **_MALA),
}


def is_folder(name: str) -> bool:
    """Whether ``name`` means a saved detector rather than a kind: it is an existing folder, or looks like a
    path.
    """
    return name not in PRESETS and (Path(name).exists() or "/" in name or "\\" in name)


def preset(name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        UsageError: the name is unknown; the message lists the known ones.
    """
    if name not in PRESETS:
        raise UsageError(
            f"there is no detector '{name}'{closest(name, PRESETS)} "
            f"(known: {', '.join(PRESETS)}; or the folder of a saved one)"
        )
    return PRESETS[name]


def make(name: str, **parameters: Any) -> Detector:
    """Return an unfitted detector by name, with parameters changed.

    Raises:
        UsageError: the name or a parameter is unknown.
    """
    chosen = preset(name)
    kind = chosen.kind()
    kind.check_params(parameters)
    return kind(**{**chosen.parameters, **parameters})


def open_fitted(
    name: str, parameters: Mapping[str, Any], *, progress: Progress | None = None, **given: Any
) -> Detector:
    """Return a fitted detector: the ready one of the package where no parameter differs, a newly fitted one
    elsewhere.

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
    ready = READY / name
    device = {"device": parameters["device"]} if "device" in parameters else {}
    if (
        ready.is_dir()
        and not given
        and {**detector.get_params(), "device": "auto"} == make(name).get_params()
    ):
        return load(ready, **device)
    return detector.fit(progress=progress, **given)


def load(folder: str | Path, **overrides: Any) -> Detector:
    """Load a saved detector, or a ready one of the package by its name.

    Args:
        folder: what `Detector.save` wrote, or the name of a ready detector such as ``"rwda"``.
        overrides: ``backbone`` (the same weights elsewhere), ``device``, ``dtype``.

    Raises:
        DetectorError: the folder is missing, damaged, or does not fit the backbone.
        UsageError: another parameter was to be changed.
        WeightsError: the backbone cannot be had.
    """
    from zeroflaw.detectors.folder import read_folder

    for name in overrides:
        if name not in ("backbone", "device", "dtype"):
            raise UsageError(
                f"a saved detector can take another backbone, device or dtype, not '{name}'; fit a new one"
            )
    root = Path(folder)
    if isinstance(folder, str) and folder in PRESETS:
        root = READY / folder
        if not root.is_dir():
            raise UsageError(
                f"a saved or ready detector was wanted, but '{folder}' is a kind that must be fitted first; "
                f"fit and save it, or write ./{folder} for a folder"
            )
    saved = read_folder(root)
    kinds = {chosen.kind_name: chosen for chosen in PRESETS.values()}
    for chosen in kinds.values():
        if chosen.kind().name == saved.detector:
            return chosen.kind().from_saved(saved, **overrides)  # type: ignore[attr-defined, no-any-return]
    raise DetectorError(
        f"{root / 'config.json'} names the detector '{saved.detector}', which this version does not have"
    )


def read_words(detector: str, path: Path) -> dict[str, Any]:
    """Read a words file (see `zeroflaw.words.Vocabulary.from_toml`) into parameters of a kind of detector.

    Raises:
        WordsError: the file is wrong.
        UsageError: it holds words that this kind of detector cannot use.
    """
    unchanged = make(detector)
    params = unchanged.get_params()
    given = Vocabulary.words_in(path)
    if "templates" in given and "templates" not in params:
        if len(given["templates"]) != 1:
            raise UsageError(
                f"detector '{detector}' takes one template, and {path} lists {len(given['templates'])}; "
                "keep one of them"
            )
        given["template"] = given.pop("templates")[0]
    if "dictionary" in given:
        given["random_kind"] = "dictionary"
    unchanged.check_params(given)
    return given


def parse_settings(detector: str, settings: Iterable[str]) -> dict[str, Any]:
    """Turn ``NAME=VALUE`` texts into parameters of a kind of detector.

    Lists are written with commas (``hidden=512,256,128``), ranges too (``random_length=3,8``).

    Raises:
        UsageError: no ``=``, an unknown name, or a value of the wrong kind.
    """
    kind = preset(detector).kind()
    types = {f.name: str(f.type) for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set wants NAME=VALUE, got '{setting}'; for example n_pairs=1000")
        kind.check_params([name])
        found[name] = _convert(name, text, types[name])
    return found


_FLAGS = {"true": True, "yes": True, "false": False, "no": False}


def _numbers(text: str) -> int | tuple[int, ...]:
    parts = tuple(int(part) for part in text.split(","))
    return parts[0] if len(parts) == 1 else parts


_CONVERT: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (lambda text: _FLAGS[text.lower()], "true or false"),
    "tuple[int, ...]": (
        lambda text: tuple(int(part) for part in text.split(",") if part),
        "numbers with commas",
    ),
    "int | tuple[int, int]": (_numbers, "a number or a range such as 3,8"),
    "tuple[str, ...]": (lambda text: tuple(part.strip() for part in text.split(",")), "words with commas"),
    "tuple[str, ...] | None": (
        lambda text: tuple(part.strip() for part in text.split(",")),
        "words with commas",
    ),
}


def _convert(name: str, text: str, kind: str) -> Any:
    convert, wanted = _CONVERT.get(kind, (str, "text"))
    try:
        return convert(text)
    except (ValueError, KeyError) as error:
        raise UsageError(f"{name} wants {wanted}, got '{text}'") from error
