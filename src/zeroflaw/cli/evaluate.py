"""``zeroflaw evaluate``: metrics on a labelled data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeroflaw.cli.common import (
    DetectorOptions,
    batch_size_option,
    detector_options,
    open_detector,
    prepare_output,
    say,
    take_options,
    with_bar,
)
from zeroflaw.cli.metrics_table import metrics_table
from zeroflaw.errors import UsageError

if TYPE_CHECKING:
    from zeroflaw.lab.datasets import Category, Dataset
    from zeroflaw.lab.evaluation import Entry

RESULTS = "metrics.json"


@click.command()
@click.argument("root")  # text: a path would make the name elpv of the folder ./elpv
@click.option(
    "--layout",
    default="auto",
    metavar="NAME",
    help="How its files lie; see 'zeroflaw datasets' (auto).",
)
@click.option(
    "--detector", "names", multiple=True, metavar="NAME|DIR", help="Detector (rwda); may be repeated."
)
@detector_options
@click.option("--known-object", is_flag=True, help="Tell the detector each category's name.")
@click.option(
    "--shots",
    type=click.IntRange(1, 1000),
    metavar="K",
    help="Give detectors that need them K good images of each category's training set, drawn by the seed.",
)
@click.option(
    "--category", "wanted", multiple=True, metavar="NAME", help="Only this category; may be repeated."
)
@click.option("--seed", "seeds", type=int, multiple=True, metavar="N", help="Seed (0); may be repeated.")
@click.option(
    "--corruption",
    "corruptions",
    multiple=True,
    metavar="NAME:SEVERITY",
    help="Corrupt the images first, gaussian_noise:3 for example, or 'none'; may be repeated.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(0, 1_000_000),
    default=0,
    metavar="N",
    help="Draws for a 95 % interval of the image AUROC (none).",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Write metrics.json.")
@batch_size_option
@click.option("--overwrite", is_flag=True, help="Replace a metrics.json that is already there.")
@click.option("-q", "--quiet", is_flag=True, help="No table, no progress bar.")
def evaluate(
    root: str,
    layout: str,
    names: tuple[str, ...],
    known_object: bool,
    shots: int | None,
    wanted: tuple[str, ...],
    seeds: tuple[int, ...],
    corruptions: tuple[str, ...],
    bootstrap: int,
    output: Path | None,
    batch_size: int,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure detectors on ROOT: the folder of a data set or of one category of it, or a table of labels.

    Of your own photos, put good ones into ROOT/good and others into folders beside it. 'zeroflaw datasets'
    lists all layouts; 'elpv' is a data set that comes as a package.
    """
    from zeroflaw.detectors import is_folder
    from zeroflaw.lab.datasets import open_dataset
    from zeroflaw.lab.evaluation.sharing import CLEAN, read_corruption

    if known_object and options["object"] is not None:
        raise UsageError(
            "--known-object takes the name from each category, and --object gives one; use only one of them"
        )
    if known_object and any(is_folder(name) for name in names):
        raise UsageError(
            "--known-object fits a detector for each category; name a kind of detector, not a saved one"
        )
    chosen = take_options(options, None)
    if shots is not None and chosen.reference:
        raise UsageError("--shots draws reference images and --reference names them; use only one of them")
    dataset = _chosen(open_dataset(root, layout), wanted)
    plan = _Plan(names or ("rwda",), seeds or (None,), chosen, known_object, shots, quiet)
    plan.check(dataset)
    if output is not None:
        prepare_output(output, RESULTS, overwrite)
    for problem in (*dataset.problems, *(p for category in dataset for p in category.problems)):
        say(f"zeroflaw: {problem}", quiet)
    shifts = [read_corruption(name) for name in dict.fromkeys(corruptions or (CLEAN,))]
    rows = _run(dataset, plan, shifts, batch_size, bootstrap)
    for line in metrics_table(rows):
        say(line, quiet)
    if output is not None:
        _write(output, rows)
        say(f"wrote {output / RESULTS}", quiet)


def _chosen(dataset: Dataset, wanted: Sequence[str]) -> Dataset:
    known = [category.name for category in dataset]
    for name in wanted:
        if name not in known:
            raise UsageError(f"{dataset.name} has no category '{name}', only {', '.join(known)}")
    if not wanted:
        return dataset
    return replace(dataset, categories=tuple(c for c in dataset if c.name in wanted))


