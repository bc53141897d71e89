"""What is released: tag, version and changelog agree, and the source distribution can run its own tests."""

from __future__ import annotations

import ast
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import zeroflaw

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
HEADING = re.compile(r"^## \[([^]]+)](?: - (\d{4}-\d\d-\d\d))?$", re.MULTILINE)


def faults(version: str, changelog: str, tag: str | None) -> Iterator[str]:
    """Yield what does not agree; ``tag`` is None where no release is being made."""
    sections = HEADING.findall(changelog)
    dated = {name: date for name, date in sections if name != "Unreleased"}
    if not VERSION.fullmatch(version):
        yield f"'{version}' is no version"
    if not sections or sections[0][0] != "Unreleased":
        yield "the changelog does not begin with [Unreleased]"
    if not all(dated.values()):
        yield "a version in the changelog has no date"
    if sorted(dated, key=_numbers, reverse=True) != list(dated):
        yield "the versions in the changelog are not in order"
    if any(_numbers(name) > _numbers(version) for name in dated):
        yield f"the changelog knows a version after {version}"
    if tag is not None and tag != f"v{version}":
        yield f"the tag is {tag}, the version {version}"
    if tag is not None and version not in dated:
        yield f"the changelog has no section [{version}]"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def test_tag_version_and_changelog_agree() -> None:
    tag = os.environ.get("GITHUB_REF_NAME") if os.environ.get("GITHUB_REF_TYPE") == "tag" else None
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert not list(faults(zeroflaw.__version__, changelog, tag))


def test_the_citation_has_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {zeroflaw.__version__}\n" in citation


def test_what_the_paper_cites_is_in_its_list() -> None:
    cited = re.findall(r"@(\w+\d{4}\w+)", (ROOT / "paper" / "paper.md").read_text(encoding="utf-8"))
    listed = re.findall(r"^@\w+\{(\w+),$", (ROOT / "paper" / "paper.bib").read_text(encoding="utf-8"), re.M)
    assert sorted(set(cited)) == sorted(listed)


@pytest.mark.parametrize(
    ("version", "changelog", "tag", "says"),
    [
        ("1.2", "## [Unreleased]", None, "no version"),
        ("1.2.0", "", None, "does not begin"),
        ("1.2.0", "## [1.2.0] - 2025-01-02", None, "does not begin"),
        ("1.2.0", "## [Unreleased]\n## [1.2.0]", None, "no date"),
        ("1.2.0", "## [Unreleased]\n## [1.1.0] - 2025-01-02\n## [1.2.0] - 2025-01-03", None, "in order"),
        ("1.2.0", "## [Unreleased]\n## [1.10.0] - 2025-01-02", None, "after 1.2.0"),
        ("1.2.0", "## [Unreleased]\n## [1.2.0] - 2025-01-02", "v1.2.1", "the tag is v1.2.1"),
        ("1.2.0", "## [Unreleased]\n## [1.1.0] - 2025-01-02", "v1.2.0", r"no section [1.2.0]"),
    ],
)
def test_each_fault_is_seen(version: str, changelog: str, tag: str | None, says: str) -> None:
    (found,) = faults(version, changelog, tag)
    assert says in found


# The source distribution ------------------------------------------------------------------------------------


def wanted() -> set[str]:
    """Files, relative to the root, that the tests read or import from this tree."""
    found = {path.relative_to(ROOT).as_posix() for path in _files(ROOT / "tests")}
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for parts in re.findall(r"(?:__file__\)\.parents\[2\]|\bROOT)((?: / \"[^\"]+\")+)", text):
            found.add("/".join(re.findall(r"\"([^\"]+)\"", parts)))
        for name in _imported(ast.parse(text)):
            module = ROOT / name.replace(".", "/")
            if (ROOT / name.split(".")[0]).is_dir():
                module = module if module.is_dir() else module.with_suffix(".py")
                found.add(module.relative_to(ROOT).as_posix())
    return found


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_the_source_distribution_has_what_its_tests_need() -> None:
    included = [*PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"], "pyproject.toml"]
    lacking = [name for name in wanted() if not any(f"{name}/".startswith(f"{top}/") for top in included)]
    assert not lacking
    assert {"training/pairs.py", "benchmarks/metrics.py", "docs/datasets.md", "CHANGELOG.md"} <= wanted()


def test_the_builder_takes_these_files() -> None:
    sdist = pytest.importorskip("hatchling.builders.sdist")
    taken = {file.distribution_path for file in sdist.SdistBuilder(str(ROOT)).recurse_included_files()}
    assert not {name for name in wanted() if (ROOT / name).is_file()} - taken - {"pyproject.toml"}
    assert "src/zeroflaw/py.typed" in taken
    assert not any(".venv" in name or "training/work" in name for name in taken)


# Builds that can be repeated --------------------------------------------------------------------------------


def built(root: Path, folder: Path) -> dict[str, bytes]:
    """Build wheel and source distribution of a tree, and return them."""
    for kind in ("wheel", "sdist"):
        module = pytest.importorskip(f"hatchling.builders.{kind}")
        builder = getattr(module, f"{kind.capitalize()}Builder")(str(root))
        list(builder.build(directory=str(folder), versions=["standard"]))
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_two_builds_are_equal_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one of a copy whose files are younger, at another place."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    copy = tmp_path / "elsewhere"
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    left_out = shutil.ignore_patterns("__pycache__", "node_modules", "work", "found", "graph")
    for name in [*included, "pyproject.toml", ".gitignore"]:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=left_out, copy_function=shutil.copy)
        elif (ROOT / name).exists():  # a source distribution has no .gitignore
            shutil.copy(ROOT / name, copy / name)
    one, two = (built(root, tmp_path / name) for root, name in ((ROOT, "one"), (copy, "two")))
    assert sorted(one) == [
        f"zeroflaw-{zeroflaw.__version__}{end}" for end in ("-py3-none-any.whl", ".tar.gz")
    ]
    assert one == two
