"""From nothing to the bundled files: ``python -m training --photos DIR``; interrupted, it goes on."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from training.bundle import FOLDER, versions
from zeroflaw.files import sha256


def run(title: str, arguments: Sequence[str], made: Path | None) -> None:
    """Run one stage in a process of its own, unless what it makes is there.

    Raises:
        subprocess.CalledProcessError: the stage failed.
    """
    if made is not None and made.exists():
        click.echo(f"{title}: {made} is there")
        return
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", *arguments], check=True)
    click.echo(f"{title}: {(time.monotonic() - begin) / 60:.1f} minutes")


@click.command()
@click.option(
    "--photos", type=click.Path(exists=True, path_type=Path), required=True, help="Real photographs."
)
@click.option("--work", type=click.Path(path_type=Path), default=Path("training/work"), show_default=True)
@click.option("--pairs", default=9_400, show_default=True, help="How many pairs to render.")
@click.option("--seeds", default=3, show_default=True, help="How many towers to train; the first is bundled.")
@click.option("--threads", default=2, show_default=True, help="Processor threads, and processes that render.")
@click.option("--output", type=click.Path(path_type=Path), default=FOLDER, show_default=True)
def main(photos: Path, work: Path, pairs: int, seeds: int, threads: int, output: Path) -> None:
    """Make the bundled model: text tower, pairs, image towers, weights folder."""
    click.echo(", ".join(f"{name} {number}" for name, number in versions().items()))
    here, cores = f"--work={work}", f"--threads={threads}"
    run("text tower", ["training.language", here, cores], work / "text_student.safetensors")
    rendering = [
        "training.features",
        here,
        f"--photos={photos}",
        f"--pairs={pairs}",
        f"--processes={threads}",
    ]
    run("pairs", rendering, None)  # it knows itself which shards are there
    for seed in range(seeds):
        made = work / f"tower-seed{seed}" / "report.json"
        run(f"towers {seed}", ["training.tower", here, cores, f"--seed={seed}"], made)
    run("bundle", ["training.bundle", here, f"--tower={work / 'tower-seed0'}", f"--output={output}"], None)
    if output == FOLDER:
        run("ready detector", ["training.ready"], None)
    for path in sorted(output.iterdir()):
        click.echo(f"{path.name:20s} {sha256(path)}")


if __name__ == "__main__":
    main()
