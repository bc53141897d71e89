"""Measure weights on what decides between recipes: ``python -m training.decide``.

Weights folders of equal name are seeds of one recipe: the table says their mean and its spread.

What is asked, of every weights folder alike and through the package as its users run it (detector ``clip``,
which asks with one pair of prompts and learns nothing):

* *left out*: whole kinds of photographs that `training.features` left out, with painted flaws, 16 pairs a
  kind; AUROC of so few is known to ± .2, so ``--pairs 96`` (± .07) tells whether a kind ranks below chance.
  The highest probability on a map is taken of eight untouched photographs a kind.
* *real*: data sets with real flaws below ``--real``, and solar cells (the package ``elpv-dataset``), at most
  200 good and 200 flawed pictures of each.

The categories by which the model is judged in the end are no part of this; they are looked at once, later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from training.defects import InvisibleDefectError
from training.features import read_stamp
from training.pairs import Pair, render_pair
from training.sources import pictures_of, read_kinds
from zeroflaw.detectors import Detector, make
from zeroflaw.files import sha256, write_json, write_text
from zeroflaw.lab.datasets import open_dataset
from zeroflaw.lab.metrics import PixelMetrics, image_auroc
from zeroflaw.records import Record, read_mask
from zeroflaw.towers.folder import WEIGHTS

DETECTOR = "clip"
PAIRS, PEAKS = 16, 8  # a kind
MOST = 200  # pictures of a data set, good and flawed each
SEED = 2_000_000_000  # far from the seeds of the shards
BEFORE = "before"  # the name of weights that are only compared with
MIDDLE = "middle.txt"  # in the work folder: the name of the weights of median worth
SIDE = 384  # pixels that an untouched photograph is shown at, at most


@dataclass(frozen=True)
class Figures:
    """What one set says of one weights folder.

    Attributes:
        name: of the kind or data set.
        good, flawed: how many pictures.
        image: AUROC over pictures.
        pixel, pro: AUROC and per-region overlap over pixels; None without masks.
        peak: median over good pictures of the highest probability on the map.
    """

    name: str
    good: int
    flawed: int
    image: float
    pixel: float | None
    pro: float | None
    peak: float


Runs = Sequence[dict[str, list[Figures]]]  # what each seed of a recipe has, by part
FIGURES = {"image": "image", "pixel": "pixel", "PRO": "pro", "peak": "peak"}


def painted_pairs(photos: Path, kind: str, count: int) -> list[Pair]:
    """Paint flaws on photographs of one kind: the same pairs for the same generator."""
    only, found, seed = read_kinds(photos, [kind]), list[Pair](), SEED
    while len(found) < count:
        seed += 1
        try:
            pair = render_pair(seed, only)
        except InvisibleDefectError:
            continue
        if pair.kinds and pair.base == "photo":
            found.append(pair)
    return found


def _untouched(photos: Path, kind: str) -> list[NDArray[np.uint8]]:
    """Some photographs of a kind as they are, evenly over its files."""
    paths = pictures_of(photos / kind)
    chosen = [paths[round(at)] for at in np.linspace(0, len(paths) - 1, min(PEAKS, len(paths)))]
    found = []
    for path in chosen:
        with Image.open(path) as image:
            image.thumbnail((SIDE, SIDE))
            found.append(np.asarray(image.convert("RGB")))
    return found


def _peaks(detector: Detector, pictures: Sequence[object]) -> list[float]:
    return [_highest(prediction.map) for prediction in detector.predict(pictures, maps=True)]


def _highest(heat: NDArray[np.float32] | None) -> float:
    assert heat is not None
    return float(heat.max())


def measure_kind(detector: Detector, photos: Path, kind: str, count: int = PAIRS) -> Figures:
    """Measure on painted flaws on a kind that was left out."""
    pairs = painted_pairs(photos, kind, count)
    pictures = [image for pair in pairs for image in (pair.clean, pair.defective)]
    labels, scores, pixels = [], [], PixelMetrics()
    for number, said in enumerate(detector.predict(pictures, maps=True)):
        pair, flawed = pairs[number // 2], number % 2
        labels.append(flawed)
        scores.append(said.logit)
        pixels.update(said.resized_map(), pair.mask if flawed else np.zeros_like(pair.mask))
    peak = float(np.median(_peaks(detector, _untouched(photos, kind))))
    return _figures(kind, labels, scores, pixels, peak)


def measure_real(detector: Detector, name: str, records: Sequence[Record]) -> Figures:
    """Measure on real flaws."""
    labels, scores, peaks, pixels = [], [], list[float](), PixelMetrics()
    masked = any(record.mask is not None for record in records)
    for record, said in zip(
        records, detector.predict([record.image for record in records], maps=True), strict=True
    ):
        labels.append(record.label)
        scores.append(said.logit)
        if record.label == 0:
            peaks.append(_highest(said.map))
        if masked and (record.label == 0 or record.mask is not None):
            heat = said.resized_map()
            empty = np.zeros(heat.shape, bool)
            pixels.update(heat, empty if record.mask is None else read_mask(record.mask, said.size))
    return _figures(name, labels, scores, pixels if masked else None, float(np.median(peaks)))


def _figures(
    name: str, labels: list[int], scores: list[float], pixels: PixelMetrics | None, peak: float
) -> Figures:
    over = None if pixels is None else pixels.result()
    return Figures(
        name,
        labels.count(0),
        labels.count(1),
        float(image_auroc(labels, scores).value or 0),
        None if over is None else over.pixel_auroc.value,
        None if over is None else over.pixel_pro.value,
        peak,
    )


def real_sets(folder: Path | None) -> dict[str, list[Record]]:
    """All categories of the data sets below a folder, and solar cells, thinned evenly to at most `MOST`."""
    names = (
        ["elpv", *(str(path) for path in sorted(folder.iterdir()) if path.is_dir())] if folder else ["elpv"]
    )
    found = {}
    for category in (category for name in names for category in open_dataset(name)):
        chosen = list[Record]()
        for label in (0, 1):
            every = [record for record in category.test if record.label == label]
            places = np.linspace(0, len(every) - 1, min(MOST, len(every))).round().astype(int)
            chosen += [every[place] for place in places]
        found[category.name] = chosen
    return found


def measure(
    weights: Path, photos: Path, kinds: Sequence[str], real: Path | None, count: int
) -> dict[str, list[Figures]]:
    """Measure one weights folder on everything, with so many pairs a kind."""
    detector = make(DETECTOR, backbone=f"local-dir:{weights}").fit()
    shown = tqdm(kinds, desc=weights.name, unit="kind")
    painted = [measure_kind(detector, photos, kind, count) for kind in shown]
    return {
        "left out": painted,
        "real": [measure_real(detector, name, records) for name, records in real_sets(real).items()],
    }


def measured(
    work: Path, weights: Path, photos: Path, kinds: Sequence[str], real: Path | None, count: int
) -> dict[str, list[Figures]]:
    """Measure, or read what was measured of the same weights before."""
    stamp = read_stamp(work / "features").generator
    name = f"{sha256(weights / WEIGHTS)[:16]}-{stamp[:16]}{'' if count == PAIRS else f'-{count}'}.json"
    kept = work / "decided" / name
    if not kept.is_file():
        kept.parent.mkdir(exist_ok=True)
        found = measure(weights, photos, kinds, real, count)
        write_json(kept, {part: [asdict(row) for row in rows] for part, rows in found.items()})
    read = json.loads(kept.read_text(encoding="utf-8"))
    return {part: [Figures(**row) for row in rows] for part, rows in read.items()}


def worth(runs: Runs) -> float:
    """Return what recipes are ranked by: the mean image AUROC of both parts, which count alike."""
    return float(np.mean([np.mean([row.image for row in rows]) for run in runs for rows in run.values()]))


def middle(found: Mapping[str, Runs]) -> str:
    """Return the name of the weights of median worth (of an even number, the lower of the two)."""
    ranked = sorted(found, key=lambda name: worth(found[name]))
    return ranked[(len(ranked) - 1) // 2]


def _mean(rows: Sequence[Figures], name: str) -> Figures:
    pixel = [row.pixel for row in rows if row.pixel is not None]
    pro = [row.pro for row in rows if row.pro is not None]
    return Figures(
        name,
        sum(row.good for row in rows),
        sum(row.flawed for row in rows),
        float(np.mean([row.image for row in rows])),
        float(np.mean(pixel)) if pixel else None,
        float(np.mean(pro)) if pro else None,
        float(np.median([row.peak for row in rows])),
    )


def table(found: Mapping[str, Runs]) -> str:
    """Return everything as Markdown: means first, then every set; one block of columns per recipe.

    A figure of several seeds is their mean ± their standard deviation; "lowest" is the lowest mean.
    """
    heads = [f"{name}: {figure}" for name in found for figure in FIGURES]
    lines = ["| set | good / flawed | " + " | ".join(heads) + " |", "|---" * (2 + len(heads)) + "|"]
    parts = list(next(iter(found.values()))[0])
    for part in parts:
        lines.append(
            _line([[_mean(run[part], f"**mean, {part}**") for run in runs] for runs in found.values()])
        )
        lowest = [_lowest([run[part] for run in runs]) for runs in found.values()]
        lines.append("| lowest | | " + " ".join(f"{value:.3f} ({name}) | | | |" for value, name in lowest))
    for part in parts:
        columns = [list(zip(*(run[part] for run in runs), strict=True)) for runs in found.values()]
        lines += [_line(rows) for rows in zip(*columns, strict=True)]
    return "\n".join(lines) + "\n"


def _lowest(seeds: Sequence[list[Figures]]) -> tuple[float, str]:
    return min(
        (float(np.mean([row.image for row in rows])), rows[0].name) for rows in zip(*seeds, strict=True)
    )


def _line(recipes: Sequence[Sequence[Figures]]) -> str:
    cells = [_cell([getattr(row, figure) for row in rows]) for rows in recipes for figure in FIGURES.values()]
    first = recipes[0][0]
    return f"| {first.name} | {first.good} / {first.flawed} | " + " | ".join(cells) + " |"


def _cell(seeds: Sequence[float | None]) -> str:
    values = [value for value in seeds if value is not None]
    if not values:
        return "–"
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


@click.command()
@click.option("--photos", type=click.Path(exists=True, path_type=Path), required=True, help="As in training.")
@click.option("--real", type=click.Path(exists=True, path_type=Path), help="Folder of data sets.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("training/work"), show_default=True)
@click.option(
    "--weights",
    multiple=True,
    required=True,
    metavar="NAME=FOLDER",
    help="May be repeated; equal names are seeds of one recipe.",
)
@click.option(
    "--pairs", type=click.IntRange(1), default=PAIRS, show_default=True, help="Painted pairs a kind."
)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Also write the table there.")
def main(
    photos: Path, real: Path | None, work: Path, weights: tuple[str, ...], pairs: int, output: Path | None
) -> None:
    """Compare weights folders on kinds that were left out of training and on real flaws."""
    named = [entry.partition("=") for entry in weights]
    for entry, (_, _, folder) in zip(weights, named, strict=True):
        if not folder or not (Path(folder) / WEIGHTS).is_file():
            raise click.BadParameter(f"wanted NAME=FOLDER and a folder of weights, got '{entry}'")
    try:
        kinds = read_stamp(work / "features").left_out
    except FileNotFoundError as error:
        raise click.ClickException(f"{work} holds no pairs; run python -m training.features") from error
    found: dict[str, list[dict[str, list[Figures]]]] = {}
    for name, _, folder in named:
        found.setdefault(name, []).append(measured(work, Path(folder), photos, kinds, real, pairs))
    text = table(found)
    click.echo(text)
    write_text(work / MIDDLE, middle({name: runs for name, runs in found.items() if name != BEFORE} or found))
    if output is not None:
        write_text(output, text)


if __name__ == "__main__":
    main()
