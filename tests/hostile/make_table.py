"""Writes docs/security.md: what strangers may hand in, and what each input gets.

python tests/hostile/make_table.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
sys.path.insert(0, str(ROOT / "tests"))

from hostile.inputs import INPUTS, MEBIBYTES, SECONDS  # noqa: E402

_HEAD = (
    "# What strangers may hand in\n\n"
    "This page is written by `python tests/hostile/make_table.py`. The tests make every input below anew,\n"
    "hand it to its door in a process of its own, and fail where one gets something else, takes more than\n"
    f"{SECONDS} s of a processor, or more than {MEBIBYTES} MiB of memory.\n"
    "`SECURITY.md` in the repository says what is defended against.\n"
)


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    doors = dict.fromkeys(one.door for one in INPUTS)
    counts = [
        "| door | inputs | refused | taken, with a note | taken |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for door in doors:
        got = [one.gets for one in INPUTS if one.door == door]
        numbers = [len(got), *(got.count(word) for word in ("refused", "taken, with a note", "taken"))]
        counts.append(f"| {door} | {' | '.join(map(str, numbers))} |")
    parts.append("\n".join(counts) + "\n")
    for door in doors:
        rows = [
            f"| {one.name.replace('*', chr(92) + '*')} | {one.gets} |" for one in INPUTS if one.door == door
        ]
        title = f"{door[0].upper()}{door[1:]}"
        parts.append(
            "\n".join([f"## {title}", "", "| input | what it gets |", "| --- | --- |", *rows]) + "\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
