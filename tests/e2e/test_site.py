"""The site: every page is in it, no link leads nowhere, and it asks no other host for anything."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import inspect
import re
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import zeroflaw
from pages import CHROMIUM
from zeroflaw.cli.main import VERBS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
needs_zensical = pytest.mark.skipif(
    importlib.util.find_spec("zensical") is None,
    reason="zensical is not installed; it comes with the extra docs",
)


def module(name: str) -> ModuleType:
    """Import a script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def make_site() -> ModuleType:
    return module("make_site")


def pages(nav: list[Any]) -> Iterator[str]:
    for item in nav:
        for value in item.values():
            yield from [value] if isinstance(value, str) else pages(value)


def test_every_page_has_a_place_in_the_menu() -> None:
    listed = list(pages(tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]))
    assert len(set(listed)) == len(listed)
    written = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert set(listed) == written | {"reference/python.md", "reference/command.md"}


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *DOCS.rglob("*.md")], ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        there = (page.parent / target).resolve()
        made = there.parent == DOCS / "reference" and there.name in ("python.md", "command.md")
        assert made or there.exists(), target
        if page.is_relative_to(DOCS):
            assert there.is_relative_to(DOCS), f"{target} leaves docs/, which the site does not have"


def test_the_reference_has_every_public_name(make_site: ModuleType) -> None:
    text = make_site.python_page()
    public = {name for name in zeroflaw.__all__ if not name.startswith("_")}
    assert not {name for name in public if f"\n### {name}\n" not in text}
    assert "returns a new, unfitted detector" in text  # of a docstring's arguments
    assert re.search(r"\| `false_alarms` \| .* \| `0.05` \| share of good parts", text)
    assert "`words_weight` | `float` ≥ 0, ≤ 100 | `0.2`" in text
    assert re.search(r"### WeightsError\n\nA kind of `ZeroflawError`; the command ends with 4\.", text)
    assert not re.search(r"<class|Annotated\[|FieldInfo|\bArgs:|\bRaises:", text)


def test_the_reference_has_every_option(make_site: ModuleType) -> None:
    text = make_site.command_page()
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == list(VERBS)
    assert "| `--fail-on-anomaly` | Exit with 1 if any image is anomalous" in text
    assert text.count("--help`") >= len(VERBS)


def test_docstrings_become_markdown(make_site: ModuleType) -> None:
    def made(first: int = 1, *, second: str = "a", **others: Any) -> str:
        """Do ``this`` with <that>, *all* of it.

        Args:
            first: a number, which
                goes on.
            second, third: texts.

        Returns:
            What was made.

        Raises:
            UsageError: `first` is wrong.
        """
        return ""

    said = make_site.described(inspect.getdoc(made))
    assert said.startswith("Do `this` with &lt;that&gt;, \\*all\\* of it.\n\n**Args**\n\n")
    assert "\n- `first`: a number, which goes on.\n" in said
    assert "- `second, third`: texts." in said
    assert "**Returns**\n\nWhat was made.\n\n**Raises**\n\n- `UsageError`: `first` is wrong.\n" in said
    assert make_site.signature("made", made) == (
        "```python\nmade(first: int = 1, *, second: str = 'a', **others: Any) -> str\n```\n"
    )


def test_the_pictures_of_the_gallery_are_small_and_of_today() -> None:
    make_gallery = module("make_gallery")
    shown = set(re.findall(r"\(gallery/(\w+)\.jpg\)", (DOCS / "gallery.md").read_text("utf-8")))
    pictures = sorted((DOCS / "gallery").iterdir())
    assert {picture.stem for picture in pictures} == shown == set(make_gallery.PRODUCTS)
    assert sum(picture.stat().st_size for picture in pictures) < 600_000
    with make_gallery.Image.open(DOCS / "gallery" / "capsule.jpg") as known:
        kept, drawn = (np.asarray(picture, float) for picture in (known, make_gallery.strip("capsule")))
    assert np.abs(kept - drawn).mean() < 4  # grey levels, most of them of the JPEG


# The built site ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(make_site: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site in a folder of its own; the build ends where a link leads nowhere."""
    root = tmp_path_factory.mktemp("site")
    make_site.main(root)
    return root / "build" / "site"


@needs_zensical
def test_the_site_is_built(site: Path) -> None:
    assert {"index.html", "first-day.html", "howto", "reference"} <= {path.name for path in site.iterdir()}
    assert not list(site.rglob("*.py"))
    for name, shown in (("command", "--detector NAME|DIR"), ("python", "float | None")):
        page = (site / "reference" / f"{name}.html").read_text("utf-8")
        assert f"<code>{shown}</code>" in page
        assert "\\|" not in page  # a stroke in code needs no backslash before it


@needs_zensical
def test_a_dead_link_ends_the_build(
    make_site: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_dead_link(folder: Path) -> None:
        write(folder)
        (folder / "index.md").write_text("# x\n\n[dead](nowhere.md)\n")

    write = make_site.write_pages
    monkeypatch.setattr(make_site, "write_pages", with_dead_link)
    with pytest.raises(make_site.subprocess.CalledProcessError):
        make_site.main(tmp_path)


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@needs_zensical
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")
def test_pages_ask_no_other_host_and_are_found_by_search(served: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    asked: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for name in ("index", "first-day", "methods", "gallery", "howto/script", "reference/python"):
            page.goto(f"{served}{name}.html", wait_until="networkidle")
            assert page.locator("h1").first.is_visible()
        page.keyboard.press("/")
        page.keyboard.type("conformal", delay=20)
        page.get_by_role("link", name=re.compile("Scores, verdicts")).last.wait_for(timeout=20_000)
        browser.close()
    assert len(asked) > 6
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}


@needs_zensical
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")
def test_pages_fit_a_phone_and_are_dark_where_the_system_is(served: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        for name in ("index", "results", "comparison", "datasets", "gallery", "reference/command"):
            page.goto(f"{served}{name}.html", wait_until="load")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        red, green, blue = re.findall(
            r"[\d.]+", page.evaluate("getComputedStyle(document.body).backgroundColor")
        )[:3]
        browser.close()
    assert max(float(red), float(green), float(blue)) < 60
