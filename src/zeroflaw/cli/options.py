"""The options that say which detector is meant, and from them to a fitted detector."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from typing_extensions import override

from zeroflaw.cli.output import PATH, repeated, say, tell_skipped
from zeroflaw.cli.progress import fit_bar
from zeroflaw.detectors import Detector, is_folder, load, make, open_fitted, parse_settings, read_words
from zeroflaw.detectors.base import LEAST_TILE
from zeroflaw.detectors.inputs import require
from zeroflaw.errors import UsageError
from zeroflaw.images import Limits, find_images, reading
from zeroflaw.runtime.processors import limit_threads

F = TypeVar("F", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A number within a range; "nan", of which no comparison holds, and "inf" are none."""

    @override
    def _describe_range(self) -> str:
        return "" if self.min is None and self.max is None else super()._describe_range()

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """The options that say which detector is meant; None means not given."""

    backbone: str | None = None
    object: str | None = None
    device: str | None = None
    engine: str | None = None
    words: Path | None = None
    normal: tuple[str, ...] = ()
    anomalous: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    tile: int | None = None
    seed: int | None = None
    reference: tuple[str, ...] = ()
    auxiliary: Path | None = None

    def flags(self, *names: str) -> dict[str, Any]:
        """Return those of the named options that were given."""
        return {name: value for name in names if (value := getattr(self, name)) not in (None, ())}

    def parameters(self, detector: str) -> dict[str, Any]:
        """Return the parameters of the named kind of detector that were set; later sources win: file, flags,
        --set.

        Raises:
            UsageError: an unknown parameter or a value of the wrong kind.
            WordsError: the words file is wrong.
        """
        found: dict[str, Any] = read_words(detector, self.words) if self.words else {}
        found |= self.flags("backbone", "object", "device", "engine", "normal", "anomalous", "tile", "seed")
        return found | parse_settings(detector, self.settings)

    def only_for(self, detector: str, others: Sequence[str]) -> DetectorOptions:
        """Leave out what this kind of detector does not have or need but another one of ``others`` does."""
        if is_folder(detector):
            return self
        mine, kinds = make(detector), [make(other) for other in others if not is_folder(other)]
        foreign = {name for kind in kinds for name in kind.get_params()} - mine.get_params().keys()
        left_out: dict[str, Any] = dict.fromkeys(foreign & {"object"})
        left_out |= dict.fromkeys(foreign & {"normal", "anomalous"}, ())
        if not mine.needs.reference_images and any(kind.needs.reference_images for kind in kinds):
            left_out["reference"] = ()
        if not mine.needs.auxiliary_set and any(kind.needs.auxiliary_set for kind in kinds):
            left_out["auxiliary"] = None
        kept = tuple(setting for setting in self.settings if setting.partition("=")[0] not in foreign)
        return replace(self, settings=kept, **left_out)

    def check_given(self, detector: str, *, reference: bool = False) -> None:
        """Compare what is given beside words with what the kind of detector needs; nothing is read yet.

        ``reference`` says that reference images will come from elsewhere.

        Raises:
            UsageError: something is missing, or is of no use.
        """
        has_reference, has_auxiliary = reference or bool(self.reference), self.auxiliary is not None
        require(detector, make(detector).needs, reference=has_reference, auxiliary=has_auxiliary)

    def given(self, *, quiet: bool = False) -> dict[str, Any]:
        """Return what `Detector.fit` is given beside words: found images, a listed data set.

        Files in the folders of reference images that are no images are left out, and named on stderr.

        Raises:
            InputError: a path does not exist, holds no image, or is no data set.
        """
        found: dict[str, Any] = {}
        if self.reference:
            images = find_images(self.reference)
            tell_skipped(images, quiet)
            found["reference"] = images.paths
            photos = f"{len(images)} photo{'s' * (len(images) != 1)}"
            say(f"{photos} taken for good products; flawed ones would spoil it", quiet)
        if self.auxiliary is not None:
            from zeroflaw.lab.datasets import open_auxiliary  # the laboratory, which a line does without

            found["auxiliary"] = open_auxiliary(self.auxiliary)
        return found


