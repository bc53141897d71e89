"""Install a wheel into an empty environment, and run the lines of README.md there as they are printed.

    python tests/install.py [WHEEL]

Without a wheel one is built. It takes the network, for what the wheel needs, and a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from documents import RUN, blocks, commands, write_photos

ROOT = Path(__file__).parents[1]


def main(wheel: Path | None) -> None:
    """Install and run; an error ends the program.

    Raises:
        CalledProcessError: a line of the README does not end as it should.
    """
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        built = wheel or Path(next(WheelBuilder(str(ROOT)).build(directory=name, versions=["standard"])))
        venv.create(place / "env", with_pip=True)
        programs = place / "env" / ("Scripts" if os.name == "nt" else "bin")
        # Nothing of this checkout, and nothing that was set for it.
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        clean |= {"PATH": f"{programs}{os.pathsep}{clean['PATH']}", "ZEROFLAW_CACHE": str(place / "cache")}
        pip = [
            str(programs / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "-c",
            str(ROOT / "constraints.txt"),
        ]
        subprocess.run([*pip, str(built)], env=clean, check=True)
        here = place / "here"
        here.mkdir()
        write_photos(here)
        for block in blocks(ROOT / "README.md"):
            if block.language in RUN and not block.not_run:
                for line in [block.source] if block.language == "python" else commands(block.source):
                    run(line, block.language, here, clean)


def run(text: str, language: str, here: Path, environment: dict[str, str]) -> None:
    """Run a line of shell or a block of Python; a flawed part ends a line with 1 where it says so."""
    print(f"$ {text}", flush=True)
    if language == "bash" and "-o results" in text:
        text += " --overwrite"  # two lines name one folder: either of them is meant
    program = ["bash", "-c", text] if language == "bash" else ["python", "-c", text]
    code = subprocess.run(program, cwd=here, env=environment, check=False).returncode
    if code != int("--fail-on-anomaly" in text):
        raise subprocess.CalledProcessError(code, program)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
