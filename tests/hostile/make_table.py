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

_LONG = """## Long runs

Each night `tests/fuzz/fuzz.py` changes valid inputs at random at every door for ten minutes, and
`tests/torture/kill.py` kills commands that write at random moments, a hundred times (`make fuzz`, `make
torture`). The last runs by hand, on two busy processors:

| run | inputs or kills | failures |
| --- | ---: | ---: |
| pictures, ten minutes | 5,561 | 0 |
| pictures with DICOM, two minutes | 3,050 | 0 |
| pictures in bands, two minutes | 3,914 | 0 |
| exported towers, ten minutes | 181 | 0 |
| masks; tables; words, ten minutes each | 631,352; 1,061,007; 2,131,255 | 0 |
| grids, 42 seconds | 1,538 | 0 |
| saved detectors; weights, ten minutes each | 72,241; 15,738 | 1; 7 |
| the same after that was mended, 72 seconds each | 29,810; 1,397 | 0 |
| nine commands killed (SIGKILL, SIGTERM) | 41 while they ran | 0 |

The eight failures were one: an unknown key with a bracket in its name. A failure is anything but an answer
or an error in one sentence, more than 2 s of a processor, or more than 300 MiB; after a kill, whatever was
lost, half written, stuck, or different when the same command is given again.
"""


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
    return "\n".join([*parts, _LONG])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
