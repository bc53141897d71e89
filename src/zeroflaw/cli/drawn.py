"""The folder that ``zeroflaw detect -o`` writes: rows, a table, pictures, exports, and a page for people."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from typing_extensions import override

from zeroflaw.bands import read_overview
from zeroflaw.cli.output import json_line
from zeroflaw.cli.results import MAPS, MASKS, PAGE, TABLE, Gone, Results, Wanted
from zeroflaw.errors import ImageError
from zeroflaw.finding import RESULTS
from zeroflaw.images import reading, shown
from zeroflaw.report.colours import Pixels
from zeroflaw.report.drawing import scaled, write_png
from zeroflaw.report.exports import Exports
from zeroflaw.report.heatmap import LONGEST, caption, panel
from zeroflaw.report.names import parts, safe_path, shared_folders
from zeroflaw.report.page import Page, Pictures, pictures_of
from zeroflaw.report.tables import COLUMNS, csv_line, table_row
from zeroflaw.runtime.calibration import Calibration
from zeroflaw.runtime.prediction import Prediction

MOST_WAITING = 4  # photos that are being drawn; each is in memory
MOST_KEPT = 24  # photos, as small as they are drawn, between judging and drawing
_SPLITS = ("test", "train")  # folders of a product in data sets


class Drawn(NamedTuple):
    """What was drawn of a photo: files by their keys in its row, and the pictures of its card."""

    files: dict[str, str]
    pictures: Pictures


class Photos:
    """Photos as small as they are drawn, kept from when they were read to be judged.

    What is not there any more is read again, so memory is bounded whatever happens in between.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Pixels] = {}
        self._lock = threading.Lock()

    def keep(self, name: str, image: Pixels) -> None:
        """Keep a photo (H, W, 3) that was read."""
        small = image if max(image.shape) <= LONGEST else scaled(image, LONGEST)
        with self._lock:
            self._kept[name] = small
            while len(self._kept) > MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))

    def take(self, name: str) -> Pixels:
        """Return a photo, small where it was kept, and keep it no longer.

        Raises:
            ImageError: it was not kept, and cannot be read again.
        """
        with self._lock:
            small = self._kept.pop(name, None)
        if small is not None:
            return small
        image = read_overview(name, name=name)
        with self._lock:
            self._kept.pop(name, None)  # reading keeps it, too
        return image


