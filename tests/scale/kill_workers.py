"""Kill workers, or nodes of a Ray cluster, again and again: every image gets one row.

    python tests/scale/kill_workers.py --images 2000 --kills 10                   # processes of this machine
    python tests/scale/kill_workers.py --images 1200 --kills 10 --of ray-workers
    python tests/scale/kill_workers.py --images 300 --kills 10 --of ray-nodes     # ten runs, a node each

The run itself is not killed (`test_scale` does that). Workers are killed in one run, each some time after
another part is there. A node is killed once a run, by SIGKILL of its raylet: at any moment of the run, and
every other time while blocks are judged. A new one takes its place for the next run. The cluster is a head
that takes no work and two nodes of two CPUs each, all on this machine (CPUs of Ray are a number, so two cores
will do).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

NODES, CPUS = 2, 2
GRACE = 60  # seconds until the new node of a cluster has to be there


def photos(folder: Path, count: int) -> Path:
    """Write small pictures, all different."""
    folder.mkdir()
    for number in range(count):
        stream = io.BytesIO()
        draw = np.random.default_rng(number)
        Image.fromarray(draw.integers(0, 256, (48, 48, 3), np.uint8)).save(stream, "PNG")
        (folder / f"{number:06d}.png").write_bytes(stream.getvalue())
    return folder


def processes() -> dict[int, tuple[int, bytes]]:
    """Return parent and command line of all processes, by number."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            facts = (entry / "stat").read_text() if entry.name.isdigit() else ""
            line = (entry / "cmdline").read_bytes() if facts else b""
        except OSError:
            continue  # it has ended
        if facts:
            found[int(entry.name)] = int(facts.rpartition(")")[2].split()[1]), line
    return found


def workers_of(parent: int) -> list[int]:
    """Return the processes that a run started to judge with."""
    return [
        pid for pid, (over, line) in processes().items() if over == parent and line.find(b"spawn_main") >= 0
    ]


def detecting(source: Path, out: Path, workers: int, *more: str) -> subprocess.Popen[str]:
    """Begin a run."""
    command = ["detect", str(source), "-o", str(out), "--workers", str(workers), *more]
    command = [sys.executable, "-m", "zeroflaw", *command]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def check(out: Path, images: int) -> int:
    """Return how many rows there are.

    Raises:
        AssertionError: an image has no row, several, or an error.
    """
    rows = [row for part in out.glob("part-*.parquet") for row in pq.read_table(part).to_pylist()]
    often = Counter(row["source"] for row in rows)
    assert len(often) == images, f"{images - len(often)} images have no row"
    assert set(often.values()) == {1}, f"several rows: {often.most_common(3)}"
    assert not [row for row in rows if row["error"] is not None]
    return len(rows)