@dataclass
class _Plan:
    """Which detectors to run, and the fitted ones so far."""

    names: Sequence[str]
    seeds: Sequence[int | None]
    options: DetectorOptions
    known_object: bool
    shots: int | None
    quiet: bool
    _fitted: dict[tuple[str | None, ...], Entry] = field(default_factory=dict)

    def check(self, dataset: Dataset) -> None:
        """Check every name, setting and need before the first fit, which takes time.

        Raises:
            UsageError: what is wrong.
        """
        from zeroflaw.detectors import is_folder
        from zeroflaw.lab.evaluation.reference import draw_reference

        _labels(self.names)
        few_shot = []
        for name in self.names:
            if not is_folder(name):
                options = self.options.only_for(name, self.names)
                options.parameters(name)
                options.check_given(name, reference=self._draws(name))
                few_shot += [name] * self._draws(name)
        if self.shots is not None and not few_shot:
            raise UsageError("--shots is for detectors that need reference images, and none of these does")
        if few_shot:
            for category in dataset:
                draw_reference(category, self.shots or 0, 0)

    def _draws(self, name: str) -> bool:
        """Whether this detector gets reference images that are drawn for each category."""
        from zeroflaw.detectors import is_folder, make

        return self.shots is not None and not is_folder(name) and make(name).needs.reference_images

    def entries(self, category: Category) -> list[Entry]:
        """Fit what a category needs; what does not depend on the category is fitted once."""
        from zeroflaw.detectors import is_folder

        return [
            self._entry(name, label, seed, category)
            for name, label in zip(self.names, _labels(self.names), strict=True)
            for seed in (self.seeds if not is_folder(name) else (None,))
        ]

    def _entry(self, name: str, label: str, seed: int | None, category: Category) -> Entry:
        from zeroflaw.detectors import is_folder, make
        from zeroflaw.lab.evaluation import Entry
        from zeroflaw.lab.evaluation.reference import draw_reference

        options = replace(self.options.only_for(name, self.names), seed=seed)
        object_name = options.object
        if self.known_object and not is_folder(name) and "object" in make(name).get_params():
            object_name = category.object_name
        given = (
            {"reference": draw_reference(category, self.shots or 0, seed or 0)} if self._draws(name) else {}
        )
        key = (name, str(seed), object_name, category.name if given else None)
        if key not in self._fitted:
            options = replace(options, object=object_name)
            detector: Any = open_detector(name, options, quiet=self.quiet, **given)
            self._fitted[key] = Entry(label, detector.seed, detector)
        return self._fitted[key]


def _labels(names: Sequence[str]) -> list[str]:
    """Name every detector in the table: a folder goes by its last part, or whole where that is taken."""
    if len(set(names)) < len(names):
        raise UsageError(f"every detector can be measured once, got {', '.join(names)}; leave the copies out")
    short = [Path(name).resolve().name if "/" in name or "\\" in name else name for name in names]
    return [label if short.count(label) == 1 else name for name, label in zip(names, short, strict=True)]


def _run(
    dataset: Dataset, plan: _Plan, corruptions: Sequence[tuple[str, int] | None], batch_size: int, draws: int
) -> list[dict[str, Any]]:
    from zeroflaw.lab.evaluation import evaluate_category

    rows = []
    for category in dataset:
        entries = plan.entries(category)
        total = len(category.test) * len(corruptions)
        bar: Any = with_bar((), total=total, title=category.name, quiet=plan.quiet)
        for corruption in corruptions:
            outcomes = evaluate_category(
                category,
                entries,
                corruption=corruption,
                batch_size=batch_size,
                intervals=draws,
                on_image=bar.update,
            )
            rows += [row for outcome in outcomes for row in (*outcome.domains, outcome.row)]
        bar.close()
    return rows


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    from zeroflaw._version import __version__
    from zeroflaw.files import write_json
    from zeroflaw.lab.evaluation import SCHEMA, mean_of, summary_of

    whole = [row for row in rows if row["domain"] is None]
    one = len({(row["detector"], row["corruption"]) for row in whole}) == 1
    content = {
        "schema": SCHEMA,
        "zeroflaw": __version__,
        "rows": rows,
        # A mean over different detectors would be one of nothing; each has its own in the summary.
        "mean": mean_of(whole) if one else None,
        "summary": summary_of(whole),
    }
    write_json(folder / RESULTS, content)
