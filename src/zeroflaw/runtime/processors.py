"""How many processors a process may use, and work that is shared out among them.

Products of matrices are shared out by photo and by row here, not inside of them: threads of a BLAS wait for
one another by spinning, which costs most where other programs want the processors, too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_GROUPS = Path("/sys/fs/cgroup")  # of containers and services, which may have a share of the processors
_OWN = Path("/proc/self/cgroup")

_limit: int | None = None


def limit_threads(count: int | None) -> None:
    """Let what is computed from now on use at most ``count`` threads; None is one a processor."""
    global _limit
    _limit = count


def thread_limit() -> int | None:
    """Return what `limit_threads` was given last."""
    return _limit


def processor_count() -> int:
    """Return how many processors this process may use, by its container, service and `limit_threads`, too."""
    if _limit is not None:
        return _limit
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, _share(_OWN, _GROUPS))))


@cache  # it is asked for with every photo
def _share(said: Path, groups: Path) -> float:
    """Return the narrowest limit of the groups that this process is in, in processors; most groups have none.

    Linux has two generations of groups: one file "quota period" of microseconds, or a file for each.
    """
    narrowest = math.inf
    for line in _lines(said):
        _, names, path = line.split(":", 2)
        if not names:
            place, files = groups, ["cpu.max"]
        elif "cpu" in names.split(","):
            place, files = groups / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        own = place / path.strip("/")  # seen from inside of a container, it may not be there
        for group in (own, *(parent for parent in own.parents if parent.is_relative_to(place))):
            limit = " ".join(line for name in files for line in _lines(group / name)).split()
            if len(limit) == 2 and all(map(str.isdecimal, limit)) and int(limit[1]):
                narrowest = min(narrowest, int(limit[0]) / int(limit[1]))
    return narrowest


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # there is no such group, or this system has none
        return []


def each(function: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Return what a function makes of each part, in order, by as many threads as there are processors."""
    threads = min(len(parts), processor_count())
    if threads < 2:
        return [function(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, parts))
