"""A benchmark grid, read from TOML: what is measured on what.

::

    title = "Random words against learned words"
    backbones = ["mini"]                      # default
    corruptions = ["none", "contrast:3"]      # default: none
    seeds = [0, 1, 2]                         # default: 0
    bootstrap = 1000                          # draws for intervals; default 0
    batch_size = 8

    [[datasets]]                              # default: whatever the folders given by --root hold
    root = "mvtec_ad"                         # beside the grid file, or in a folder given by --root
    layout = "auto"                           # default; see 'zeroflaw datasets'
    categories = ["bottle", "leather"]        # default: all

    [[detectors]]
    name = "rwda"                             # see 'zeroflaw detectors', or the folder of a saved one: a
                                              # path from where you are, or from the grid file
    label = "random words"                    # default: the name and what a sweep set
    object = "known"                          # the name of each category; default: unknown
    parameters = {epochs = 5}
    sweep = {n_pairs = [100, 1000]}           # one detector for each combination
    seeds = [0]                               # default: those of the grid
    shots = 4                                 # reference images, for detectors that need them
    auxiliary = "other-products"              # data set to learn from, for detectors that need one
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zeroflaw.detectors import PRESETS, is_folder, make
from zeroflaw.detectors.inputs import require
from zeroflaw.errors import UsageError, closest
from zeroflaw.lab.datasets import LAYOUTS
from zeroflaw.lab.evaluation.sharing import read_corruption
from zeroflaw.toml_file import read_toml


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """A data set of a grid."""

    root: str
    layout: str = "auto"
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DetectorSpec:
    """A kind of detector of a grid, with everything that decides it but backbone and seed.

    Attributes:
        name: of the kind, or the folder of a saved detector.
        label: under which it is reported.
        parameters: that differ from the defaults of the kind.
        known_object: whether it is told the name of each category.
        seeds: it is fitted with.
        shots: reference images it gets of each category; 0 for none.
        auxiliary: folder of the data set it learns from, or None.
    """

    name: str
    label: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    known_object: bool = False
    seeds: tuple[int, ...] = (0,)
    shots: int = 0
    auxiliary: str | None = None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Everything that a benchmark measures; see the text of this module."""

    datasets: tuple[DataSpec, ...] = ()
    detectors: tuple[DetectorSpec, ...]
    title: str = "Benchmark"
    backbones: tuple[str, ...] = ("mini",)
    corruptions: tuple[str, ...] = ("none",)
    bootstrap: int = 0
    batch_size: int = 8


def read_grid(path: Path) -> Grid:
    """Read a grid from a TOML file.

    Raises:
        UsageError: the file cannot be read, or something in it is wrong; the message names the file and key.
    """
    try:
        return grid_of(read_toml(path), path.parent)
    except UsageError as error:
        raise UsageError(f"the grid {path}: {error}") from error


def grid_of(content: Mapping[str, Any], beside: Path | None = None) -> Grid:
    """Build a grid from the content of its file, and check every name and setting in it.

    Args:
        content: what the file holds.
        beside: the folder of the file; saved detectors are looked for there, too.

    Raises:
        UsageError: a key is unknown, missing or of the wrong kind, or a detector cannot be made of it.
    """
    top = {"title": str, "backbones": list, "corruptions": list, "seeds": list, "bootstrap": int}
    top |= {"batch_size": int, "datasets": list, "detectors": list}
    found = _checked(content, top, "a grid", needed=("detectors",))
    seeds = _whole(found.pop("seeds", [0]), "seeds")
    datasets = tuple(_data(entry) for entry in found.pop("datasets", []))
    detectors = tuple(spec for entry in found.pop("detectors") for spec in _detectors(entry, seeds, beside))
    for key in ("backbones", "corruptions"):
        if key in found:
            _texts(found[key], key)
    rest: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    grid = Grid(datasets=datasets, detectors=detectors, **rest)
    _check(grid)
    return grid


def _checked(
    content: Any, kinds: Mapping[str, type], what: str, needed: Sequence[str] = ()
) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise UsageError(f"{what} must be a table, got {content!r}")
    for key, value in content.items():
        if key not in kinds:
            raise UsageError(f"{what} has no key '{key}'{closest(key, kinds)} (it has {', '.join(kinds)})")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            words = {str: "text", int: "a whole number", list: "a list", dict: "a table"}
            raise UsageError(f"'{key}' of {what} must be {words[kinds[key]]}, got {value!r}")
    for key in needed:
        if not content.get(key):
            raise UsageError(f"{what} needs '{key}', and there is none")
    return dict(content)


def _whole(values: Sequence[Any], key: str) -> tuple[int, ...]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UsageError(f"'{key}' must list whole numbers from 0, got {value!r}")
    return _once(values, key)


def _texts(values: Sequence[Any], key: str) -> tuple[str, ...]:
    for value in values:
        if not isinstance(value, str) or not value:
            raise UsageError(f"'{key}' must list texts, got {value!r}")
    return _once(values, key)


