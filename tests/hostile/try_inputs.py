"""Tries all inputs in a process of limited memory, and prints what each got as a line of JSON.

python tests/hostile/try_inputs.py FOLDER
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile.inputs import BLOB, INPUTS, MEBIBYTES
from zeroflaw.errors import ZeroflawError
from zeroflaw.files import read_json, read_toml
from zeroflaw.images import find_images, read_picture
from zeroflaw.lab.datasets import open_dataset
from zeroflaw.masks import open_mask


def read_data(path: Path) -> Sequence[str]:
    (read_toml if path.suffix == ".toml" else read_json)(path, 1 << 20, "file")
    return ()


def read_folder(path: Path) -> Sequence[str]:
    found = find_images(str(path))
    return [
        f"{len(part)} {name}" for part, name in ((found.masks, "masks"), (found.results, "results")) if part
    ]


DOORS: dict[str, Callable[[Path], Sequence[str]]] = {
    "images": lambda path: read_picture(path).notes,
    "masks": lambda path: open_mask(path, (BLOB.shape[0], BLOB.shape[1])).notes,
    "tables": lambda path: [said for category in open_dataset(path, "csv") for said in category.problems],
    "folders": read_folder,
    "JSON and TOML": read_data,
}


def main(folder: Path) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = taken + (MEBIBYTES << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number, one in enumerate(INPUTS):
        place = folder / str(number)
        place.mkdir()
        path = one.plant(place)
        refused, notes = None, list[str]()
        start = time.process_time()
        try:
            notes = list(DOORS[one.door](path))
        except ZeroflawError as error:
            refused = str(error)
        print(json.dumps({"seconds": time.process_time() - start, "refused": refused, "notes": notes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
