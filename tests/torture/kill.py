"""Kill real processes of every verb that writes, at random moments, and see what is left.

    python tests/torture/kill.py --kills 100        # make torture
    python tests/torture/kill.py --kills 9 --seed 5 corrupt fit

After each kill, what was whole before must be whole still, what is there must be usable, and the same command
must go on to the same results, leaving nothing unfinished behind. Signals are SIGKILL, SIGTERM and SIGINT.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroflaw.errors import ZeroflawError
from zeroflaw.runtime.folder import read_folder

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2}}
"""Exit codes after each signal; negative ones where it came before Python could take it."""
RWDA = ("--detector", "rwda", "--set", "n_pairs=3000", "--set", "epochs=3")


@dataclass(frozen=True)
class Verb:
    """One verb: how it is called, what it makes, and how that is compared.

    Attributes:
        arguments: of the command; ``{out}`` is where it writes.
        again: what the same command needs beside them when results are there.
        usable: whether what is there can be used; it must be whenever the folder is there.
        facts: what must be the same in the end.
    """

    arguments: Sequence[str]
    again: Sequence[str]
    usable: Callable[[Path], bool]
    facts: Callable[[Path], object]


class TortureError(AssertionError):
    """Something was lost, half written or stuck."""


def digests(*names: str) -> Callable[[Path], object]:
    """Return what compares files below a folder byte by byte; all of them where none is named."""

    def facts(folder: Path) -> object:
        files = [folder / name for name in names] if names else sorted(folder.rglob("*"))
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.is_file()
        }

    return facts


def results(folder: Path) -> object:
    """Sources and scores, whose last digits differ from run to run."""
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["source"], row["score"]) for row in map(json.loads, lines)]


def same(found: Any, wanted: Any) -> bool:
    """Whether two runs made the same; scores to 1e-6, which no rounding moves over an edge."""
    if isinstance(wanted, list | tuple):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return abs(found - wanted) <= 1e-6 if isinstance(wanted, float) else bool(found == wanted)


def has_results(folder: Path) -> bool:
    """Whether every picture that the rows name is there."""
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return (folder / "report.html").is_file() and all((folder / row["heat_map"]).is_file() for row in rows)


def is_detector(folder: Path) -> bool:
    """Whether a saved detector is whole: every file has the digest that its configuration names."""
    try:
        read_folder(folder)
    except ZeroflawError:
        return False
    return True


def verbs(work: Path) -> dict[str, Verb]:
    """Return the verbs, on samples that are rendered once."""
    samples = work / "samples"
    photos = str(samples / "washer" / "test" / "rusty")
    good = str(samples / "washer" / "test" / "good")
    weights = work / "weights"
    overwrite = ("--overwrite",)
    return {
        "detect": Verb(("detect", photos, "-o", "{out}"), overwrite, has_results, results),
        "detect --together": Verb(
            ("detect", str(samples / "washer"), "--together", "-o", "{out}", "--save-maps"),
            overwrite,
            has_results,
            results,
        ),
        "fit": Verb(
            ("fit", *RWDA, "-o", "{out}"),
            overwrite,
            is_detector,
            digests("words.json"),
        ),
        "fit GOOD": Verb(("fit", good, "-o", "{out}"), overwrite, is_detector, digests("words.json")),
        "calibrate": Verb(
            ("calibrate", "{out}", "--good", good),
            (),
            is_detector,
            lambda folder: json.loads((folder / "calibration.json").read_text())["rule"],
        ),
        "corrupt": Verb(
            ("corrupt", str(samples), "{out}", "--corruption", "brightness", "--severity", "2"),
            overwrite,
            lambda folder: True,
            digests(),
        ),
        "samples": Verb(("samples", "{out}"), overwrite, lambda folder: True, digests()),
        "evaluate": Verb(
            ("evaluate", str(samples), "-o", "{out}"),
            overwrite,
            lambda folder: bool(json.loads((folder / "metrics.json").read_text())),
            lambda folder: sorted(json.loads((folder / "metrics.json").read_text())),
        ),
        "convert": Verb(
            ("convert", str(weights), "{out}"),
            overwrite,
            lambda folder: (folder / "config.json").is_file() and (folder / "model.safetensors").is_file(),
            digests("tokenizer.json"),
        ),
    }


def run(arguments: Sequence[str], out: Path, work: Path) -> subprocess.Popen[bytes]:
    """Start the command in a group of its own, with the signals that a terminal gives it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    program = [sys.executable, "-m", "zeroflaw", *(part.format(out=out) for part in arguments), "-q"]
    environment = {**os.environ, "ZEROFLAW_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def patience() -> float:
    """How many times longer than on a free machine a command may take, by what waits for a processor."""
    return max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))


