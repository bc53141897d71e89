"""Install a wheel into empty environments, and run the lines of README.md there as they are printed.

    python tests/install.py [WHEEL] [--python PYTHON ...] [--extra EXTRA]

Without a wheel one is built; a source distribution will do, too. Without a Python it is the one that runs
this. It takes the network, for what the wheel needs, and a minute for each Python.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from documents import RUN, blocks, commands, write_photos

ROOT = Path(__file__).parents[1]
WORDS = "zeroflaw fit --object bolt --set n_pairs=100 --set epochs=1 -o bolt-detector -q"
"""What the extra ``fit`` is for, in short."""


def main(arguments: list[str]) -> None:
    """Install and run for each Python; an error ends the program.

    Raises:
        CalledProcessError: a line of the README does not end as it should.
    """
    parser = argparse.ArgumentParser(description="The lines of README.md in empty environments.")
    parser.add_argument("wheel", nargs="?", type=Path)
    parser.add_argument("--python", action="append", help="an interpreter; may be given several times")
    parser.add_argument("--extra", default="", help="an extra of zeroflaw, or several with commas between")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        built = given.wheel or next(WheelBuilder(str(ROOT)).build(directory=name, versions=["standard"]))
        for number, python in enumerate(given.python or [sys.executable]):
            one = place / str(number)
            one.mkdir()
            try_out(Path(built).resolve(), python, given.extra, one)


def try_out(wheel: Path, python: str, extra: str, place: Path) -> None:
    """Make an environment below a folder, install, and run the README's lines in another folder there."""
    began = time.monotonic()
    # Nothing of this checkout, and nothing that was set for it.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    subprocess.run([python, "-m", "venv", str(place / "env")], env=clean, check=True)
    programs = place / "env" / ("Scripts" if os.name == "nt" else "bin")
    clean |= {"PATH": f"{programs}{os.pathsep}{clean['PATH']}", "ZEROFLAW_CACHE": str(place / "cache")}
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, f"{wheel}[{extra}]" if extra else str(wheel)], env=clean, check=True)
    installed = time.monotonic()
    here = place / "here"
    here.mkdir()
    write_photos(here)
    for block in blocks(ROOT / "README.md"):
        if block.language in RUN and not block.not_run:
            for line in [block.source] if block.language == "python" else commands(block.source):
                run(line, block.language, here, clean)
    if "fit" in extra.split(","):
        run(WORDS, "bash", here, clean)
    size = sum(path.lstat().st_size for path in (place / "env").rglob("*") if not path.is_dir())
    seconds = (installed - began, time.monotonic() - installed)
    print(f"{python}: {size / 1e6:.0f} MB, installed in {seconds[0]:.0f} s, run in {seconds[1]:.0f} s")


def run(text: str, language: str, here: Path, environment: dict[str, str]) -> None:
    """Run a line of shell or a block of Python; a flawed part ends a line with 1 where it says so."""
    print(f"$ {text}", flush=True)
    program = ["bash", "-c", text] if language == "bash" else ["python", "-c", text]
    code = subprocess.run(program, cwd=here, env=environment, check=False).returncode
    if code != int("--fail-on-anomaly" in text):
        raise subprocess.CalledProcessError(code, program)


if __name__ == "__main__":
    main(sys.argv[1:])
