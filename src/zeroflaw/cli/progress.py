"""Progress bars; they are drawn on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from zeroflaw.runtime.stream import Progress


def bars_shown(quiet: bool) -> bool:
    """Whether progress bars make sense: stderr is a terminal."""
    return sys.stderr.isatty() and not quiet


@contextmanager
def fit_bar(quiet: bool) -> Iterator[Progress]:
    """Yield a progress callback that draws one bar per stage of a fit, each with its remaining time."""
    bars: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = tqdm(total=total, desc=stage, disable=not bars_shown(quiet), file=sys.stderr)
        bars[stage].update(done - bars[stage].n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


def with_bar(*, total: int | None, title: str, quiet: bool) -> Any:
    """Return a progress bar of images, drawn when stderr is a terminal; ``total`` None is unknown."""
    return tqdm(total=total, desc=title, unit="image", disable=not bars_shown(quiet), file=sys.stderr)