def finish(arguments: Sequence[str], out: Path, work: Path) -> float:
    """Run the command to its end; returns the seconds it took."""
    begin = time.monotonic()
    process = run(arguments, out, work)
    try:
        _, said = process.communicate(timeout=300 * patience())
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        load = os.getloadavg()[0]
        raise TortureError(f"{' '.join(arguments)} did not end in time, at a load of {load:.1f}") from None
    if process.returncode:
        raise TortureError(f"{' '.join(arguments)} ended with {process.returncode}: {said.decode()}")
    return time.monotonic() - begin


def kill_once(verb: Verb, out: Path, work: Path, number: signal.Signals, wait: float, wanted: object) -> bool:
    """Kill the command after ``wait`` seconds, look at what is left, and run it again.

    Returns whether it was still running.

    Raises:
        TortureError: something was lost, half written or stuck.
    """
    before = out.exists()
    process = run((*verb.arguments, *(verb.again if before else ())), out, work)
    try:
        process.communicate(timeout=wait)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, number)
    try:
        _, said = process.communicate(timeout=60 * patience())
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        load = os.getloadavg()[0]
        raise TortureError(f"stuck for minutes after {number.name}, at a load of {load:.1f}") from None
    killed = process.returncode != 0
    if killed and process.returncode not in CODES[number]:
        raise TortureError(f"exit code {process.returncode} after {number.name}: {said.decode()}")
    if before and not out.exists() and number != signal.SIGKILL:
        raise TortureError(f"{number.name} lost what was there before")
    if out.exists() and not verb.usable(out):
        raise TortureError(f"half written after {number.name}: {sorted(path.name for path in out.iterdir())}")
    finish((*verb.arguments, *(verb.again if out.exists() else ())), out, work)
    if not same(verb.facts(out), wanted):
        raise TortureError(f"other results after {number.name} and the same command again")
    left = [path.name for path in out.parent.iterdir() if path.name.startswith(".")]
    if left:
        raise TortureError(f"unfinished files stay after {number.name} and a whole run: {left}")
    return killed


def prepare(work: Path) -> None:
    """Make what the verbs work on: samples, a detector, weights in another layout."""
    finish(("samples", "{out}"), work / "samples", work)
    finish(("fit", "--detector", "clip", "-o", "{out}"), work / "detector", work)
    mini = Path(__import__("zeroflaw").__file__).parent / "towers" / "mini"
    shutil.copytree(mini, work / "weights")


def torture(
    kills: int, seed: int, chosen: Sequence[str], say: Callable[[str], object] = print
) -> dict[str, int]:
    """Kill ``kills`` processes; returns how many of each verb, and by each signal, were hit while they ran.

    Raises:
        TortureError: something was lost, half written or stuck.
    """
    draw, hit = random.Random(seed), dict[str, int]()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work)
        todo = {name: verb for name, verb in verbs(work).items() if not chosen or name in chosen}
        wanted, seconds = {}, {}
        for name, verb in todo.items():
            out = work / "runs" / name.replace(" ", "_") / "out"
            out.parent.mkdir(parents=True)
            if name == "calibrate":
                shutil.copytree(work / "detector", out)
            seconds[name] = finish(verb.arguments, out, work)
            wanted[name] = verb.facts(out)
        for number in range(kills):
            name = list(todo)[number % len(todo)]
            out = work / "runs" / name.replace(" ", "_") / "out"
            if draw.random() < 0.5 and name != "calibrate":
                shutil.rmtree(out, ignore_errors=True)
            which = SIGNALS[(number // len(todo) + number) % len(SIGNALS)]
            # Late moments are the dangerous ones: half of the waits lie in the last third.
            share = draw.uniform(0.1, 1) if draw.random() < 0.5 else draw.uniform(0.66, 1.02)
            wait = share * seconds[name]
            killed = kill_once(todo[name], out, work, which, wait, wanted[name])
            for what in (name, which.name):
                hit[what] = hit.get(what, 0) + killed
            when = "while it ran" if killed else "too late"
            say(f"{number + 1}/{kills} {name}: {which.name} after {wait:.2f} s, {when}")
    return hit


def main() -> None:
    """Kill, and say how many were hit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("verbs", nargs="*")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    hit = torture(options.kills, options.seed, options.verbs)
    running = sum(hit.get(which.name, 0) for which in SIGNALS)
    print(f"{options.kills} kills, {running} while the command ran ({hit}): nothing lost, none stuck")


if __name__ == "__main__":
    main()
