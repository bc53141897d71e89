"""``zeroflaw detectors``: the detectors that can be named."""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.abc import InspectLoader
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from zeroflaw.detectors.contract import Needs
    from zeroflaw.detectors.presets import Preset
    from zeroflaw.lab.published import PublishedNumber

METRIC = "image_auroc"
DATASETS = ("mvtec", "visa")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def detectors(as_json: bool) -> None:
    """List the detectors: what each needs before it can predict, its source, and its published numbers.

    Published numbers are image AUROC in percent, measured by others with the weights of the papers.
    """
    from zeroflaw.detectors import PRESETS

    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        needs, source = _described(preset)
        quoted = _quoted(name)
        if as_json:
            row = {"name": name, "summary": preset.summary, "needs": str(needs), "source": source}
            click.echo(json.dumps({**row, "published": list(map(_row, quoted))}, ensure_ascii=False))
            continue
        lines = [preset.summary, f"needs {needs}; {source}", *_sentences(quoted)]
        click.echo(f"{name:{width}}  " + f"\n{'':{width}}  ".join(lines))


# What a class says of itself


def _described(preset: Preset) -> tuple[Needs, str]:
    """Return what the kind of detector needs and its source."""
    return _read(preset.module, preset.kind_name) or (preset.kind().needs, preset.kind().source)


@lru_cache
def _read(module: str, kind_name: str) -> tuple[Needs, str] | None:
    """Read both off the text of the class, since importing it would import torch, which takes seconds.

    None where the class does not say them in plain words, or its text is not at hand; then it is imported.
    """
    from zeroflaw.detectors.contract import Needs

    spec = importlib.util.find_spec(module)
    loader = spec.loader if spec else None
    text = loader.get_source(module) if isinstance(loader, InspectLoader) else None
    said = _class_values(text or "", kind_name)
    try:
        call = said["needs"]
        if not isinstance(call, ast.Call) or ast.unparse(call.func) != "Needs" or call.args:
            return None
        needs = Needs(**{str(k.arg): ast.literal_eval(k.value) for k in call.keywords})
        return needs, ast.literal_eval(said["source"])
    except (KeyError, ValueError):  # not said in this class, or not a plain value
        return None


def _class_values(text: str, kind_name: str) -> dict[str, ast.expr]:
    """Return the annotated values in the body of a class by name, not yet evaluated."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and node.name == kind_name:
            return {
                ast.unparse(item.target): item.value
                for item in node.body
                if isinstance(item, ast.AnnAssign) and item.value is not None
            }
    return {}


# What others measured


def _quoted(name: str) -> list[PublishedNumber]:
    """Return at most one number per data set: the paper's own before another's, fewer photos before more."""
    from zeroflaw.lab.published import STATUSES, published

    quoted = []
    for dataset in DATASETS:
        means = published(metric=METRIC, dataset=dataset, category=None, corruption=None)
        mine = [number for number in means if number.detector == name]
        quoted += sorted(mine, key=lambda number: (STATUSES.index(number.status), number.shots))[:1]
    return quoted


def _row(number: PublishedNumber) -> dict[str, Any]:
    names = ("dataset", "metric", "value", "approximate", "shots", "status", "source")
    return {name: getattr(number, name) for name in names}


def _sentences(quoted: Sequence[PublishedNumber]) -> list[str]:
    """Return one sentence for each source."""
    from zeroflaw.lab.published import dataset_titles

    titles = dataset_titles()
    sentences = []
    for (status, shots, source), same in groupby(quoted, lambda n: (n.status, n.shots, n.source)):
        values = ", ".join(f"{titles[n.dataset]} {'about ' * n.approximate}{n.value}" for n in same)
        doubt = ", not verified" if status == "recalled" else ""
        photos = f" with {shots} photo{'s' * (shots != 1)}" if shots else ""
        sentences.append(f"{status}{doubt}{photos}: image AUROC {values} ({source})")
    return sentences
