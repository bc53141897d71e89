"""Work on a block of stores: judge it and write its part.

A worker writes the part of its block itself. So a block that is judged twice, because a worker died after
writing, leaves one part; and what is done after a kill is what the store holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zeroflaw.scale.items import Block
from zeroflaw.scale.judging import Task, failed, judge
from zeroflaw.scale.store import Store, Table


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one block, or of several.

    Attributes:
        images: how many rows it has.
        anomalous, unreadable: how many of them are called anomalous, have an error.
        seconds: processor time that a worker spent on it.
    """

    images: int = 0
    anomalous: int = 0
    unreadable: int = 0
    seconds: float = 0.0

    def __add__(self, other: Done) -> Done:
        return Done(
            self.images + other.images,
            self.anomalous + other.anomalous,
            self.unreadable + other.unreadable,
            self.seconds + other.seconds,
        )


def work(block: Block, task: Task, url: str, table: Table) -> Done:
    """Judge a block and write its part; what a worker does."""
    start = time.process_time()
    rows = judge(block, task)
    Store(url, table).write(block, rows)
    return _count(rows, time.process_time() - start)


def _count(rows: list[dict[str, Any]], seconds: float) -> Done:
    anomalous = sum(bool(row.get("label")) for row in rows)
    return Done(len(rows), anomalous, sum("error" in row for row in rows), seconds)


def giving_up(task: Task, store: Store) -> Callable[[Block, str], Done]:
    """Return what writes the rows of images that no worker survives."""

    def give_up(block: Block, why: str) -> Done:
        rows = failed(block, task, why)
        store.write(block, rows)
        return _count(rows, 0.0)

    return give_up
