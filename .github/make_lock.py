"""Write requirements-lock.txt: every package that zeroflaw itself needs, with its version and its SHA-256.

    python .github/make_lock.py            # under CPython 3.11 on Linux x86-64, whose wheels it names
    pip install --require-hashes -r requirements-lock.txt

Versions are those of constraints.txt. Packages of extras are not in it: torch comes in a build for each kind
of processor, of one version and with different hashes.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements-lock.txt"


def locked() -> list[str]:
    """Return a line for each package that pip would install, by name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ("--dry-run", "--ignore-installed", "--only-binary=:all:", "--quiet")
        pins = ("--constraint", ROOT / "constraints.txt", "--report", report)
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *pins, ROOT], check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    lines = []
    for package in found:
        if "archive_info" in package["download_info"]:  # all but zeroflaw itself, which is a folder here
            digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
            said = package["metadata"]
            lines.append(f"{said['name'].lower()}=={said['version']} --hash=sha256:{digest}")
    return sorted(lines)


def main() -> None:
    """Write the file."""
    where = (sys.version_info[:2], sys.platform, platform.machine())
    if where != ((3, 11), "linux", "x86_64"):
        sys.exit(f"the lock is for CPython 3.11 on Linux x86-64, and this is {where}; run it there")
    LOCK.write_text(
        "# CPython 3.11, Linux x86-64; written by .github/make_lock.py\n" + "\n".join(locked()) + "\n"
    )


if __name__ == "__main__":
    main()
