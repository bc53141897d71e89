"""Time and memory of the pixel metrics: a thousand maps of 256 x 256, half of them with a defect.

    python benchmarks/metrics.py           # prints one line of JSON

It loads no network. Memory is the largest resident set of the process, the maps themselves included one at a
time; Linux only.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zeroflaw.lab.metrics import PixelMetrics


def made_up(number: int, side: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a map of random values and a mask; in the mask of odd numbers values are higher."""
    values = np.random.default_rng(number).random((side, side), dtype=np.float32)
    mask = np.zeros((side, side), dtype=bool)
    if number % 2:
        mask[side // 6 : side // 3, side // 4 : side // 2] = True
        values[mask] = np.sqrt(values[mask])
    return values, mask


def largest_set() -> int:
    """Return the largest resident set in KiB (getrusage would count what the parent had before exec)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Measure, and print seconds and MiB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=int, default=1000)
    parser.add_argument("--side", type=int, default=256)
    arguments = parser.parse_args()
    metrics, spent = PixelMetrics(), 0.0
    for number in range(arguments.maps):
        values, mask = made_up(number, arguments.side)
        start = time.perf_counter()
        metrics.update(values, mask)
        spent += time.perf_counter() - start
    start = time.perf_counter()
    result = metrics.result()
    spent += time.perf_counter() - start
    found = {"maps": arguments.maps, "seconds": round(spent, 2), "mib": round(largest_set() / 1024)}
    print(json.dumps({**found, "pixel_auroc": result.pixel_auroc.value, "pixel_pro": result.pixel_pro.value}))


if __name__ == "__main__":
    main()
