"""``zeroflaw detect`` on very many images: ``--workers``, ``--ray``, and stores; into a table."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from zeroflaw.cli.output import say
from zeroflaw.cli.progress import bars_shown
from zeroflaw.detectors import Detector, is_folder
from zeroflaw.errors import InputError, UsageError
from zeroflaw.images import limits_of_reading, white_of_reading
from zeroflaw.runtime.processors import processor_count
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
        UsageError: the detector compares photos with one another, other results lie there, or another run
            is writing there.
        ZeroflawError: see `zeroflaw.scale`.
    """
    if detector.needs.whole_batch:
        raise UsageError(f"{detector.name} compares photos with one another; without --workers it can")
    assert bulk.output is not None
    files = _files(detector, name)
    workers = bulk.workers or processor_count()
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
    held = (work, task, target, bulk.table)
    every = blocks(find_items([local(source) for source in sources]), BLOCK)
    with store.alone():
        done = store.open_run(task.same(), overwrite=bulk.overwrite)
        if done:
            say(f"going on: {len(done):,} images have a row in {bulk.output}", bulk.quiet)
        engine: Engine = Cluster(bulk.ray, workers, *held) if bulk.ray else Processes(workers, *held)
        drive: Drive[Item, Done] = Drive(engine, giving_up(task, store))
        start = time.perf_counter()
        with closing(engine):
            total = _summed(drive.run(without(every, done)), bulk.quiet)
        wall = time.perf_counter() - start
    if not total.images and not done:
        raise InputError(f"{sources[0]} holds no images")
    if total.images:
        say(_cost(total, wall, workers), bulk.quiet)
    else:
        say("nothing was left to judge", bulk.quiet)
    for count, what in (
        (total.unreadable, "could not be judged"),
        (total.anomalous, "are called anomalous"),
    ):
        say(f"{count:,} of them {what}", bulk.quiet or not count)
    say(f"wrote {bulk.output}", bulk.quiet)
    return total.anomalous, total.unreadable


def _summed(parts: Iterator[Done], quiet: bool) -> Done:
    """Add up what was done, under a bar."""
    total = Done()
    with click.progressbar(
        parts,
        label="detect",
        show_eta=False,
        item_show_func=lambda _: f"{total.images:,} images",
        hidden=not bars_shown(quiet),
    ) as bar:
        for found in bar:
            total += found
    return total


def _files(detector: Detector, name: str) -> dict[str, bytes]:
    if is_folder(name):
        return pack(Path(name))
    with tempfile.TemporaryDirectory(prefix="zeroflaw-") as folder:
        saved = Path(folder) / "detector"
        detector.save(saved)
        return pack(saved)


def _cost(total: Done, wall: float, workers: int) -> str:
    hours = total.seconds / PER_HOUR
    return (
        f"{total.images:,} image{'s' * (total.images != 1)} in {wall:.1f} s with {workers} "
        f"worker{'s' * (workers != 1)}: {total.images / max(wall, 1e-9):.1f} images a second, "
        f"{hours:.4f} core-hours, {hours / total.images * 1e6:.1f} for a million"
    )