def _once(values: Sequence[Any], key: str) -> tuple[Any, ...]:
    if not values:
        raise UsageError(f"'{key}' must list at least one, got none; leave it out for its default")
    for value in values:
        if values.count(value) > 1:
            raise UsageError(f"'{key}' lists {value!r} {values.count(value)} times; once is enough")
    return tuple(values)


def _data(entry: Any) -> DataSpec:
    kinds = {"root": str, "layout": str, "categories": list}
    found = _checked(entry, kinds, "a data set of the grid", needed=("root",))
    if (layout := found.get("layout", "auto")) not in ("auto", *LAYOUTS):
        raise UsageError(
            f"'layout' of data set '{found['root']}' must be one of auto, {', '.join(LAYOUTS)}, "
            f"got '{layout}'{closest(layout, LAYOUTS)}"
        )
    if "categories" in found:
        _texts(found["categories"], "categories")
    return DataSpec(**{**found, "categories": tuple(found.get("categories", ()))})


def _detectors(entry: Any, seeds: tuple[int, ...], beside: Path | None) -> Iterator[DetectorSpec]:
    kinds: dict[str, type] = {"name": str, "label": str, "object": str, "parameters": dict, "sweep": dict}
    kinds |= {"seeds": list, "shots": int, "auxiliary": str}
    found = _checked(entry, kinds, "a detector of the grid", needed=("name",))
    name, known = found["name"], found.get("object", "unknown")
    if known not in ("known", "unknown"):
        raise UsageError(f"'object' of detector '{name}' must be known or unknown, got '{known}'")
    if is_folder(name) or (name not in PRESETS and beside is not None and (beside / name).is_dir()):
        yield _saved(found, beside)
        return
    for setting in _combinations(found.get("sweep", {}), name):
        shown = ", ".join(f"{key} {_shown(value)}" for key, value in setting.items())
        label = " ".join([found.get("label", name), *([shown] if shown else [])])
        yield DetectorSpec(
            name=name,
            label=label,
            parameters={**found.get("parameters", {}), **setting},
            known_object=known == "known",
            seeds=_whole(found.get("seeds", seeds), "seeds"),
            shots=found.get("shots", 0),
            auxiliary=found.get("auxiliary"),
        )


def _saved(found: Mapping[str, Any], beside: Path | None) -> DetectorSpec:
    """Return a detector that was fitted and saved before: nothing about it can be chosen."""
    name = found["name"]
    for key in found:
        if key not in ("name", "label"):
            raise UsageError(f"'{name}' is a saved detector and takes no '{key}'; leave it out")
    places = [Path(name), *([] if beside is None else [beside / name])]
    folder = next((place for place in places if (place / "config.json").is_file()), None)
    if folder is None:
        raise UsageError(f"the folder of a saved detector was wanted, but '{name}' is none; check the path")
    return DetectorSpec(name=f"{folder.parent}/{folder.name}", label=found.get("label", name))


def _shown(value: Any) -> str:
    return "-".join(map(str, value)) or "none" if isinstance(value, (list, tuple)) else str(value)


def _combinations(sweep: Mapping[str, Any], detector: str) -> Iterator[dict[str, Any]]:
    for key, values in sweep.items():
        if not isinstance(values, list) or not values:
            raise UsageError(f"'sweep' of detector '{detector}' must give a list for {key}, got {values!r}")
    for values in itertools.product(*sweep.values()):
        yield dict(zip(sweep, values, strict=True))


def _check(grid: Grid) -> None:
    for name in grid.corruptions:
        read_corruption(name)
    if grid.batch_size < 1 or grid.bootstrap < 0:
        raise UsageError("'batch_size' must be at least 1 and 'bootstrap' at least 0")
    labels = [spec.label for spec in grid.detectors]
    for label in labels:
        if not label.strip():
            raise UsageError("'label' of a detector must be text, got nothing; leave it out for its name")
        if labels.count(label) > 1:
            raise UsageError(f"two detectors of the grid are called '{label}'; give them a 'label' each")
    for spec in grid.detectors:
        if not is_folder(spec.name):
            _check_detector(spec, grid)


def _check_detector(spec: DetectorSpec, grid: Grid) -> None:
    if "seed" in spec.parameters:
        raise UsageError(f"'parameters' of detector '{spec.label}' sets seed; list it in 'seeds' instead")
    kind: Any = make(spec.name, **spec.parameters)
    if spec.known_object and ("object" in spec.parameters or "object" not in kind.get_params()):
        why = "is given one by its parameters" if "object" in spec.parameters else "is never told a name"
        raise UsageError(f"detector '{spec.label}' {why}; leave out object = \"known\"")
    if spec.shots < 0:
        raise UsageError(f"'shots' of detector '{spec.label}' must be at least 1, got {spec.shots}")
    require(spec.label, kind.needs, reference=spec.shots > 0, auxiliary=spec.auxiliary is not None)
    backbones = [spec.parameters["backbone"]] if "backbone" in spec.parameters else grid.backbones
    for backbone, seed in itertools.product(backbones, spec.seeds):
        one: Any = make(spec.name, **{**spec.parameters, "backbone": backbone, "seed": seed})
        one.validate()
