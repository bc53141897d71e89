"""Every code block of README.md and docs/ is run as it is printed, or says why it is not."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tomllib
import warnings
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("sybil", reason="sybil is not installed")

from documents import (  # needs sybil
    NO_CODE,
    PAGES,
    ROOT,
    RUN,
    WRITTEN,
    Block,
    blocks,
    commands,
    indented,
    shell,
    write_workbench,
)

NOT_RUN = {
    "README.md": 1,
    "docs/anomalyclip.md": 1,
    "docs/api.md": 7,
    "docs/benchmark.md": 2,
    "docs/deploy.md": 4,
    "docs/export.md": 5,
    "docs/howto/saved.md": 1,
    "docs/howto/tools.md": 2,
    "docs/install.md": 2,
    "docs/line.md": 11,
    "docs/maeday.md": 1,
    "docs/measured.md": 1,
    "docs/methods.md": 1,
    "docs/scale.md": 3,
    "docs/weights.md": 1,
    "docs/winclip.md": 1,
}
"""How many blocks of each page are not run; a change that adds one says so here."""

needs_shell = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_workbench(tmp_path_factory.mktemp("workbench"))


@needs_shell
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_a_page_is_run(
    page: Path, workbench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    here = shutil.copytree(workbench, tmp_path / "here")
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(here)  # as a script finds what lies beside it
    monkeypatch.setenv("PATH", f"{here / 'bin'}{os.pathsep}{os.environ['PATH']}")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        with subtests.test(msg=f"{name(page)}, line {block.line}"):
            run_block(block, namespace, page, monkeypatch)


def run_block(
    block: Block, namespace: dict[str, object], page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if block.not_run:
        pytest.skip(f"not run: {block.not_run}")
    if block.needs and importlib.util.find_spec(block.needs) is None:
        pytest.skip(f"{block.needs} is not installed")
    if block.title:
        Path(block.title).parent.mkdir(parents=True, exist_ok=True)
        Path(block.title).write_text(block.source, encoding="utf-8")
    if block.language == "python":
        lines = "\n" * block.line + block.source  # so that a traceback names the line of the page
        with warnings.catch_warnings():
            if block.needs:
                warnings.simplefilter("ignore")  # what another package warns of is not ours
            exec(compile(lines, str(page), "exec"), namespace)  # noqa: S102  # our own page
    elif block.language == "bash":
        for line in commands(block.source):
            shell(line, monkeypatch)
    elif block.language in ("toml", "json"):
        (tomllib.loads if block.language == "toml" else json.loads)(block.source)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_what_it_is(page: Path) -> None:
    assert not indented(page), "use a fence with a language"
    for block in blocks(page):
        known = block.language in RUN | NO_CODE or (block.language in WRITTEN and block.title)
        assert known or block.not_run, f"line {block.line}: '{block.language}' is neither run nor marked"
        assert block.source.strip(), f"line {block.line}: an empty block"


def test_blocks_that_are_not_run_are_counted() -> None:
    found = Counter(name(page) for page in PAGES for block in blocks(page) if block.not_run)
    for page in PAGES:
        for block in blocks(page):
            if block.not_run:
                print(f"{name(page)}, line {block.line}: {block.not_run}")
    assert dict(found) == NOT_RUN
