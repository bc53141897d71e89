"""``zeroflaw detectors``: the detectors that can be named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import click

from zeroflaw.cli.output import json_option, put, put_json
from zeroflaw.detectors import PRESETS
from zeroflaw.lab.published import STATUSES, PublishedNumber, dataset_titles, published

METRIC = "image_auroc"
DATASETS = ("mvtec", "visa")
_QUOTED = ("dataset", "metric", "value", "approximate", "shots", "status", "source")


@click.command()
@json_option
def detectors(as_json: bool) -> None:
    """List the detectors: what each needs before it can predict, its source, and its published numbers.

    Published numbers are image AUROC in percent, measured by others with the weights of the papers.
    """
    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        needs, quoted = str(preset.needs), _quoted(name)
        if as_json:
            row = {"name": name, "summary": preset.summary, "needs": needs, "source": preset.source}
            put_json({**row, "published": [{key: getattr(n, key) for key in _QUOTED} for n in quoted]})
            continue
        lines = [preset.summary, f"needs {needs}; {preset.source}", *_sentences(quoted)]
        for number, line in enumerate(lines):
            put(f"{name if number == 0 else '':{width}}  {line}")


def _quoted(name: str) -> list[PublishedNumber]:
    """Return at most one number per data set: the paper's own before another's, fewer photos before more."""
    quoted = []
    for dataset in DATASETS:
        means = published(metric=METRIC, dataset=dataset, category=None, corruption=None)
        mine = [number for number in means if number.detector == name]
        quoted += sorted(mine, key=lambda number: (STATUSES.index(number.status), number.shots))[:1]
    return quoted


def _sentences(quoted: Sequence[PublishedNumber]) -> Iterator[str]:
    """Yield one sentence for each source."""
    titles = dataset_titles()
    for (status, shots, source), same in groupby(quoted, lambda n: (n.status, n.shots, n.source)):
        values = ", ".join(f"{titles[n.dataset]} {'about ' * n.approximate}{n.value}" for n in same)
        doubt = ", not verified" if status == "recalled" else ""
        photos = f" with {shots} photo{'s' * (shots != 1)}" if shots else ""
        yield f"{status}{doubt}{photos}: image AUROC {values} ({source})"
