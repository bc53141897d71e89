"""How many processors a process may use, and work that is shared out among them.

Products of matrices are shared out by photo and by row here, not inside of them: threads of a BLAS wait for
one another by spinning, which costs most where other programs want the processors, too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of processor in a period, or "max"

_limit: int | None = None


def limit_threads(count: int | None) -> None:
    """Let what is computed from now on use at most ``count`` threads; None is one a processor."""
    global _limit
    _limit = count


def thread_limit() -> int | None:
    """Return what `limit_threads` was given last."""
    return _limit


def processor_count() -> int:
    """Return how many processors this process may use, by its container and `limit_threads`, too."""
    if _limit is not None:
        return _limit
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(count, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # there is no container, or none with a limit
        return count


def each(function: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Return what a function makes of each part, in order, by as many threads as there are processors."""
    threads = min(len(parts), processor_count())
    if threads < 2:
        return [function(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, parts))
