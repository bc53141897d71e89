"""The page of a report in a browser: keyboard, filter, threshold, dark, phone, and no request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from pages import CHROMIUM, until
from zeroflaw.report.page import Page
from zeroflaw.runtime.calibration import Calibration
from zeroflaw.runtime.prediction import Prediction

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")

GOOD = tuple(float(value) for value in np.linspace(-4, 0.99, 19))
SHOWN = ".card:not([hidden])"


def write_report(path: Path, photos: int, *, judged: bool = True) -> Path:
    """Write a report on two products, one photo in five of the first flawed."""
    draw = np.random.default_rng(0)
    calibration = Calibration(detector="x", rule="conformal", threshold=1.0, good=GOOD, schema=1)
    with Page("detector x", calibrations={"": calibration} if judged else {}) as page:
        for number in range(photos):
            logit = 1.5 if number % 5 == 0 else -1.5
            values = draw.random((8, 8)).astype(np.float32)
            made = Prediction("a", float(expit(logit)), logit + number / 1000, {}, (240, 320), map=values)
            if judged:
                made = made.with_threshold(1.0, "19 good photos", map_threshold=0.9)
            image = np.kron(draw.integers(90, 160, (15, 20, 3)), np.ones((16, 16, 1))).astype(np.uint8)
            page.add(f"{number:03}.png", image, made, product="nut" if number < photos * 0.9 else "cap")
        return page.write(path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("report") / "report.html", 100)


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Any]:
    """The page; it may neither ask for anything nor complain."""
    page = browser.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    yield page
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}
    assert said == []
    page.close()


def count(page: Any, product: str) -> str:
    text = page.locator("section.product", has=page.get_by_role("heading", name=product)).locator(".count")
    return str(text.inner_text())


def test_the_worst_ten_of_each_product_come_first_and_the_rest_is_lazy(opened: Any) -> None:
    assert opened.locator(SHOWN).count() == 20
    assert opened.locator("img[src]").count() == 2 * 20
    names = opened.locator(f"section:nth-of-type(2) {SHOWN} h3").all_inner_texts()
    assert names[:2] == ["1. 085.png", "2. 080.png"]
    assert (count(opened, "nut"), count(opened, "cap")) == ("18 of 90 photos flawed", "2 of 10 photos flawed")
    more = opened.locator(".more:visible")
    assert more.inner_text() == "Show 40 more of 80"
    more.click()
    assert opened.locator(SHOWN).count() == 60
    assert opened.evaluate("document.activeElement.closest('.card').dataset.name") == "035.png"
    more.click()
    assert opened.locator(SHOWN).count() == 100
    assert opened.locator(".more:visible").count() == 0


def test_keys(opened: Any) -> None:
    opened.keyboard.press("j")
    opened.keyboard.press("j")
    opened.keyboard.press("j")
    opened.keyboard.press("k")
    assert opened.locator(".card.current").get_attribute("data-name") == "090.png"
    opened.keyboard.press("Enter")
    assert opened.locator("#big").get_attribute("open") is not None
    assert opened.locator("#big img").count() == 2
    opened.keyboard.press("j")
    assert "099.png" in opened.locator("#big .caption").inner_text()
    opened.keyboard.press("Escape")
    assert opened.locator("#big").get_attribute("open") is None
    until(opened, "document.activeElement.closest('.card').dataset.name === '099.png'")
    opened.keyboard.press("j")
    assert opened.locator(".card.current").get_attribute("data-name") == "098.png"
    opened.keyboard.press("f")
    opened.keyboard.type("j07")  # j is a letter here
    assert opened.locator("#filter").input_value() == "j07"
    opened.keyboard.press("Escape")
    opened.keyboard.press("f")
    assert opened.evaluate("document.activeElement.id") == "filter"


def test_filter_and_order(opened: Any) -> None:
    opened.locator("#filter").fill("07")
    assert opened.locator("#found").inner_text() == "11 photos found"  # 070 to 079 and 007
    assert opened.locator(".none:visible").count() == 1
    opened.locator("#verdict").select_option("flawed")
    assert opened.locator(f"{SHOWN} h3").all_inner_texts() == ["3. 075.png", "4. 070.png"]
    opened.locator("#filter").fill("")
    assert opened.locator("#found").inner_text() == "20 photos found"
    opened.locator("#verdict").select_option("")
    opened.locator("#sort").select_option("name")
    names = opened.evaluate(f"[...document.querySelectorAll('{SHOWN}')].map(card => card.dataset.name)")
    assert names == [f"{number:03}.png" for number in (*range(90, 100), *range(10))]
    opened.locator("#sort").select_option("region")
    shares = opened.evaluate(f"[...document.querySelectorAll('{SHOWN}')].map(card => +card.dataset.share)")
    assert shares[10:] == sorted(shares[10:], reverse=True)


def slide(page: Any, value: float) -> float:
    """Move the second slider and return the milliseconds that it took."""
    return float(
        page.evaluate(
            "value => { const slider = document.querySelectorAll('.slider')[1], start = performance.now();"
            " slider.value = value; slider.dispatchEvent(new Event('input'));"
            " document.body.offsetHeight; return performance.now() - start; }",
            value,
        )
    )


def test_the_slider_judges_again_and_says_what_it_would_cost(opened: Any) -> None:
    said = opened.locator(".readout").nth(1)
    assert "on average no more than 5.0 % of good parts do (1 in 20)" in said.inner_text()
    slide(opened, -3)
    assert count(opened, "nut") == "90 of 90 photos flawed"
    assert count(opened, "cap") == "2 of 10 photos flawed"
    above = sum(value >= -3 for value in GOOD)
    assert f"no more than {100 * (1 + above) / 20:.0f} % of good parts" in said.inner_text()
    assert opened.locator("section:nth-of-type(2) .card.flawed").count() == 90
    opened.locator("#verdict").select_option("good")
    assert opened.locator(f"section:nth-of-type(2) {SHOWN}").count() == 0
    opened.locator("#verdict").select_option("")
    opened.get_by_role("button", name="Back to the calibrated threshold").click()
    assert count(opened, "nut") == "18 of 90 photos flawed"
    opened.locator(".slider").nth(1).press("ArrowRight")
    assert "Tried threshold" in said.inner_text()


def test_light_and_dark(opened: Any) -> None:
    def paper() -> str:
        return str(opened.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = paper()
    opened.get_by_role("button", name="Light or dark").click()
    dark = paper()
    assert dark != light
    opened.get_by_role("button", name="Light or dark").click()
    assert paper() == light
    opened.emulate_media(color_scheme="dark")
    assert paper() == light  # what was chosen counts
    opened.reload()
    assert paper() == dark


def test_a_phone_shows_it_without_scrolling_sideways(opened: Any) -> None:
    opened.set_viewport_size({"width": 360, "height": 640})
    assert opened.evaluate("document.documentElement.scrollWidth") == 360
    opened.locator(".open").first.click()
    assert opened.evaluate("document.querySelector('#big').getBoundingClientRect().width") <= 360


def test_everything_has_a_name_and_enough_contrast(opened: Any) -> None:
    unnamed = """[...document.querySelectorAll('button, input, select, img[src], dialog, svg[role]')].filter(
      node => !(node.textContent.trim() || node.ariaLabel || node.alt || node.labels?.length)).length"""
    assert opened.evaluate(unnamed) == 0
    channels = """query => {
      const probe = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
      const rgb = colour => { probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
        return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3); };
      const node = document.querySelector(query), style = getComputedStyle(node);
      const below = getComputedStyle(node.closest('.card, .judge, body'));
      return [rgb(style.color), rgb(below.backgroundColor)]; }"""

    def luminance(rgb: list[int]) -> float:
        share = np.array(rgb) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        for query in (".about", ".facts", ".flawed .verdict", ".good .verdict", ".legend", ".readout", "h3"):
            low, high = sorted(map(luminance, opened.evaluate(channels, query)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, query)


def test_five_hundred_photos_open_and_are_judged_at_once(browser: Any, tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", 500)
    page = browser.new_page()
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.locator(f"{SHOWN} img[src]").first.wait_for()
    assert time.perf_counter() - start < 6  # 0.6 s on an idle machine
    assert min(slide(page, value) for value in (-3, 1.4, -1.2)) < 100
    page.close()


def test_without_a_threshold_one_can_be_tried(browser: Any, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(write_report(tmp_path / "report.html", 20, judged=False).as_uri())
    assert "No threshold yet" in page.locator(".readout").nth(1).inner_text()
    assert count(page, "nut") == "18 photos"
    slide(page, 0.0)
    assert count(page, "nut") == "4 of 18 photos flawed"
    assert "false alarms cannot be foreseen" in page.locator(".readout").nth(1).inner_text()
    page.get_by_role("button", name="Back to the start").click()
    assert page.locator(".verdict").first.inner_text() == "no verdict"
    page.close()