def tell_fit(detector: Detector, reference: Sequence[str], quiet: bool) -> None:
    """Say what a fit noticed about the good photos, and what its threshold promises."""
    for note in getattr(detector, "notes_", []):
        say(f"zeroflaw: {note}", quiet)
    outliers, twins = getattr(detector, "outliers_", []), getattr(detector, "twins_", {})
    names = dict(enumerate(find_images(reference).paths if outliers or twins else ()))
    if twins:
        same = ", ".join(f"{names.get(twin)} as {names.get(first)}" for twin, first in [*twins.items()][:5])
        more = f" and {len(twins) - 5} more" * (len(twins) > 5)
        say(f"zeroflaw: good photos that show the same, or nearly, count once: {same}{more}", quiet)
    if outliers:
        odd = ", ".join(str(names[number]) for number in outliers[:5] if number in names)
        say(f"zeroflaw: unlike the other good photos, perhaps flawed: {odd}; look at them", quiet)
    calibration = getattr(detector, "calibration_", None)
    if calibration is not None:
        say(calibration.sentence(), quiet)
    elif reference and "false_alarms" in detector.get_params():
        from zeroflaw.runtime.calibration import photos_needed  # which the detector has loaded by now

        promised = photos_needed(detector.get_params()["false_alarms"])
        say(
            "too few good photos for a threshold: photos are ranked, without verdicts; from 4 on there are "
            f"verdicts, from {max(4, promised)} on they come with a promise",
            quiet,
        )


tile_option = click.option(
    "--tile",
    type=click.IntRange(LEAST_TILE, 65536),
    metavar="SIDE",
    help="Cut photos into overlapping squares of SIDE pixels and judge each: for webs, strips, large photos.",
)
_ENGINE = (
    click.option("--device", type=click.Choice(("auto", "cpu", "cuda", "mps")), help="Default: auto."),
    click.option(
        "--engine",
        type=click.Choice(("auto", "onnx", "openvino", "torch")),
        help="What runs the image tower; auto takes onnx where it can.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        expose_value=False,
        callback=lambda ctx, option, value: limit_threads(value),
        metavar="N",
        help="Threads for networks and comparisons; all processors by default.",
    ),
)
_BACKBONE = "Weights: mini (default), ARCHITECTURE/TAG or local-dir:PATH."
AUXILIARY = "Data set of other products, for detectors that learn from one."
_OPTIONS = (
    click.option("--backbone", metavar="NAME", help=_BACKBONE),
    click.option("--object", metavar="NAME", help="Name of the product; unknown by default."),
    *_ENGINE,
    click.option("--words", type=PATH, metavar="FILE", help="TOML file with your own words."),
    repeated("--normal", metavar="WORD", help="Word for a good product."),
    repeated("--anomalous", metavar="WORD", help="Word for a flawed product."),
    tile_option,
    repeated("--set", "settings", metavar="NAME=VALUE", help="Any parameter of the detector."),
    repeated("--reference", metavar="PATH", help="Photos of good products, for detectors that need them."),
    click.option("--auxiliary", type=PATH, metavar="ROOT", help=AUXILIARY),
)


