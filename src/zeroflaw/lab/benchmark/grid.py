"""A benchmark grid: what is measured on what; docs/benchmark.md shows its TOML."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from zeroflaw.detectors import PRESETS, Detector, is_folder, make
from zeroflaw.detectors.inputs import require
from zeroflaw.errors import UsageError, closest
from zeroflaw.files import read_toml
from zeroflaw.lab.datasets import LAYOUTS
from zeroflaw.lab.evaluation.judging import read_corruption
from zeroflaw.parameters import Record, Seed
from zeroflaw.runtime.calibration import FEWEST

_MOST_BYTES = 1 << 20
READY = Path(__file__).parent / "grids"

T = TypeVar("T")


def _once(values: tuple[T, ...], info: ValidationInfo) -> tuple[T, ...]:
    """Refuse a list that is empty or holds something twice."""
    if not values:
        raise UsageError(f"{info.field_name} must list at least one; leave it out for its default")
    for value in values:
        if values.count(value) > 1:
            raise UsageError(f"{info.field_name} lists {value!r} {values.count(value)} times; once is enough")
    return values


def _filled(text: str, info: ValidationInfo) -> str:
    if not text.strip():
        raise UsageError(f"{info.field_name} must not be blank; leave it out for its default")
    return text


def _layout(name: str) -> str:
    if name not in ("auto", *LAYOUTS):
        raise UsageError(
            f"layout must be one of auto, {', '.join(LAYOUTS)}, got '{name}'{closest(name, LAYOUTS)}"
        )
    return name


Name = Annotated[str, AfterValidator(_filled)]
Names = Annotated[tuple[Name, ...], AfterValidator(_once)]
Seeds = Annotated[tuple[Seed, ...], AfterValidator(_once)]
Shots = Annotated[
    tuple[Annotated[int, Field(ge=1, le=1000)], ...],
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,)),
    AfterValidator(_once),
]


class DataSpec(Record):
    """A data set of a grid: its folder or table, its layout, its categories (all if none is named), and the
    value of pixels in masks of which nothing is known.
    """

    root: Name
    layout: Annotated[str, AfterValidator(_layout)] = "auto"
    ignore: int | None = None
    categories: Names = ()


class _Detector(Record):
    """A table ``[[detectors]]``: a detector for each combination of what ``sweep`` and ``shots`` list."""

    name: Name
    label: Name | None = None
    object: Literal["known", "unknown"] = "unknown"
    parameters: dict[str, Any] = Field(default_factory=dict)
    sweep: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    seeds: Seeds | None = None
    shots: Shots = ()
    calibrate: Annotated[int, Field(ge=FEWEST, le=1000)] = 0
    auxiliary: Name | None = None


@dataclass(frozen=True, kw_only=True)
class DetectorSpec:
    """A kind of detector of a grid, with everything that decides it but backbone and seed.

    Attributes:
        name: of the kind, or the folder of a saved detector.
        label: under which it is reported.
        parameters: that differ from the defaults of the kind; a backbone among them goes before the grid's.
        known_object: whether it is told the name of each category.
        seeds: it is fitted with.
        shots: reference images it gets of each category; 0 for none.
        calibrate: other good images of each category that set its threshold; 0 for none.
        reference: images that it gets instead of shots, the same for all categories.
        auxiliary: folder of the data set it learns from, or None.
    """

    name: str
    label: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    known_object: bool = False
    seeds: tuple[int, ...] = (0,)
    shots: int = 0
    calibrate: int = 0
    reference: tuple[Path, ...] = ()
    auxiliary: str | None = None


class _Settings(Record):
    """What a grid says beside its detectors.

    Attributes:
        datasets: where there are none, those in the folders given by ``--root``.
        corruptions: ``NAME:SEVERITY``, or ``none``.
        bootstrap: draws for the interval of the image AUROC; 0 for none.
    """

    title: str = "Benchmark"
    datasets: tuple[DataSpec, ...] = ()
    backbones: Names = ("mini",)
    corruptions: Names = ("none",)
    bootstrap: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 8


class _File(_Settings):
    """The TOML file of a grid."""

    seeds: Seeds = (0,)
    detectors: Annotated[tuple[_Detector, ...], Field(min_length=1)]


class Grid(_Settings):
    """Everything that a benchmark measures."""

    detectors: tuple[DetectorSpec, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Check every detector and name before the first fit, which takes time."""
        for name in self.corruptions:
            read_corruption(name)
        labels = [spec.label for spec in self.detectors]
        for label in labels:
            if labels.count(label) > 1:
                raise UsageError(f"two detectors of the grid are called '{label}'; give them a 'label' each")
        for spec in self.detectors:
            if not is_folder(spec.name):
                _check_detector(spec, self.backbones)
        return self

    @classmethod
    def of(cls, detectors: Iterable[DetectorSpec], **settings: Any) -> Grid:
        """Return the grid of detectors.

        Raises:
            UsageError: a setting is wrong, a detector cannot be made, or labels are not distinct.
        """
        return cls.read({"detectors": tuple(detectors), **settings}, "", UsageError)


