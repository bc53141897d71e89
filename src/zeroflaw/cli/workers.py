"""``--workers`` of ``evaluate`` and ``benchmark``: processes that look at images."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import click

from zeroflaw.detectors import Detector
from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.lab.evaluation.away import Numbered, job_of, judge_part, lost
from zeroflaw.lab.evaluation.counting import Part
from zeroflaw.lab.evaluation.judging import Pass, Spread
from zeroflaw.records import Record
from zeroflaw.runtime.processors import processor_count
from zeroflaw.scale.driving import Drive, Processes

BLOCK = 32  # images that are looked at, and lost by a kill, at a time

workers_option = click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Let N processes look at the images (none: this one does); detectors that compare all images with "
    "one another, mutual and acr, stay in this one.",
)


class _Workers:
    """Processes, and folders from which they open detectors."""

    def __init__(self, engine: Processes, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        self._saved: dict[int, tuple[Detector, Path]] = {}
        self._count = 0

    def takes(self, detector: Detector) -> bool:
        """Whether a detector judges each image alone, and another process can load it: it is one of ours."""
        ours = isinstance(detector, BackboneDetector) and type(detector).__module__.startswith("zeroflaw.")
        return ours and not detector.needs.whole_batch

    def parts(self, records: Sequence[Record], one: Pass) -> Iterator[Part]:
        """Yield what workers find, in the order of the images.

        Raises:
            ZeroflawError: see `zeroflaw.lab.evaluation.judging.evaluate_category`; or workers died again and
                again.
        """
        folders = self._save([mine.named.detector for mine in one.away if mine.named.detector is not None])
        job = job_of(one, folders, max(1, processor_count() // self._engine.workers))
        drive: Drive[Numbered, tuple[int, Part]] = Drive(
            self._engine, functools.partial(lost, job=job), (job,)
        )
        waiting: dict[int, Part] = {}
        following = 0
        for first, part in drive.run(self._blocks(records, one.batch_size)):
            waiting[first] = part
            while following in waiting:
                part = waiting.pop(following)
                following += part.images
                yield part

    def _blocks(self, records: Sequence[Record], batch: int) -> Iterator[tuple[Numbered, ...]]:
        """Cut images into whole batches, enough of them that each worker has some."""
        share = min(BLOCK, -(-len(records) // self._engine.workers))
        size = max(1, share // batch) * batch
        numbered = tuple(enumerate(records))
        yield from (numbered[start : start + size] for start in range(0, len(numbered), size))

    def _save(self, detectors: Sequence[Detector]) -> tuple[str, ...]:
        """Return folders of saved detectors; those of earlier passes that are not used again are removed."""
        for key in set(self._saved) - set(map(id, detectors)):
            shutil.rmtree(self._saved.pop(key)[1])
        for detector in detectors:
            if id(detector) not in self._saved:
                self._count += 1
                folder = self._folder / f"{self._count}"
                detector.save(folder)
                self._saved[id(detector)] = detector, folder
        return tuple(str(self._saved[id(detector)][1]) for detector in detectors)


@contextmanager
def spreading(workers: int | None) -> Iterator[Spread | None]:
    """Begin processes, and end them; None where there are to be none."""
    if workers is None:
        yield None
        return
    with (
        closing(Processes(workers, judge_part)) as engine,
        tempfile.TemporaryDirectory(prefix="zeroflaw-") as folder,
    ):
        yield _Workers(engine, Path(folder))