class _Notes:
    """Collects what is noted about how pictures were read, and says it once for all of a kind."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, None]] = {}

    def add(self, name: str, note: str) -> None:
        """Take a sentence about a picture."""
        self._found.setdefault(note, {})[name] = None

    def say(self, quiet: bool) -> None:
        """Say each sentence with some of the pictures that it is about."""
        for note, names in self._found.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            say(f"zeroflaw: {', '.join(list(names)[:3])}{more}: {note}", quiet)


def _read_so(ctx: click.Context, white: float | None, megapixels: float | None) -> None:
    """Let all pictures be read as the options of a verb say, and say at its end what was noted."""
    notes = _Notes()
    limits = None if megapixels is None else Limits(max_pixels=round(megapixels * 1e6))
    ctx.call_on_close(lambda: notes.say(bool(ctx.params.get("quiet"))))
    ctx.with_resource(reading(limits=limits, white=white, on_note=notes.add))


def reading_options(command: F) -> F:
    """Add ``--white`` and ``--max-megapixels``, by which the verb reads all pictures."""

    @functools.wraps(command)
    def with_reading(*args: Any, white: float | None, max_megapixels: float | None, **values: Any) -> Any:
        _read_so(click.get_current_context(), white, max_megapixels)
        return command(*args, **values)

    for option in (
        click.option(
            "--max-megapixels",
            type=Number(0.01, 100_000),
            metavar="N",
            help="Largest picture that is read, in million pixels (50).",
        ),
        click.option(
            "--white",
            type=Number(),
            metavar="LEVEL",
            help="What is white in pictures of more than 8 bits: 1023 for a camera of 10 bits.",
        ),
    ):
        with_reading = option(with_reading)
    return cast(F, with_reading)


def history_options(command: F) -> F:
    """Add the options that say where a history is kept, and how long."""
    for option in (
        click.option(
            "--keep-days",
            type=Number(0, 36_500, min_open=True),
            metavar="N",
            help="Forget rows then, and the pictures that are kept.",
        ),
        click.option(
            "--database", metavar="URL", help="Keep the history in PostgreSQL: postgresql://USER@HOST/NAME."
        ),
        click.option(
            "--history",
            type=PATH,
            default=Path("zeroflaw-history"),
            show_default=True,
            metavar="DIR",
            help="Folder of the history and of pictures; 'serve' shows what 'watch' wrote there.",
        ),
    ):
        command = option(command)
    return command


batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(1, 1024),
    default=8,
    show_default=True,
    metavar="N",
    help="Images at a time.",
)


def detector_options(command: F) -> F:
    """Add the options of `DetectorOptions` except the seed, which some verbs take several times."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def engine_options(command: F) -> F:
    """Add the options that say where and by what an image tower is run."""
    for option in reversed(_ENGINE):
        command = option(command)
    return command


def take_options(values: dict[str, Any], seed: int | None) -> DetectorOptions:
    """Move the detector's options out of a verb's keyword arguments."""
    names = [field.name for field in fields(DetectorOptions) if field.name != "seed"]
    return DetectorOptions(seed=seed, **{name: values.pop(name) for name in names})


def open_detector(name: str, options: DetectorOptions, *, quiet: bool = False, **given: Any) -> Detector:
    """Load a saved detector, take a ready one, or fit one from its words and what else it needs.

    Of a saved one only where and in which numbers it runs can be set. ``given`` is handed to `Detector.fit`
    beside what the options say.

    Raises:
        UsageError: the name is unknown, or parameters were given for a saved detector.
    """
    if is_folder(name):
        where = [setting for setting in options.settings if setting.startswith("dtype=")]
        others = tuple(setting for setting in options.settings if setting not in where)
        for flag in replace(options, settings=others).flags(
            "object", "words", "normal", "anomalous", "settings", "seed", "reference", "auxiliary"
        ):
            raise UsageError(
                f"--{'set' if flag == 'settings' else flag} cannot change the saved detector {name}, "
                "which is fitted; fit a new one"
            )
        runs: dict[str, Any] = dict(setting.split("=", 1) for setting in where)
        return load(name, **options.flags("backbone", "device", "engine", "tile"), **runs)
    parameters = options.parameters(name)
    options.check_given(name, reference="reference" in given)
    with fit_bar(quiet) as progress:
        return open_fitted(name, parameters, progress=progress, **options.given(quiet=quiet), **given)