class DrawnResults(Results):
    """Writes a folder: rows as JSON lines and CSV, pictures, a page, exports.

    Pictures are drawn and written by threads, beside the judging of the next photos; rows keep their order.

    Args:
        folder: where everything goes.
        rows: open file for JSON lines.
        table: open file for CSV.
        page: collects the page.
        wanted: what else is written.
        sources: all images of the run.
        photos: what was kept of them.
        gone: called with what was said of a photo, and why it cannot be read again to be drawn.
    """

    def __init__(
        self,
        folder: Path,
        rows: TextIO,
        table: TextIO,
        page: Page,
        wanted: Wanted,
        sources: Sequence[str],
        photos: Photos,
        gone: Gone,
    ) -> None:
        super().__init__(lambda row: rows.write(json_line(row) + "\n"))
        self._folder, self._page, self._table = folder, page, table
        self._table.write(csv_line(COLUMNS))
        self._wanted, self._exports, self._gone = wanted, Exports(folder, wanted.exports), gone
        self._product, self._shared = product_of(sources), shared_folders(sources)
        self._taken: set[str] = set()
        self._photos = photos
        self._maps = self._masks = 0
        self._pool = ThreadPoolExecutor(2)
        self._waiting: deque[Callable[[], object]] = deque()

    @override
    def add(self, prediction: Prediction) -> None:
        names = parts(prediction.source)[self._shared :]
        title, name = shown("/".join(names)), safe_path(names, self._taken)
        job = self._pool.submit(self._draw, prediction, title, name)
        self._later(lambda: self._finished(prediction, title, name, job))

    def _draw(self, prediction: Prediction, title: str, name: str) -> Drawn:
        """Draw and write the pictures of a photo, in a thread."""
        image, line = self._photos.take(prediction.source), prediction.map_threshold
        if prediction.map is None:
            return Drawn({}, pictures_of(image, prediction))
        found = {"heat_map": f"{MAPS}/{name}.png"}
        drawn = panel(image, prediction.map, threshold=line)
        score, label = prediction.score, prediction.label
        whole = caption(drawn, threshold=line, score=score, label=label, title=title)
        write_png(self._place(found["heat_map"]), whole)
        if self._wanted.save_maps:
            found["map"] = f"{MAPS}/{name}.npy"
            np.save(self._place(found["map"]), prediction.resized_map())
        if line is not None:
            found["mask"] = f"{MASKS}/{name}.png"
            write_png(self._place(found["mask"]), np.where(prediction.mask(), 255, 0).astype(np.uint8))
        return Drawn(found, pictures_of(image, prediction, drawn))

    def _finished(self, prediction: Prediction, title: str, name: str, job: Future[Drawn]) -> None:
        """Write the row of a photo whose pictures are drawn."""
        try:
            drawn = job.result()
        except ImageError as error:
            self._gone(prediction, error)
            self._refused({"source": prediction.source, "error": error.reason})
            return
        row = prediction.to_dict() | drawn.files
        self._maps += "heat_map" in drawn.files
        self._masks += "mask" in drawn.files
        self._exports.add(prediction, name)
        if "yolo" in self._wanted.exports:
            row["labels"] = f"labels/{name}.txt"
        product = shown(self._product(prediction.source))
        self._page.add(title.removeprefix(f"{product}/"), drawn.pictures, prediction, product=product)
        self._table.write(csv_line(table_row(prediction).values()))
        super().write(row)

    def _later(self, finish: Callable[[], object] | None = None) -> None:
        """Let ``finish`` wait for its turn, and finish what waits longest; everything without it."""
        if finish is not None:
            self._waiting.append(finish)
        while len(self._waiting) > (0 if finish is None else MOST_WAITING):
            self._waiting.popleft()()

    @override
    def write(self, row: dict[str, Any]) -> None:
        """Write what is said of an image that could not be judged."""
        self._later(lambda: self._refused(row))

    def _refused(self, row: dict[str, Any]) -> None:
        self._table.write(csv_line(row.get(column) for column in COLUMNS))
        self._page.refuse(shown("/".join(parts(row["source"])[self._shared :])), str(row["error"]))
        super().write(row)

    @override
    def finish(self, target: Path | None, *, alarm: str | None = None) -> list[str]:
        self._later()
        target = target or self._folder
        self._page.alarm = alarm
        self._page.write(self._folder / PAGE)
        said = [shown(target / name) for name in (PAGE, RESULTS, TABLE)]
        for what, count, place in (("heat map", self._maps, MAPS), ("mask", self._masks, MASKS)):
            said += [f"{count} {what}{'s' * (count != 1)} in {shown(target / place)}"] * bool(count)
        return said + [shown(target / name) for name in self._exports.finish()]

    def close(self) -> None:
        """Let go of the threads; what they were about to draw is not drawn."""
        self._pool.shutdown(cancel_futures=True)

    def _place(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def product_of(sources: Sequence[str]) -> Callable[[str], str]:
    """Return what tells the product of a source: the first folder that not all sources share.

    Where all lie in a folder of one product ("bottle/test/..."), or side by side, it is one product: "".
    """
    shared = shared_folders(sources)
    common = parts(sources[0])[:shared] if sources else []
    if common and common[-1] in _SPLITS:
        return lambda source: ""
    return lambda source: parts(source)[shared] if len(parts(source)) > shared + 1 else ""


@contextmanager
def open_folder(
    folder: Path,
    sources: Sequence[Path],
    about: str,
    calibrations: Mapping[str, Calibration] | None,
    wanted: Wanted,
    gone: Gone,
    *,
    keep: bool,
) -> Iterator[DrawnResults]:
    """Open a fresh folder for results; arguments of `zeroflaw.cli.results.open_results`."""
    photos = Photos()
    with ExitStack() as stack:
        if keep:
            stack.enter_context(reading(on_picture=photos.keep))
        page = stack.enter_context(Page(about, calibrations=calibrations))
        rows = stack.enter_context((folder / RESULTS).open("w", encoding="utf-8"))
        table = stack.enter_context((folder / TABLE).open("w", encoding="utf-8", newline=""))
        names = list(map(str, sources))
        yield stack.enter_context(
            closing(DrawnResults(folder, rows, table, page, wanted, names, photos, gone))
        )
