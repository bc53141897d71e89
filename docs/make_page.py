"""Make docs/page.png: rendered gears judged by a service, as its page shows them in a browser.

    python docs/make_page.py [--chromium /usr/bin/chromium]

It needs the extras serve and test. The gears, the detector and the history are made in a folder that is gone
afterwards.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import FilePayload, sync_playwright

PICTURE = Path(__file__).with_name("page.png")
GOOD_SEEDS, JUDGED_SEEDS = (1, 2, 3, 4), (0, 5)
PHOTOS = "gear/test/*/*.png"


def zeroflaw(*arguments: str) -> list[str]:
    """Return the command line of a verb."""
    return [sys.executable, "-m", "zeroflaw", *arguments]


def gears(folder: Path) -> tuple[Path, dict[str, bytes]]:
    """Fit a detector from rendered good gears; return its folder, and other gears to judge by their names."""
    good = folder / "good"
    good.mkdir()
    for seed in (*GOOD_SEEDS, *JUDGED_SEEDS):
        subprocess.run(zeroflaw("samples", str(folder / f"{seed}"), "--seed", f"{seed}", "-q"), check=True)
    for seed in GOOD_SEEDS:
        for path in (folder / f"{seed}").glob("gear/test/good/*.png"):
            (good / f"{seed}-{path.name}").write_bytes(path.read_bytes())
    detector = folder / "gears"
    subprocess.run(zeroflaw("fit", str(good), "-o", str(detector), "-q"), check=True)
    photos = [path for seed in JUDGED_SEEDS for path in sorted((folder / f"{seed}").glob(PHOTOS))]
    # Kinds are mixed; those with fewer photos, the flawed ones, come last and are seen first.
    photos.sort(key=lambda path: (path.stem, path.parts[-4], path.parent.name), reverse=True)
    return detector, {f"gear {number:03}.png": path.read_bytes() for number, path in enumerate(photos, 1)}


def payload(name: str, data: bytes) -> FilePayload:
    """Return a picture as a browser takes it."""
    return {"name": name, "mimeType": "image/png", "buffer": data}


def shoot(address: str, photos: dict[str, bytes], chromium: str) -> bytes:
    """Return the page as PNG after it has judged photos."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.goto(address)
        page.locator("#link[data-state=live]").wait_for()
        page.locator("#files").set_input_files([payload(*photo) for photo in photos.items()])
        page.locator("#summary", has_text=f"{len(photos)} photos judged").wait_for(timeout=120_000)
        away = page.get_by_role("button", name="Put away")  # more flaws here than any line has
        while away.count():
            away.first.click()
        page.wait_for_timeout(1500)  # thumbnails
        found = page.screenshot()
        browser.close()
    return found


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        detector, photos = gears(folder)
        serve = zeroflaw("serve", f"gears={detector}", "--port", "0", "--history", str(folder / "history"))
        with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as service:
            assert service.stdout is not None
            try:
                said = service.stdout.readline()
                address = re.search(r"http://\S+", said)
                if address is None:
                    raise SystemExit(f"the service did not start: {said}")
                picture = shoot(address[0], photos, options.chromium)
            finally:
                service.terminate()
    # A third of the bytes, and no difference to the eye; rare colours, those of outlines, are kept.
    small = (
        Image.open(io.BytesIO(picture))
        .convert("RGB")
        .quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    small.save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
