"""What the service costs beside the detector that it serves, measured at loopback in one run.

    python benchmarks/service.py DETECTOR PHOTOS [--requests 1000]

Prints Markdown: throughput of the bare detector and of the service under load, latencies at some numbers of
clients, memory over many requests. Ratios of one run can be compared between machines; the figures cannot.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import httpx
import numpy as np

from zeroflaw.detectors import load
from zeroflaw.images import find_images

CLIENTS = (1, 8, 32)
BATCH = 8  # pictures of a request, where throughput is measured


def bare(folder: Path, photos: Sequence[bytes], count: int) -> float:
    """Return photos per second of the detector alone, with maps and regions, as the service judges."""
    detector = load(folder)
    for prediction in detector.predict(photos[:BATCH], maps=True):
        prediction.to_dict()
    start = time.perf_counter()
    for prediction in detector.predict(islice(cycle(photos), count), maps=True):
        prediction.to_dict()
    return count / (time.perf_counter() - start)


class Clients:
    """Clients that send one request after the other.

    Args:
        url: of the service.
        photos: encoded.
    """

    def __init__(self, url: str, photos: Sequence[bytes]) -> None:
        self._url, self._photos = url, photos
        self.seconds: list[float] = []
        self.refused = 0

    async def run(self, clients: int, requests: int, pictures: int = 1) -> float:
        """Send requests of so many pictures from so many clients; return photos per second."""
        self.seconds, self.refused = [], 0
        todo = iter(range(requests))
        start = time.perf_counter()
        await asyncio.gather(*(self._client(todo, pictures) for _ in range(clients)))
        return requests * pictures / (time.perf_counter() - start)

    async def _client(self, todo: object, pictures: int) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=300) as client:
            for number in todo:  # type: ignore[attr-defined]
                some = [self._photos[(number * pictures + n) % len(self._photos)] for n in range(pictures)]
                sent = [("files", (f"{n}.png", data)) for n, data in enumerate(some)]
                start = time.perf_counter()
                while (answer := await client.post("/v1/detect", files=sent)).status_code == 429:
                    self.refused += 1
                    await asyncio.sleep(0.05)
                answer.raise_for_status()
                self.seconds.append(time.perf_counter() - start)

    def quantile(self, share: float) -> float:
        """Return a quantile of the seconds of requests."""
        return float(np.quantile(self.seconds, share))


def memory(process: int) -> float:
    """Return the resident MiB of a process."""
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+)", text)
    return 0.0 if found is None else int(found[1]) / 1024


def measure(url: str, process: int, alone: float, photos: Sequence[bytes], requests: int) -> None:
    """Measure a service that runs, and print tables."""
    clients = Clients(url, photos)
    asyncio.run(clients.run(2, 10))
    served = asyncio.run(clients.run(4, max(8, requests // (4 * BATCH)), BATCH))
    print(f"| | photos a second |\n| --- | ---: |\n| detector alone | {alone:.1f} |")
    print(f"| service, 4 clients of {BATCH} photos a request | {served:.1f} |")
    print(f"| ratio | {served / alone:.2f} |\n")
    print("| clients | p50 | p95 | photos a second |\n| ---: | ---: | ---: | ---: |")
    single = 0.0
    for count in CLIENTS:
        rate = asyncio.run(clients.run(count, max(40, requests // 5)))
        middle, high = clients.quantile(0.5), clients.quantile(0.95)
        single = single or high
        times = f"{1000 * middle:.0f} ms | {1000 * high:.0f} ms ({high / single:.1f}x)"
        print(f"| {count} | {times} | {rate:.1f} |")
    before = memory(process)
    asyncio.run(clients.run(4, requests // BATCH, BATCH))
    after = memory(process)
    print(f"\nMemory over {requests} more photos: {before:.0f} MiB before, {after:.0f} MiB after.")


def main() -> None:
    """Start the service and measure it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detector", type=Path)
    parser.add_argument("photos")
    parser.add_argument("--requests", type=int, default=1000)
    options = parser.parse_args()
    photos = [path.read_bytes() for path in find_images([options.photos]).paths[:64]]
    alone = bare(options.detector, photos, max(32, options.requests // 4))
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-m", "zeroflaw", "serve", str(options.detector), "--port", "0"]
        with subprocess.Popen(
            [*program, "--history", folder], stderr=subprocess.PIPE, text=True, env=os.environ
        ) as process:
            assert process.stderr is not None
            said = process.stderr.readline()
            found = re.search(r"http://\S+:\d+", said)
            if found is None:
                raise SystemExit(said)
            try:
                measure(found[0], process.pid, alone, photos, options.requests)
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