def torture(
    work: Path,
    *,
    images: int,
    kills: int,
    workers: int,
    seed: int,
    more: tuple[str, ...] = (),
    victims: Callable[[int], list[int]] = workers_of,
) -> dict[str, object]:
    """Run once over so many images, and kill so many workers; returns what was counted.

    Args:
        work: an empty folder.
        images, kills, workers: how many.
        seed: of moments and victims.
        more: arguments of the run.
        victims: says which processes can be killed, given that of the run.

    Raises:
        AssertionError: see `check`; or the run failed.
    """
    source, out = photos(work / "in", images), work / "out"
    draw, killed = random.Random(seed), 0
    begin = time.monotonic()
    with detecting(source, out, workers, *more) as run:
        parts = 0
        while run.poll() is None and killed < kills:
            there = len(list(out.glob("part-*.parquet")))
            if there > parts and (alive := victims(run.pid)):  # between two kills something gets done
                time.sleep(draw.uniform(0, 0.5))
                try:
                    os.kill(draw.choice(alive), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                parts, killed = there, killed + 1
            time.sleep(0.02)
        _, said = run.communicate()
        assert run.returncode == 0, said
    rows, seconds = check(out, images), round(time.monotonic() - begin, 1)
    return {"images": images, "kills": killed, "rows": rows, "seconds": seconds}


def cluster() -> Any:
    """Begin a cluster."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # else all others go first
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(NODES):
        made.add_node(num_cpus=CPUS)
    made.wait_for_nodes(GRACE)
    return made


def below(top: int) -> list[int]:
    """Return the processes below one, whatever their depth."""
    known = processes()
    found = [pid for pid, (over, _) in known.items() if over == top]
    return found + [deeper for pid in found for deeper in below(pid)]


def busy_workers(_: int) -> list[int]:
    """Return the processes of Ray below this one that judge a block."""
    known = processes()
    return [pid for pid in below(os.getpid()) if known.get(pid, (0, b""))[1].startswith(b"ray::work")]


def torture_nodes(work: Path, *, images: int, kills: int, workers: int, seed: int) -> list[dict[str, object]]:
    """Run so often over so many images, and kill a node each time; returns what was counted of each run.

    A run that fails has to say why in one sentence, and the same command has to finish it.

    Raises:
        AssertionError: see `check`; or a run neither ended well nor said why.
    """
    source, draw, found, last = photos(work / "in", images), random.Random(seed), [], 60.0
    nodes = cluster()
    try:
        for number in range(kills + 1):  # the first is left alone, and says how long a run takes
            out, begin = work / f"out{number}", time.monotonic()
            run = detecting(source, out, workers, "--ray", nodes.address)
            facts: dict[str, object] = {"run": number}
            if number:
                if number % 2:
                    _wait(run, draw.uniform(1, last))
                else:
                    while run.poll() is None and not list(out.glob("part-*")):
                        time.sleep(0.02)
                    _wait(run, draw.uniform(0, 2))
                facts |= {"killed at": round(time.monotonic() - begin, 1), "over": run.poll() is not None}
                facts["parts then"] = len(list(out.glob("part-*")))
                _kill_node(nodes, draw)
            _, said = run.communicate(timeout=1200)
            facts |= {"seconds": round(time.monotonic() - begin, 1), "code": run.returncode, "again": 0}
            if run.returncode != 0:
                assert "Traceback" not in said, said
                assert "zeroflaw: " in said.splitlines()[-1], said
                facts |= {"again": 1, "said": said.splitlines()[-1]}
                again = detecting(source, out, workers, "--ray", nodes.address)
                _, said = again.communicate(timeout=1200)
                assert again.returncode == 0, said
            else:
                last = min(last, time.monotonic() - begin)
            facts["rows"] = check(out, images)
            found.append(facts)
            print(facts, flush=True)
    finally:
        nodes.shutdown()
    return found


def _wait(run: subprocess.Popen[str], seconds: float) -> None:
    """Wait so long, or until the run ends."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(seconds)


def _kill_node(nodes: Any, draw: random.Random) -> None:
    """Kill what makes a node one, and add another."""
    node = draw.choice(sorted(nodes.worker_nodes, key=lambda one: one.node_id))
    (raylet,) = node.all_processes["raylet"]
    os.kill(raylet.process.pid, signal.SIGKILL)
    raylet.process.wait()
    node.kill_all_processes(check_alive=False, allow_graceful=False)  # what is left of it, an agent of logs
    nodes.worker_nodes.remove(node)
    nodes.add_node(num_cpus=CPUS, wait=False)


def main() -> None:
    """Torture, and say what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, usual in {"images": 2000, "kills": 10, "workers": 2, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--of", choices=("processes", "ray-workers", "ray-nodes"), default="processes")
    given = vars(parser.parse_args())
    of = given.pop("of")
    with tempfile.TemporaryDirectory() as folder:
        if of == "ray-nodes":
            torture_nodes(Path(folder), **given)
        elif of == "processes":
            print(torture(Path(folder), **given))
        else:
            nodes = cluster()
            try:
                more = ("--ray", nodes.address)
                print(torture(Path(folder), **given, more=more, victims=busy_workers))
            finally:
                nodes.shutdown()


if __name__ == "__main__":
    main()
