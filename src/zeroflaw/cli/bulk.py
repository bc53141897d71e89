"""``zeroflaw detect`` on very many images: ``--workers``, ``--ray``, and stores; into a table."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from zeroflaw.cli.output import say
from zeroflaw.cli.progress import bars_shown
from zeroflaw.detectors import Detector, is_folder
from zeroflaw.errors import InputError, UsageError
from zeroflaw.images import limits_of_reading, white_of_reading
from zeroflaw.scale.cluster import Cluster
from zeroflaw.scale.driving import Drive, Engine, Processes
from zeroflaw.scale.items import Item, blocks, find_items, local, without
from zeroflaw.scale.judging import Task, fingerprint, pack
from zeroflaw.scale.store import Store, Table
from zeroflaw.scale.working import Done, giving_up, work

BLOCK = 64  # images that are judged, written, and lost by a kill, at a time
PER_HOUR = 3600.0


@dataclass(frozen=True)
class Bulk:
    """What the options of ``detect`` say about judging very many images.

    Attributes:
        output: folder, or URL of one.
        workers: processes, or blocks at a time on a cluster; None for as many as there are cores.
        ray: address of a Ray cluster, or None.
        table: format of the parts.
        overwrite: whether an earlier run's results may go.
        batch_size, maps, threshold, engine: see `zeroflaw.scale.judging.Task`.
        quiet: say nothing but errors.
    """

    output: str | None
    workers: int | None
    ray: str | None
    table: Table
    overwrite: bool
    batch_size: int
    maps: bool
    threshold: float | None
    engine: str | None
    quiet: bool

    def refuse(self, given: Mapping[str, object]) -> None:
        """Refuse options, by name, that have no meaning here.

        Raises:
            UsageError: one of them was used, or there is no place for the table.
        """
        for name in (name for name, value in given.items() if value):
            raise UsageError(f"--{name} cannot be used on very many images; save a detector with fit first")
        if self.output is None:
            raise UsageError("judging very many images writes a table; say where with -o DIR or URL")


def detect_many(sources: Sequence[str], detector: Detector, name: str, bulk: Bulk) -> tuple[int, int]:
    """Judge everything behind the sources into parts of a table, and say what it cost.

    Images that have a row there are left out, so the same command goes on after a kill.

    Returns:
        How many images are anomalous, and how many could not be judged.

    Raises:
        UsageError: the detector compares photos with one another, or other results lie there.
        ZeroflawError: see `zeroflaw.scale`.
    """
    if detector.needs.whole_batch:
        raise UsageError(f"{detector.name} compares photos with one another; without --workers it can")
    assert bulk.output is not None
    files = _files(detector, name)
    workers = bulk.workers or os.cpu_count() or 1
    task = Task(
        files,
        fingerprint(files),
        engine=bulk.engine,
        batch_size=bulk.batch_size,
        maps=bulk.maps,
        threshold=bulk.threshold,
        white=white_of_reading(),
        limits=limits_of_reading(),
    )
    target = local(bulk.output)
    store = Store(target, bulk.table)
    about = {
        "detector": task.fingerprint,
        "maps": task.maps,
        "threshold": task.threshold,
        "white": task.white,
    }
    done = store.open_run(about, overwrite=bulk.overwrite)
    if done:
        say(f"going on: {len(done):,} images have a row in {bulk.output}", bulk.quiet)
    start = time.perf_counter()
    held = (work, task, target, bulk.table)
    engine: Engine = Cluster(bulk.ray, workers, *held) if bulk.ray else Processes(workers, *held)
    drive: Drive[Item, Done] = Drive(engine, giving_up(task, store))
    every = blocks(find_items([local(source) for source in sources]), BLOCK)
    images = anomalous = unreadable = 0
    seconds = 0.0
    with (
        closing(engine),
        click.progressbar(
            drive.run(without(every, done)),
            label="detect",
            show_eta=False,
            item_show_func=lambda _: f"{images:,} images",
            hidden=not bars_shown(bulk.quiet),
        ) as bar,
    ):
        for found in bar:
            images += found.images
            anomalous += found.anomalous
            unreadable += found.unreadable
            seconds += found.seconds
    if not images and not done:
        raise InputError(f"{sources[0]} holds no images")
    say(_cost(images, time.perf_counter() - start, seconds, workers), bulk.quiet)
    for count, what in ((unreadable, "could not be judged"), (anomalous, "are called anomalous")):
        say(f"{count:,} of them {what}", bulk.quiet or not count)
    say(f"wrote {bulk.output}", bulk.quiet)
    return anomalous, unreadable


def _files(detector: Detector, name: str) -> dict[str, bytes]:
    if is_folder(name):
        return pack(Path(name))
    with tempfile.TemporaryDirectory(prefix="zeroflaw-") as folder:
        saved = Path(folder) / "detector"
        detector.save(saved)
        return pack(saved)


def _cost(images: int, wall: float, seconds: float, workers: int) -> str:
    per_million = seconds / PER_HOUR / max(images, 1) * 1e6
    return (
        f"{images:,} image{'s' * (images != 1)} in {wall:.1f} s with {workers} "
        f"worker{'s' * (workers != 1)}: {images / max(wall, 1e-9):.1f} images a second, "
        f"{seconds / PER_HOUR:.4f} core-hours, {per_million:.1f} for a million"
    )
