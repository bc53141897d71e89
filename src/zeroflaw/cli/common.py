"""What several verbs share: options, progress bars, and from options to a fitted detector."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zeroflaw.errors import UsageError

if TYPE_CHECKING:
    from zeroflaw.detectors import Detector, Progress
    from zeroflaw.finding import Found

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """The options that say which detector is meant; None means not given."""

    backbone: str | None = None
    object: str | None = None
    device: str | None = None
    words: Path | None = None
    normal: tuple[str, ...] = ()
    anomalous: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    seed: int | None = None
    reference: tuple[str, ...] = ()
    auxiliary: Path | None = None

    def parameters(self, detector: str) -> dict[str, Any]:
        """Return the parameters of the named kind of detector that were set; later sources win: file, flags,
        --set.

        Raises:
            UsageError: an unknown parameter or a value of the wrong kind.
            WordsError: the words file is wrong.
        """
        from zeroflaw.detectors import parse_settings, read_words

        found: dict[str, Any] = read_words(detector, self.words) if self.words else {}
        flags = {
            "backbone": self.backbone,
            "object": self.object,
            "device": self.device,
            "normal": self.normal or None,
            "anomalous": self.anomalous or None,
            "seed": self.seed,
        }
        found |= {name: value for name, value in flags.items() if value is not None}
        return found | parse_settings(detector, self.settings)

    def only_for(self, detector: str, others: Sequence[str]) -> DetectorOptions:
        """Leave out what this kind of detector does not have or need but another one of ``others`` does."""
        from zeroflaw.detectors import is_folder, make

        if is_folder(detector):
            return self
        mine, kinds = make(detector), [make(other) for other in others if not is_folder(other)]
        params, theirs = mine.get_params(), {name for kind in kinds for name in kind.get_params()}
        kept = tuple(s for s in self.settings if _name(s) in params or _name(s) not in theirs)
        left_out: dict[str, Any] = {
            flag: empty
            for flag, empty in {"object": None, "normal": (), "anomalous": ()}.items()
            if flag not in params and flag in theirs
        }
        if not mine.needs.reference_images and any(kind.needs.reference_images for kind in kinds):
            left_out["reference"] = ()
        if not mine.needs.auxiliary_set and any(kind.needs.auxiliary_set for kind in kinds):
            left_out["auxiliary"] = None
        return replace(self, settings=kept, **left_out)

    def check_given(self, detector: str, *, reference: bool = False) -> None:
        """Compare what is given beside words with what the kind of detector needs; nothing is read yet.

        ``reference`` says that reference images will come from elsewhere.

        Raises:
            UsageError: something is missing, or is of no use.
        """
        from zeroflaw.detectors import make
        from zeroflaw.detectors.inputs import require

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
            from zeroflaw.images import find_images

            images = find_images(self.reference)
            tell_skipped(images, quiet)
            found["reference"] = images.paths
            count = len(images.paths)
            say(
                f"{count} photo{'s' * (count != 1)} taken for good products; flawed ones would spoil it",
                quiet,
            )
        if self.auxiliary is not None:
            from zeroflaw.lab.datasets import open_auxiliary

            found["auxiliary"] = open_auxiliary(self.auxiliary)
        return found


def _name(setting: str) -> str:
    return setting.partition("=")[0]


_OPTIONS = (
    click.option(
        "--backbone", metavar="NAME", help="Weights: mini (default), ARCHITECTURE/TAG or local-dir:PATH."
    ),
    click.option("--object", metavar="NAME", help="Name of the product; unknown by default."),
    click.option("--device", metavar="DEVICE", help="auto (default), cpu, cuda or mps."),
    click.option(
        "--words", type=click.Path(path_type=Path), metavar="FILE", help="TOML file with your own words."
    ),
    click.option("--normal", multiple=True, metavar="WORD", help="Word for a good product; may be repeated."),
    click.option(
        "--anomalous", multiple=True, metavar="WORD", help="Word for a flawed product; may be repeated."
    ),
    click.option(
        "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any parameter of the detector."
    ),
    click.option(
        "--reference",
        multiple=True,
        metavar="PATH",
        help="Photos of good products, for detectors that need them; may be repeated.",
    ),
    click.option(
        "--auxiliary",
        type=click.Path(path_type=Path),
        metavar="ROOT",
        help="Data set of other products, for detectors that learn from one.",
    ),
)


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


def take_options(values: dict[str, Any], seed: int | None) -> DetectorOptions:
    """Move the detector's options out of a verb's keyword arguments."""
    names = [field.name for field in fields(DetectorOptions) if field.name != "seed"]
    return DetectorOptions(seed=seed, **{name: values.pop(name) for name in names})


def open_detector(name: str, options: DetectorOptions, *, quiet: bool = False, **given: Any) -> Detector:
    """Load a saved detector, take a ready one, or fit one from its words and what else it needs.

    ``given`` is handed to `Detector.fit` beside what the options say.

    Raises:
        UsageError: the name is unknown, or parameters were given for a saved detector.
    """
    from zeroflaw.detectors import is_folder, open_fitted

    if is_folder(name):
        return _open_saved(name, options)
    parameters = options.parameters(name)
    options.check_given(name, reference="reference" in given)
    with fit_bar(quiet) as progress:
        return open_fitted(name, parameters, progress=progress, **options.given(quiet=quiet), **given)


def _open_saved(folder: str, options: DetectorOptions) -> Detector:
    from zeroflaw.detectors import load

    fixed = {
        "--object": options.object,
        "--words": options.words,
        "--normal": options.normal,
        "--anomalous": options.anomalous,
        "--set": options.settings,
        "--seed": options.seed,
        "--reference": options.reference,
        "--auxiliary": options.auxiliary,
    }
    for flag, value in fixed.items():
        if value not in (None, ()):
            raise UsageError(
                f"{flag} cannot change the saved detector {folder}, which is fitted; fit a new one"
            )
    overrides = {
        k: v for k, v in {"backbone": options.backbone, "device": options.device}.items() if v is not None
    }
    return load(folder, **overrides)


def say(text: str, quiet: bool = False) -> None:
    """Write a line for people, on stderr."""
    if not quiet:
        click.echo(text, err=True)


def bars_shown(quiet: bool) -> bool:
    """Whether progress bars make sense: stderr is a terminal."""
    return sys.stderr.isatty() and not quiet


def tell_skipped(found: Found, quiet: bool) -> None:
    """Say which files of the folders that were given are no images."""
    from zeroflaw.finding import shown

    for path in found.skipped:
        link = path.is_symlink() and path.is_dir()
        reason = "it is a link to a folder, which is not followed" if link else "it is not an image file"
        say(f"zeroflaw: {shown(path)}: skipped, {reason}", quiet)


@contextmanager
def fit_bar(quiet: bool) -> Iterator[Progress]:
    """Yield a progress callback that draws one bar per stage of a fit, each with its remaining time."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = tqdm(total=total, desc=stage, disable=not bars_shown(quiet), file=sys.stderr)
        bars[stage].update(done - bars[stage].n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


def with_bar(items: Iterable[Any], *, total: int, title: str, quiet: bool) -> Iterable[Any]:
    """Draw a progress bar over ``items`` when stderr is a terminal."""
    from tqdm import tqdm

    bar: Iterable[Any] = tqdm(
        items, total=total, desc=title, unit="image", disable=not bars_shown(quiet), file=sys.stderr
    )
    return bar


def prepare_output(folder: Path, marker: str, overwrite: bool) -> None:
    """Make the output folder, or refuse one that already holds results.

    Raises:
        UsageError: ``marker`` is already in the folder, or the folder cannot be made.
    """
    try:
        if (folder / marker).is_dir():
            raise UsageError(f"{folder / marker} should be a file but is a folder; give another folder")
        if (folder / marker).exists() and not overwrite:
            raise UsageError(f"{folder} already holds {marker}; give another folder or --overwrite")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"an output folder was wanted at {folder}: {error.strerror or error}; choose another"
        ) from error
