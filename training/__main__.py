"""From nothing to the bundled files: ``python -m training --photos DIR``; interrupted, it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from training.bundle import DECIDED, FOLDER, versions
from training.decide import MIDDLE
from training.sources import find_kinds
from zeroflaw.files import sha256

# Large arrays come and go all the time; that glibc keeps their memory makes rendering twice as fast. Threads
# of torch that do not spin for long take a tenth of the time where other programs keep the processors busy.
HOW = {
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "GOMP_SPINCOUNT": "1000",
}


def run(title: str, arguments: Sequence[str], made: Path | None) -> None:
    """Run one stage in a process of its own, unless what it makes is there.

    Raises:
        click.ClickException: the stage failed; it has said why.
    """
    if made is not None and made.exists():
        click.echo(f"{title}: {made} is there")
        return
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-m", *arguments], env={**os.environ, **HOW}, check=False)
    if done.returncode:
        raise click.ClickException(f"wanted the stage '{title}' to end well, got exit code {done.returncode}")
    click.echo(f"{title}: {(time.monotonic() - begin) / 60:.1f} minutes")


@click.command()
@click.option("--photos", type=click.Path(path_type=Path), required=True, help="Photos, a folder a kind.")
@click.option("--real", type=click.Path(exists=True, path_type=Path), help="Data sets to decide by, too.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("training/work"), show_default=True)
@click.option("--pairs", default=18_000, show_default=True, help="How many pairs to render.")
@click.option("--seeds", default=1, show_default=True, help="How many towers; the median is bundled.")
@click.option("--threads", default=2, show_default=True, help="Processor threads, and processes that render.")
@click.option("--output", type=click.Path(path_type=Path), default=FOLDER, show_default=True)
def main(
    photos: Path, real: Path | None, work: Path, pairs: int, seeds: int, threads: int, output: Path
) -> None:
    """Make the bundled model: text tower, pairs, image towers, the choice among them, weights folder."""
    try:
        find_kinds(photos)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(", ".join(f"{name} {number}" for name, number in versions().items()))
    here, cores, pictures = f"--work={work}", f"--threads={threads}", f"--photos={photos}"
    run("text tower", ["training.language", here, cores], work / "text_student.safetensors")
    # The stage knows itself which shards are there.
    run("pairs", ["training.features", here, pictures, f"--pairs={pairs}", f"--processes={threads}"], None)
    weights = []
    for seed in range(seeds):
        tower, folder = work / f"tower-seed{seed}", work / f"weights-seed{seed}"
        run(f"towers {seed}", ["training.tower", here, cores, f"--seed={seed}"], tower / "report.json")
        run(f"weights {seed}", ["training.bundle", here, f"--tower={tower}", f"--output={folder}"], folder)
        weights.append(f"--weights=seed{seed}={folder}")
    beside = [f"--real={real}"] if real else []
    run("choice", ["training.decide", here, pictures, *beside, *weights, f"--output={DECIDED}"], None)
    chosen = work / f"tower-{(work / MIDDLE).read_text(encoding='utf-8')}"
    run("bundle", ["training.bundle", here, f"--tower={chosen}", f"--output={output}"], None)
    if output == FOLDER:
        run("engine", ["training.engine"], None)
        run("ready detector", ["training.ready"], None)
    for path in sorted(output.iterdir()):
        click.echo(f"{path.name:20s} {sha256(path)}")


if __name__ == "__main__":
    main()
