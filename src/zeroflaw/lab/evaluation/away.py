"""A pass over some images of a category in a process that has nothing but folders of saved detectors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zeroflaw.decoding import Limits
from zeroflaw.detectors import Detector, load
from zeroflaw.images import limits_of_reading, reading, white_of_reading
from zeroflaw.records import Category, Record
from zeroflaw.runtime.processors import limit_threads

from .counting import Accumulator, NamedDetector, Part
from .judging import Corruption, Pass
from .rows import writable

Numbered = tuple[int, Record]


@dataclass(frozen=True)
class Job:
    """What is the same for all blocks of a pass, small enough to be sent with each.

    Attributes:
        category: without its images.
        detectors: without the detectors themselves.
        folders: where those are saved.
        threads: of a network, in a worker.
        corruption, batch_size, keep_going, maps, white: see `Pass`.
        level, limits: how pictures are read; see `zeroflaw.reading`.
    """

    category: Category
    detectors: tuple[NamedDetector, ...]
    folders: tuple[str, ...]
    threads: int
    corruption: Corruption | None
    batch_size: int
    keep_going: bool
    maps: bool | None
    white: float | None
    level: float | None
    limits: Limits


def job_of(one: Pass, folders: tuple[str, ...], threads: int) -> Job:
    """Return what others need to know of a pass, whose detectors that go away are saved in folders."""
    return Job(
        replace(one.category, train=(), test=()),
        tuple(replace(mine.named, detector=None) for mine in one.away),
        folders,
        threads,
        one.corruption,
        one.batch_size,
        one.keep_going,
        one.maps,
        one.white,
        white_of_reading(),
        limits_of_reading(),
    )


def judge_part(block: tuple[Numbered, ...], job: Job) -> tuple[int, Part]:
    """Look at numbered images; returns the number of the first, and what was found.

    Raises:
        ZeroflawError: see `zeroflaw.lab.evaluation.judging.evaluate_category`.
    """
    detectors = [
        replace(named, detector=_opened(folder, job))
        for named, folder in zip(job.detectors, job.folders, strict=True)
    ]
    settings = (job.corruption, job.batch_size, None, job.keep_going, job.maps, job.white)
    one = Pass(job.category, detectors, *settings)
    with reading(white=job.level, limits=job.limits):
        one.run([record for _, record in block])
    return block[0][0], one.part(len(block))


def lost(block: tuple[Numbered, ...], why: str, job: Job) -> tuple[int, Part]:
    """Return what is said of images that no worker came to the end of."""
    said = [f"{writable(record.key)}: {why}" for _, record in block]
    return block[0][0], Part([Accumulator(named, None) for named in job.detectors], said, images=len(block))


_open: dict[str, Detector] = {}  # of this process: those of the pass at work


def _opened(folder: str, job: Job) -> Detector:
    if folder not in _open:
        for other in set(_open) - set(job.folders):  # memories of photos are large
            del _open[other]
        limit_threads(job.threads)
        _open[folder] = load(folder)
    return _open[folder]
