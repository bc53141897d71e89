"""An exported detector gives its answers in Python without zeroflaw, in Node, and in a browser."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeroflaw
from pictures import png16
from zeroflaw.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples"
MODULES = EXAMPLES / "node" / "node_modules"
CHROMIUM = Path("/usr/bin/chromium")
needs_modules = pytest.mark.skipif(
    not MODULES.is_dir() or shutil.which("node") is None,
    reason="run 'npm install --ignore-scripts' in examples/node, with Node installed",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples beside an exported detector, as their README says."""
    root = tmp_path_factory.mktemp("examples")
    for part in ("python", "browser", "check.mjs"):
        (root / part).symlink_to(EXAMPLES / part)
    (root / "node").symlink_to(EXAMPLES / "node")
    with pytest.raises(SystemExit) as left:
        main(["export", "rwda", "-o", str(root / "graph"), "--with-resize", "--quiet"])
    assert left.value.code == 0
    return root


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    small = np.random.default_rng(5).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(small).resize((400, 300)).save(path)
    return path


def judged_alone(served: Path, photo: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-I", str(served / "python" / "judge.py"), str(served / "graph"), str(photo)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def test_python_without_zeroflaw(served: Path, photo: Path) -> None:
    done = judged_alone(served, photo)
    assert done.returncode == 0, done.stderr
    assert "answers differ by at most" in done.stderr
    found = json.loads(done.stdout)
    assert found["logit"] == pytest.approx(zeroflaw.detect(photo).logit, abs=1e-3)  # type: ignore[union-attr]


def turned(photo: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(path, exif=exif)


def deep_grey(photo: Image.Image, times: int) -> Image.Image:
    return Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * times)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("turned.jpg", turned),
        ("palette.png", lambda photo, path: photo.quantize(64).save(path)),
        ("grey.png", lambda photo, path: photo.convert("L").save(path)),
        ("cmyk.jpg", lambda photo, path: photo.convert("CMYK").save(path)),
        ("10-bits.png", lambda photo, path: deep_grey(photo, 4).save(path)),
        ("12-bits.tif", lambda photo, path: deep_grey(photo, 16).save(path)),
        ("10-bit-rgb.png", lambda photo, path: path.write_bytes(png16(np.asarray(photo, np.uint16) * 4))),
        ("alpha.png", lambda photo, path: photo.convert("RGBA").save(path)),
        ("one-colour.png", lambda photo, path: photo.save(path, transparency=(0, 0, 0))),
    ],
)
def test_python_refuses_what_it_would_read_otherwise(
    name: str, save: Callable[[Image.Image, Path], object], served: Path, photo: Path, tmp_path: Path
) -> None:
    save(Image.open(photo), path := tmp_path / name)
    done = judged_alone(served, path)
    if name in ("turned.jpg", "palette.png", "grey.png", "cmyk.jpg"):
        logit = zeroflaw.detect(path).logit  # type: ignore[union-attr]
        assert json.loads(done.stdout)["logit"] == pytest.approx(logit, abs=1e-3)
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{path}: this program would read it otherwise than zeroflaw does" in done.stderr


@needs_modules
def test_node(served: Path) -> None:
    # Through its own path, not the link's: Node looks for modules beside the file itself.
    program = ["node", str(EXAMPLES / "node" / "judge.mjs"), str(served / "graph")]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "answers differ by at most" in done.stdout


@pytest.fixture(scope="module")
def address(served: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    handler.extensions_map = {**handler.func.extensions_map, ".mjs": "text/javascript"}  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@needs_modules
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")
def test_a_page_judges_a_photo_and_asks_no_other_host(address: str, photo: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}browser/index.html")
        page.get_by_text("Ready. Test pictures").wait_for(timeout=60_000)
        page.set_input_files("#photo", str(photo))
        page.get_by_text("photo.png: log-odds").wait_for(timeout=60_000)
        said = page.text_content("#said")
        assert page.locator("figure").is_visible()
        browser.close()
    logit = float(said.rpartition(" ")[2])
    assert logit == pytest.approx(zeroflaw.detect(photo).logit, abs=0.3)  # type: ignore[union-attr]
    assert all(url.startswith((address, "blob:")) for url in asked)
