"""The code blocks of the documents: what they say is run as it is printed, in a folder of rendered photos.

A block of ``python`` or ``bash`` is run, one of ``toml``, ``json`` or ``csv`` with ``title="NAME"`` is
written to that file, one of ``text`` is no code. Any other block, and one that cannot run here, has a line
before it that says why: ``<!-- not run: REASON -->``, or ``<!-- needs: PACKAGE -->`` where it runs if that
package is installed.
"""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from sybil import Document, Region, Sybil
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from command import run
from zeroflaw.lab.samples import render

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN, WRITTEN, NO_CODE = {"python", "bash"}, {"toml", "json", "csv"}, {"text"}
_INFO = re.compile(r"(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?[ \t]*\n")
_MARK = re.compile(r"<!-- (?P<kind>not run|needs): (?P<said>[^>]+) -->\s*\Z")
_SHORTER = {
    "rwda": ("n_pairs=100", "epochs=1"),
    "promptstyler": ("n_styles=2", "style_iterations=2", "epochs=1"),
    "shift-words": ("n_diversity=4", "n_distribution=2", "steps=2", "epochs=1"),
    "anomalyclip": ("epochs=1",),
    "acr": ("iterations=2", "tasks=2"),
}
"""Settings that are added to fits, which else take minutes."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        line: where it begins, from 1.
        language: what stands behind the fence.
        title: the file that it is, or "".
        source: the text.
        not_run: why it is not run, or "".
        needs: the package without which it is not run, or "".
    """

    line: int
    language: str
    title: str
    source: str
    not_run: str = ""
    needs: str = ""


def blocks(page: Path) -> list[Block]:
    """Return all blocks of a page, in their order."""
    found: list[Block] = []

    def parse(document: Document) -> Iterator[Region]:
        for region in RawFencedCodeBlockLexer(_INFO)(document):
            mark = _MARK.search(document.text[: region.start])
            said = {} if mark is None else {mark["kind"]: mark["said"].strip()}
            lexemes = region.lexemes
            found.append(
                Block(
                    line=document.text.count("\n", 0, region.start) + 1,
                    language=lexemes["language"],
                    title=lexemes["title"] or "",
                    source=str(lexemes["source"]),
                    not_run=said.get("not run", ""),
                    needs=said.get("needs", ""),
                )
            )
            yield region

    Sybil([parse]).parse(page)
    return found


def indented(page: Path) -> list[int]:
    """Return the lines at which indented blocks begin, which nothing says what they are."""
    fences = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
    lines = fences.sub(lambda fence: "\n" * fence[0].count("\n"), page.read_text("utf-8")).split("\n")
    return [n for n, line in enumerate(lines, 1) if re.match(r" {4,}[^\s*\-\d]", line) and not lines[n - 2]]


# The folder ------------------------------------------------------------------------------------------------


def write_photos(root: Path) -> None:
    """Write the photos and data sets that the documents speak of, all rendered and small."""

    def write(name: str, flaw: str | None, count: int, seed: int, product: str = "cloth") -> None:
        for index in range(count):
            path = root / f"{name}{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(render(product, flaw, seed=seed, index=index)[0]).resize((160, 160)).save(path)

    write("good/", None, 6, 0)
    write("good-of-next-week/", None, 8, 3)
    for folder, seed in (("photos", 1), ("line", 2), ("sorted", 4)):
        write(f"{folder}/good/", None, 6 if folder == "sorted" else 4, seed)
        for flaw in ("stained", "torn"):
            write(f"{folder}/{flaw}/", flaw, 2, seed)
    for product in ("cloth", "washer"):
        write(f"data/{product}/test/good/", None, 4, 5, product)
        for flaw in {"cloth": ("stained",), "washer": ("dented",)}[product]:
            for index in range(3):
                picture, mask = render(product, flaw, seed=5, index=index)
                for pixels, place in ((picture, "test/{}/{}.png"), (mask, "ground_truth/{}/{}_mask.png")):
                    path = root / "data" / product / place.format(flaw, index)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).resize((160, 160)).save(path)
        write(f"other-products/{product}/", None, 4, 6, product)
    for name, source in (("a", "photos/torn/0"), ("b", "photos/good/0")):
        shutil.copy(root / f"{source}.png", root / f"{name}.png")
    shutil.copytree(root / "good", root / "good-photos")


def write_workbench(root: Path) -> Path:
    """Write photos, a detector made of them, and the command as a program."""
    write_photos(root)
    program = root / "bin" / "zeroflaw"  # for what no test can run in its own process
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zeroflaw "$@"\n')
    program.chmod(0o755)
    assert run("fit", root / "good", "-o", root / "my-product", "-q") == 0
    return root


# The command -----------------------------------------------------------------------------------------------


def commands(source: str) -> Iterator[str]:
    """Yield the lines of a block of shell, without comments; one that ends in a backslash goes on."""
    for line in source.replace("\\\n", " ").splitlines():
        if bare := re.sub(r"(^|\s+)#\s.*$", "", line).strip():
            yield bare


def shell(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a line in the current folder and expect it to end well: with 1 where an anomaly makes it fail.

    What is written with ``-o`` is new: an alternative on the next line may name the same folder.
    """
    expected = int("--fail-on-anomaly" in line and "||" not in line)
    before, pipe, last = line.rpartition(" | ")
    words = shlex.split(last)
    plain = words[0] == "zeroflaw" and not re.search(r"[;&>|$]", last)
    if plain:
        if pipe:
            named = subprocess.run(["bash", "-c", before], stdout=subprocess.PIPE, check=True).stdout
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(named)))
        arguments = [*words[1:], *_shorter(words[1:])]
        _forget(arguments)
        code = run(*arguments)
    else:
        code = subprocess.run(["bash", "-c", line], check=False).returncode
    assert code == expected, f"'{line}' ended with {code}, not with {expected}"


def _forget(arguments: list[str]) -> None:
    if "-o" in arguments:
        place = arguments[arguments.index("-o") + 1]
        shutil.rmtree(place, ignore_errors=True)


def _shorter(arguments: list[str]) -> list[str]:
    if arguments[0] != "fit":
        return []
    named = "--detector" in arguments
    words = {"--object", "--anomalous", "--words"} & set(arguments)
    name = arguments[arguments.index("--detector") + 1] if named else "rwda" if words else ""
    return [part for setting in _SHORTER.get(name, ()) for part in ("--set", setting)]
