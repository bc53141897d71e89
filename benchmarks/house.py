"""The house in figures: lines of every room, checks, largest parts, and what each verb imports.

    python benchmarks/house.py                          # this tree
    python benchmarks/house.py BEFORE/src AFTER/src     # a column for each tree of sources

Lines are all lines of ``.py`` files, as ``wc -l`` counts them. What a verb imports is counted in a process of
its own, after it did its work on a picture or a data set that is drawn here.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOMS = ("runtime", "towers", "detectors", "lab", "serve", "scale", "cli", "rest")
# Where the packages of the first edition went.
_MOVED = {"clip": "towers", "mae": "towers", "commands": "cli", "cli.py": "cli", "maps.py": "runtime"}
_MOVED |= dict.fromkeys(
    ("benchmark", "corruptions.py", "datasets", "evaluation", "metrics", "published", "samples"), "lab"
)
_MOVED |= dict.fromkeys(
    (f"words/{n}.py" for n in ("learned", "shift", "shift_measures", "styles")), "detectors"
)

# What is done in a process of its own before its modules are counted.
PROGRAMS = {
    "import zeroflaw": "import zeroflaw",
    "zeroflaw --help": "run('--help')",
    "runtime alone": "import zeroflaw.runtime",
    "open_dataset": "import zeroflaw; zeroflaw.open_dataset('set')",
    "detect": "run('detect', 'set/test/good/0.png', '-q')",
    "fit rwda": "run('fit', '--set', 'n_pairs=20', '--set', 'epochs=1', '-o', 'fitted', '-q')",
    "evaluate": "run('evaluate', 'set', '-q')",
}
_COUNT = """
import json, runpy, sys
from pathlib import Path
def run(*arguments):
    sys.argv = ["zeroflaw", *arguments]
    try:
        runpy.run_module("zeroflaw", run_name="__main__")
    except SystemExit as stop:
        assert not stop.code, stop.code
PROGRAM
found = {name: module.__file__ for name, module in sys.modules.items()
         if name.split(".")[0] == "zeroflaw" and getattr(module, "__file__", None)}
lines = {name: Path(file).read_bytes().count(b"\\n") for name, file in found.items()}
json.dump([lines, "torch" in sys.modules], sys.stderr)
"""


@dataclass(frozen=True)
class Loaded:
    """What a program has imported at its end: lines of each module of the package, and whether torch."""

    lines: dict[str, int]
    torch: bool

    def __str__(self) -> str:
        torch = "" if self.torch else ", no torch"
        return f"{len(self.lines)} files, {sum(self.lines.values()):,} lines{torch}"


def sources(src: Path) -> Iterator[tuple[Path, str]]:
    """Yield every module of the package, its path relative to the package, and its text."""
    package = src / "zeroflaw"
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package), path.read_text(encoding="utf-8")


def room_of(path: Path) -> str:
    """Return the room of a module, "rest" for words, report and what lies at the top."""
    top = _MOVED.get(path.as_posix()) or _MOVED.get(path.parts[0], path.parts[0])
    return top if top in ROOMS else "rest"


def lines_of_rooms(src: Path) -> Counter[str]:
    """Count the lines of every room."""
    found: Counter[str] = Counter()
    for path, text in sources(src):
        found[room_of(path)] += text.count("\n")
    return found


def loaded_by(src: Path, program: str) -> Loaded:
    """Run a program of `PROGRAMS` on a tree of sources, and tell what it imported.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        for kind, grey in (("good", 90), ("flawed", 160)):
            path = Path(folder, "set/test", kind, "0.png")
            path.parent.mkdir(parents=True)
            Image.new("RGB", (64, 64), (grey, grey, grey)).save(path)
        code = _COUNT.replace("PROGRAM", PROGRAMS[program])
        environment = {**os.environ, "PYTHONPATH": str(src.resolve()), "ZEROFLAW_CACHE": folder}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, check=False
        )
    if done.returncode:
        raise RuntimeError(f"'{program}' failed: {done.stderr.decode()[-500:]}")
    lines, torch = json.loads(done.stderr.decode().splitlines()[-1])
    return Loaded(lines, torch)


def _functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def _imports_inside(tree: ast.AST) -> int:
    """Count imports inside functions."""
    functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return len({i for f in functions for i in ast.walk(f) if isinstance(i, ast.Import | ast.ImportFrom)})


def figures(src: Path) -> dict[str, str]:
    """Return the figures of a tree of sources, by what they are."""
    modules = dict(sources(src))
    trees = {path: ast.parse(text) for path, text in modules.items()}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    lengths = {path.as_posix(): text.count("\n") for path, text in modules.items()}
    functions = [(size, f"{path}:{name}") for path, tree in trees.items() for name, size in _functions(tree)]
    sizes, longest = [size for size, _ in functions], max(functions)
    largest = max(lengths, key=lambda path: lengths[path])
    total = sum(lengths.values())
    found = {"lines": f"{total:,}", "files": str(len(modules))}
    rooms = lines_of_rooms(src)
    found |= {f"lines of {room}": f"{rooms[room]:,}" for room in ROOMS}
    raises = sum(isinstance(node, ast.Raise) for node in nodes)
    found["`raise`"] = f"{raises} ({1000 * raises / total:.1f} in 1,000 lines)"
    found["`Any`"] = str(sum(isinstance(node, ast.Name) and node.id == "Any" for node in nodes))
    found["imports inside functions"] = str(sum(map(_imports_inside, trees.values())))
    found["median function"] = f"{statistics.median(sizes):g} lines"
    found["longest function"] = f"{longest[0]} lines ({longest[1]})"
    found["median module"] = f"{statistics.median(lengths.values()):g} lines"
    found["longest module"] = f"{lengths[largest]} lines ({largest})"
    for program in PROGRAMS:
        try:
            found[f"imported: {program}"] = str(loaded_by(src, program))
        except RuntimeError as error:
            found[f"imported: {program}"] = str(error).strip().splitlines()[-1]
    return found


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description="The house in figures.")
    here = Path(__file__).resolve().parents[1] / "src"
    parser.add_argument("trees", nargs="*", type=Path, default=[here], metavar="SRC")
    trees = parser.parse_args().trees
    columns = [figures(tree) for tree in trees]
    print(f"| | {' | '.join(str(tree) for tree in trees)} |\n| --- |{' --- |' * len(trees)}")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(column[name] for column in columns)} |")


if __name__ == "__main__":
    main()