def _check_detector(spec: DetectorSpec, backbones: tuple[str, ...]) -> None:
    if "seed" in spec.parameters:
        raise UsageError(f"parameters of detector '{spec.label}' set seed; list it in 'seeds' instead")
    kind = make(spec.name, **spec.parameters)
    if spec.known_object and ("object" in spec.parameters or "object" not in kind.get_params()):
        why = "is given one by its parameters" if "object" in spec.parameters else "is never told a name"
        raise UsageError(f"detector '{spec.label}' {why}; leave out object = \"known\"")
    if spec.calibrate and not can_be_calibrated(kind):
        raise UsageError(f"detector '{spec.label}' finds its threshold by itself; leave out calibrate")
    has_reference = spec.shots > 0 or bool(spec.reference)
    require(spec.label, kind.needs, reference=has_reference, auxiliary=spec.auxiliary is not None)
    for backbone, seed in itertools.product(backbones, spec.seeds):
        make(spec.name, **cell_parameters(spec, backbone, seed))


def can_be_calibrated(kind: Detector) -> bool:
    """Whether good photos can set the threshold of a detector; what is judged by the batch has its own."""
    return hasattr(kind, "calibrate") and not kind.needs.whole_batch


def cell_parameters(spec: DetectorSpec, backbone: str, seed: int) -> dict[str, Any]:
    """Return the parameters of a detector with a backbone and a seed, where it has such."""
    known = make(spec.name).get_params()
    chosen = {name: value for name, value in (("backbone", backbone), ("seed", seed)) if name in known}
    return {**chosen, **spec.parameters}


def open_grid(name: str) -> tuple[Grid, Path | None]:
    """Return the grid of a TOML file with its folder, or a ready grid.

    Raises:
        UsageError: there is none, or something in it is wrong; the message names the file and key.
    """
    path, ready = Path(name), ready_names()
    if path.is_file():
        return read_grid(path), path.parent
    if name not in ready:
        known = f"a TOML file or a ready grid ({', '.join(ready)})"
        raise UsageError(f"{known} was wanted, got '{name}'{closest(name, ready)}")
    return read_grid(READY / f"{name}.toml"), None


def ready_names() -> tuple[str, ...]:
    """Return the names of the ready grids, the questions that the papers ask."""
    return tuple(path.stem for path in sorted(READY.glob("*.toml")))


def read_grid(path: Path) -> Grid:
    """Read a grid from a TOML file; saved detectors are looked for beside it, too.

    Raises:
        UsageError: the file cannot be read, or something in it is wrong; the message names the file and key.
    """
    found = read_toml(path, _MOST_BYTES, "the grid", UsageError)
    try:
        content = _File.read(found, "", UsageError)
        specs = [spec for table in content.detectors for spec in _specs(table, content.seeds, path.parent)]
        return Grid.of(specs, **{name: getattr(content, name) for name in _Settings.model_fields})
    except UsageError as error:
        raise UsageError(f"the grid {path}: {error}") from error


def _specs(table: _Detector, seeds: tuple[int, ...], beside: Path) -> Iterator[DetectorSpec]:
    name = table.name
    if is_folder(name) or (name not in PRESETS and (beside / name).is_dir()):
        yield _saved(table, beside)
        return
    for key, values in table.sweep.items():
        if not values:
            raise UsageError(f"sweep of detector '{name}' must list at least one {key}")
    for *chosen, shots in itertools.product(*table.sweep.values(), table.shots or (0,)):
        setting = dict(zip(table.sweep, chosen, strict=True))
        swept = [f"{key} {_shown(value)}" for key, value in setting.items()]
        swept += [f"{shots} shot{'s' * (shots > 1)}"] * (len(table.shots) > 1)
        yield DetectorSpec(
            name=name,
            label=f"{table.label or name} {', '.join(swept)}".rstrip(),
            parameters={**table.parameters, **setting},
            known_object=table.object == "known",
            seeds=table.seeds or seeds,
            shots=shots,
            calibrate=table.calibrate,
            auxiliary=table.auxiliary,
        )


def _saved(table: _Detector, beside: Path) -> DetectorSpec:
    """Return a detector that was fitted and saved before: only its threshold can be chosen."""
    if extra := sorted(table.model_fields_set - {"name", "label", "calibrate"}):
        raise UsageError(f"'{table.name}' is a saved detector and takes no '{extra[0]}'; leave it out")
    places = (Path(table.name), beside / table.name)
    folder = next((place for place in places if (place / "config.json").is_file()), None)
    if folder is None:
        raise UsageError(f"'{table.name}' is not a saved detector: it has no config.json; check the path")
    place = f"{folder.parent}/{folder.name}"
    return DetectorSpec(name=place, label=table.label or table.name, calibrate=table.calibrate)


def _shown(value: Any) -> str:
    return "-".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
