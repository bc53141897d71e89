"""The page of the service in a browser, against a small service that speaks its routes."""

from __future__ import annotations

import dataclasses
import datetime
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from fake_service import POLICY, Fake, Running, photo, problem  # noqa: E402

from pages import CHROMIUM, until  # noqa: E402
from zeroflaw.finding import EXTENSIONS  # noqa: E402

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")
SHOWN = ".card:not([hidden], .ghost)"
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>.png"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def service() -> Iterator[Running]:
    """A service that has judged twelve photos, every third of them flawed."""
    fake = Fake()
    for number in range(12):
        logit = 3.0 + number / 10 if number % 3 == 0 else -2.0 + number / 10
        fake.add(f"part {number:02}.png", photo(logit, seed=number), ago=60 * (12 - number))
    running = Running(fake)
    yield running
    if running.thread.is_alive():
        running.stop()


@pytest.fixture
def opened(browser: Any, service: Running) -> Iterator[Any]:
    page, check = watched(browser, service)
    page.locator(SHOWN).nth(11).wait_for()
    yield page
    check()


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a service is that was started elsewhere."""

    url: str


def watched(
    browser: Any, service: Running | Address, path: str = "", *, quiet: bool = True, **context: Any
) -> Any:
    """Open the page; return it, and what checks that it asked no other host and did not complain."""
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(10_000)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.goto(service.url + path)

    def check() -> None:
        assert asked
        assert not [url for url in asked if not url.startswith((service.url, "blob:", "data:"))]
        # The browser notes each refusal by itself.
        refused = "Failed to load resource" if not quiet else "status of 429"
        assert not [text for text in said if refused not in text]
        assert page.title() == "zeroflaw"  # no markup that came as a name was run
        page.context.close()

    return page, check


def names(page: Any) -> list[str]:
    return [str(text) for text in page.locator(f"{SHOWN} .name").all_text_contents()]


def verdicts(page: Any) -> list[str]:
    return [str(text) for text in page.locator(f"{SHOWN} .word").all_text_contents()]


def drop(page: Any, files: dict[str, bytes]) -> None:
    """Drop files on the middle of the page."""
    given = [{"name": name, "bytes": list(data)} for name, data in files.items()]
    page.evaluate(
        """files => {
          const transfer = new DataTransfer();
          for (const { name, bytes } of files) {
            const type = name.endsWith(".txt") ? "text/plain" : "image/png";
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
          }
          for (const kind of ["dragenter", "dragover", "drop"]) {
            const event = new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
            document.querySelector("main").dispatchEvent(event);
          }
        }""",
        given,
    )


def slide(page: Any, value: float) -> float:
    """Move the slider and return the milliseconds until everything is laid out anew."""
    return float(
        page.evaluate(
            "value => { const slider = document.querySelector('#slider'), start = performance.now();"
            " slider.value = value; slider.dispatchEvent(new Event('input', { bubbles: true }));"
            " document.body.offsetHeight; return performance.now() - start; }",
            value,
        )
    )


# Judging ----------------------------------------------------------------------------------------------------


def test_dropped_photos_are_judged_in_small_batches_and_shown(opened: Any, service: Running) -> None:
    files = {f"new {number:02}.png": photo(2.0 if number == 3 else -1.0, seed=number) for number in range(11)}
    drop(opened, {**files, "list.txt": b"no picture"})
    opened.locator("#summary", has_text="11 photos judged, 1 flawed.").wait_for()
    assert "1 file is no picture" in opened.locator("#toast").inner_text()
    assert sum(service.fake.batches) == 11
    assert max(service.fake.batches) <= 8
    assert opened.locator(SHOWN).count() == 23
    assert "new 03.png" in names(opened)
    opened.locator("#latest .stage[data-verdict=good]").wait_for()
    # Heard by those who do not see it: the sum, since many came at once.
    until(opened, "document.querySelector('#live').textContent.includes('photos judged')")


def test_one_photo_is_called_large_and_aloud(opened: Any) -> None:
    opened.locator("#files").set_input_files(
        {"name": "bolt.png", "mimeType": "image/png", "buffer": photo(4.0)}
    )
    stage = opened.locator("#latest .stage")
    stage.locator(".name", has_text="bolt.png").wait_for()
    assert stage.locator(".word").inner_text() == "Flawed"
    assert stage.locator(".plate use").get_attribute("href") == "#icon-flawed"
    assert stage.locator(".facts").inner_text() == "score 0.982 · threshold 0.731"
    assert stage.locator("rect").count() == 2  # casing and outline of its region
    until(opened, "document.querySelector('#live').textContent.startsWith('Flawed: bolt.png')")


def test_pasted_photos_get_a_name(opened: Any) -> None:
    opened.evaluate(
        """bytes => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
        }""",
        list(photo(0.0)),
    )
    opened.locator("#latest .name", has_text="pasted 20").wait_for()


def test_a_busy_service_is_asked_again_when_it_says_so(opened: Any, service: Running) -> None:
    service.fake.refusals = [problem(429, "Too Many Requests", "The queue is full.", Retry_After="1")]
    start = time.monotonic()
    drop(opened, {"a.png": photo(1.0), "b.png": photo(2.0)})
    opened.locator("#progress .count", has_text="The service is busy").wait_for()
    opened.locator("#summary", has_text="2 photos judged").wait_for()
    assert time.monotonic() - start >= 1
    assert service.fake.batches == [1, 1]  # half as many as were refused


def test_what_cannot_be_judged_is_said_with_its_reason(browser: Any, service: Running) -> None:
    page, check = watched(browser, service, quiet=False)
    drop(page, {"a.png": photo(1.5), "torn.png": b"not a picture", "c.png": photo(-1.0)})
    page.locator("#summary", has_text="2 photos judged, 1 flawed.").wait_for()
    failed = page.locator("#failures li")
    assert failed.all_inner_texts() == ["torn.png\nThis is not a picture that can be read."]
    drop(page, {"alone.png": b"nothing, either"})
    page.locator("#failures summary", has_text="2 photos not judged").wait_for()
    service.fake.refusals = [problem(413, "Too Large", "A request may have 64 MiB, send fewer photos.")]
    drop(page, {"d.png": photo(0.5, seed=1), "e.png": photo(0.6, seed=2)})  # each alone then
    page.locator("#summary", has_text="2 photos judged, 0 flawed.").wait_for()
    page.get_by_role("button", name="Clear this list").click()
    assert failed.count() == 0
    check()


def test_the_rest_of_a_long_queue_can_be_dropped(opened: Any, service: Running) -> None:
    busy = problem(429, "Too Many Requests", "The queue is full.", Retry_After="60")
    service.fake.refusals = [busy, busy]
    drop(opened, {f"{number}.png": photo(0.0, seed=number) for number in range(20)})
    opened.locator("#progress .count", has_text="The service is busy").wait_for()
    opened.get_by_role("button", name="Cancel").click()
    assert not opened.locator("#progress").is_visible()
    service.fake.refusals = []
    drop(opened, {"after.png": photo(0.0)})
    opened.locator("#summary", has_text="1 photo judged").wait_for()
    assert names(opened)[0] == "after.png"


def test_rows_of_other_senders_come_by_themselves(opened: Any, service: Running) -> None:
    import httpx

    sent = {"files": ("line.png", photo(5.0), "image/png")}
    httpx.post(f"{service.url}v1/detect", files=sent).raise_for_status()
    opened.locator("#latest .name", has_text="line.png").wait_for()
    assert names(opened)[0] == "line.png"
    assert opened.locator("#total").inner_text() == "13 photos, 5 flawed"


def test_it_works_on_the_service_itself(browser: Any, tmp_path: Path) -> None:
    serving = pytest.importorskip("serving", reason="the service is not in this tree")
    with serving.on_socket(tmp_path) as port:
        page, check = watched(browser, Address(f"http://127.0.0.1:{port}/"))
        page.locator("#latest .invite").wait_for()
        drop(page, {f"{number}.png": serving.photo(number - 4, seed=number) for number in range(6)})
        page.locator("#summary", has_text="6 photos judged").wait_for()
        until(page, "document.querySelector('.card img').naturalWidth > 0")
        assert names(page) == [f"{number}.png" for number in range(5, -1, -1)]
        flawed = verdicts(page).count("Flawed")
        page.keyboard.press("j")
        page.keyboard.press("g")
        page.locator("#toast", has_text="Said to be good: 5.png").wait_for()
        page.keyboard.press("Enter")
        page.locator("#detail[open] .heat").wait_for()
        until(page, "document.querySelector('#detail .photo').naturalWidth > 0")
        page.keyboard.press("Escape")
        slide(page, -10)
        assert page.locator("#total").inner_text() == "6 photos, 6 flawed"
        page.get_by_role("button", name="Back to the detector’s threshold").click()
        assert verdicts(page).count("Flawed") == flawed
        page.get_by_role("radio", name="Corrected", exact=True).check()
        until(page, "document.querySelectorAll('.card').length === 1")
        check()


# The threshold ----------------------------------------------------------------------------------------------


def test_the_slider_judges_again_and_says_what_it_costs(opened: Any) -> None:
    assert opened.locator("#total").inner_text() == "12 photos, 4 flawed"
    assert "1 false alarm in 20" in opened.locator("#threshold .promise").inner_text()
    said = opened.locator("#threshold .readout")
    assert "on average no more than 5.0 % of good parts do (1 in 20)" in said.inner_text()
    slide(opened, -10)
    assert opened.locator("#total").inner_text() == "12 photos, 12 flawed"
    assert "Tried threshold" in said.inner_text()
    assert opened.locator("#latest .word").inner_text() == "Flawed"
    assert "by the tried threshold" in opened.locator("#latest .said").inner_text()
    opened.get_by_role("radio", name="Good", exact=True).check()
    opened.locator("#none", has_text="No photo is as the filter wants it").wait_for()
    opened.get_by_role("button", name="Show all photos").click()
    opened.get_by_role("button", name="Back to the detector’s threshold").click()
    assert opened.locator("#total").inner_text() == "12 photos, 4 flawed"
    opened.locator("#slider").press("ArrowRight")
    assert "Tried threshold" in said.inner_text()


def test_a_tried_threshold_sorts_photos_that_the_service_would_not(opened: Any) -> None:
    opened.get_by_role("radio", name="Flawed", exact=True).check()
    until(opened, "document.querySelectorAll('.card').length === 4")
    slide(opened, -1.35)
    until(opened, "document.querySelectorAll('.card').length === 12")
    assert len(names(opened)) == 4 + 4  # those at -1.3, -1.2, -1.0 and -.9, too
    assert set(verdicts(opened)) == {"Flawed"}


def test_bars_are_called_flawed_from_the_threshold_on(opened: Any) -> None:
    """The bars of -2 to 4 do not span the axis, whose ends leave room beyond them."""
    called = """x => {
      const svg = document.querySelector("#threshold svg"), { left, width } = svg.getBoundingClientRect();
      const bars = svg.querySelector(".below"), at = svg.createSVGPoint();
      for (at.y = 0, at.x = 600 * x; at.y < 100 && !bars.isPointInFill(at); at.y++);
      const seen = at.matrixTransform(svg.getScreenCTM());
      return at.y < 100 ? document.elementFromPoint(seen.x, seen.y + 1).className.baseVal : "";
    }"""
    span = "s => [Number(s.min), Number(s.max)]"
    for tried in (1.0, -1.35, 3.25):
        slide(opened, tried)
        low, high = opened.locator("#slider").evaluate(span)
        mark = (tried - low) / (high - low)
        seen = [(n / 400, opened.evaluate(called, n / 400)) for n in range(401)]
        assert {kind for x, kind in seen if kind and x < mark - 0.01} <= {"below"}
        assert {kind for x, kind in seen if kind and x > mark + 0.01} <= {"above"}
        assert {"below", "above"} <= {kind for _, kind in seen}


def test_the_picker_offers_what_the_service_takes(opened: Any) -> None:
    assert set(opened.locator("#files").get_attribute("accept").split(",")) == EXTENSIONS
    likely = "name => import('/static/uploads.js').then(it => it.likely(new File([], name)))"
    assert all(opened.evaluate(likely, f"a{ending}") for ending in EXTENSIONS)  # what is dropped, too
    assert not opened.evaluate(likely, "a.txt")


def test_five_hundred_photos_are_judged_anew_at_once(browser: Any) -> None:
    fake, data = Fake(), photo(0.0, size=(120, 160))
    for number in range(500):
        logit = float(np.sin(number))
        fake.add(f"{number:03}.png", data, logit=logit, anomalous=logit >= 1)
    service = Running(fake)
    page, check = watched(browser, service)
    for shown in (100, 200, 300, 400):
        until(page, f"document.querySelectorAll('.card').length === {shown}")
        assert page.locator("#total").inner_text().startswith(f"{shown} of 500 photos shown")
        page.get_by_role("button", name="Load more").click()
    until(page, "document.querySelectorAll('.card').length === 500")
    page.get_by_role("button", name="Load more").wait_for(state="hidden")
    taken = [slide(page, value) for value in (-0.9, 0.9, -0.5, 0.5)]
    assert min(taken) < 100, taken
    flawed = sum(float(np.sin(number)) >= 0.5 for number in range(500))
    assert abs(int(page.locator("#total").inner_text().split(", ")[1].split()[0]) - flawed) <= 3  # steps
    assert page.locator(".card[data-verdict=flawed]").count() > 100
    check()
    service.stop()


def test_without_a_threshold_photos_are_ranked_and_one_can_be_tried(browser: Any, service: Running) -> None:
    service.fake.add("by words.png", photo(2.0), "words")
    page, check = watched(browser, service, "?detector=words")
    page.locator("#latest .word", has_text="No verdict").wait_for()
    assert page.locator("#latest .facts").inner_text() == "score 0.881"
    assert "no threshold" in page.locator("#threshold .promise").inner_text()
    assert "No threshold yet" in page.locator("#threshold .readout").inner_text()
    slide(page, 1.0)
    assert page.locator("#latest .word").inner_text() == "Flawed"
    page.get_by_role("button", name="Back to no threshold").click()
    assert page.locator("#latest .word").inner_text() == "No verdict"
    check()


# Looking closer ---------------------------------------------------------------------------------------------


def test_keys(opened: Any, service: Running) -> None:
    focused = "document.activeElement.closest('.card')?.querySelector('.name').textContent"
    opened.keyboard.press("j")
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("j")
    opened.keyboard.press("k")
    assert opened.evaluate(focused) == "part 10.png"
    columns = opened.evaluate(
        "getComputedStyle(document.querySelector('#cards')).gridTemplateColumns.split(' ')"
    )
    opened.keyboard.press("ArrowDown")
    assert opened.evaluate(focused) == f"part {10 - len(columns):02}.png"
    opened.keyboard.press("ArrowUp")
    opened.keyboard.press("o")
    assert opened.locator("#cards.bare").count() == 1
    opened.keyboard.press("Enter")
    detail = opened.locator("#detail[open]")
    assert detail.locator(".name").inner_text() == "part 10.png"
    opened.keyboard.press("j")
    assert detail.locator(".name").inner_text() == "part 09.png"
    assert detail.locator(".place").inner_text() == "3 of 12"
    assert detail.locator(".heat").evaluate("node => node.getClientRects().length") == 1
    opened.keyboard.press("o")
    assert detail.locator(".heat").evaluate("node => node.getClientRects().length") == 0
    opened.keyboard.press("z")
    assert opened.locator(".frame.zoomed").count() == 1
    opened.keyboard.press("g")
    detail.locator(".mark-good[aria-pressed=true]").wait_for()
    opened.keyboard.press("Escape")
    detail.wait_for(state="hidden")
    assert opened.evaluate(focused) == "part 09.png"
    assert opened.evaluate("location.hash") == ""
    opened.keyboard.press("/")
    opened.keyboard.type("gj0?")  # letters here
    assert opened.locator("#text").input_value() == "gj0?"
    opened.keyboard.press("Escape")
    opened.keyboard.press("?")
    assert opened.locator("#help[open]").count() == 1
    opened.keyboard.press("Escape")
    assert opened.locator("#help[open]").count() == 0


def test_the_detail_says_all_that_is_known(opened: Any, service: Running) -> None:
    row = service.fake.rows[9]
    scored = f"{row['score']:.3f} (log-odds {row['logit']:.2f})"
    opened.locator(".card", has_text="part 09.png").click()
    figures = opened.locator("#detail .figures").inner_text()
    for said in (scored, "0.731 (log-odds 1.00)", "0.050: share of", "320 × 240", "22 ms"):
        assert said in figures
    assert "1, the largest 3.1 % of the photo" in figures
    assert "1 false alarm in 20" in opened.locator("#detail .promise").inner_text()
    opened.locator("#opacity").fill("20")
    assert opened.locator(".heat").evaluate("node => node.style.opacity") == "0.2"
    shown = opened.locator("#detail .photo")
    until(opened, "document.querySelector('#detail .photo').naturalWidth === 320")
    box = shown.bounding_box()
    assert abs(box["width"] / box["height"] - 320 / 240) < 0.01
    assert "#10" in opened.url


def test_a_photo_has_an_address_and_the_back_button_closes_it(browser: Any, service: Running) -> None:
    page, check = watched(browser, service, "#4")
    page.locator("#detail[open] .name", has_text="part 03.png").wait_for()
    page.keyboard.press("Escape")
    page.locator(SHOWN).first.click()
    page.locator("#detail[open]").wait_for()
    page.go_back()
    page.locator("#detail").wait_for(state="hidden")
    page.goto(service.url + "#99")
    page.reload()
    page.locator("#toast", has_text="There is no photo 99.").wait_for()
    page.context.close()
    del check  # a photo that is not there is told on the console, too


# Corrections ------------------------------------------------------------------------------------------------


def test_corrections_are_kept_undone_and_refused(browser: Any, service: Running) -> None:
    page, check = watched(browser, service, quiet=False)
    page.locator(SHOWN).nth(11).wait_for()
    rows = service.fake.rows
    page.keyboard.press("j")
    page.keyboard.press("b")
    page.locator("#toast", has_text="Said to be flawed: part 11.png").wait_for()
    assert rows[11]["label"] == "flawed"
    card = page.locator(SHOWN).first
    assert card.locator(".label").inner_text() == "said to be flawed"
    assert card.locator(".word").inner_text() == "Good"  # the detector's verdict stays
    page.keyboard.press("u")
    page.locator("#toast", has_text="Undone").wait_for()
    assert rows[11]["label"] is None
    assert not card.locator(".label").is_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("g")
    page.locator("#detail .mark-good[aria-pressed=true]").wait_for()
    page.locator("#note").fill("a scratch of the light")
    page.locator("#note").press("Tab")
    page.locator("#toast", has_text="Note kept").wait_for()
    assert (rows[11]["label"], rows[11]["note"]) == ("good", "a scratch of the light")
    page.locator("#note").fill("refuse")
    page.locator("#note").press("Tab")
    page.locator("#toast", has_text="was not kept: This note is refused.").wait_for()
    assert rows[11]["note"] == "a scratch of the light"
    page.keyboard.press("Escape")
    page.get_by_role("radio", name="Corrected", exact=True).check()
    until(page, "document.querySelectorAll('.card').length === 1")
    check()


def test_corrections_propose_a_threshold_that_a_person_accepts(opened: Any, service: Running) -> None:
    opened.keyboard.press("j")  # part 11 at -0.9, called good
    opened.keyboard.press("b")
    opened.locator("#corrections .why", has_text="Both good and flawed photos are needed").wait_for()
    assert not opened.locator("#propose").is_visible()
    opened.locator("#toast").wait_for(state="visible")
    opened.keyboard.press("j")  # part 10 at -1.0
    opened.keyboard.press("g")
    opened.locator("#propose").click()
    proposal = opened.locator("#proposal")
    cells = proposal.locator("td").all_inner_texts()
    threshold = service.fake.recalibration("gears")["proposed"]["threshold"]
    assert threshold == pytest.approx(-0.95, abs=0.05)
    said = f"{expit(threshold):.3f} (log-odds −{-threshold:.2f})"
    assert cells == ["0.731 (log-odds 1.00)", said, "0 %", "0 %", "0 %", "100 %"]
    said = "Of the 12 photos shown in the page 1 would be called otherwise; of those corrected 1:"
    assert said in proposal.inner_text()
    assert proposal.locator(".changed .name").all_inner_texts() == ["part 11.png"]
    assert proposal.locator(".changed .call").inner_text() == "becomes flawed"
    proposal.get_by_role("button", name="Not now").click()
    assert service.fake.detector("gears")["threshold"] == 1.0
    opened.locator("#propose").click()
    proposal.get_by_role("button", name="Accept the new threshold").click()
    opened.locator("#threshold .readout", has_text=f"log-odds −{-threshold:.2f}").wait_for()
    assert service.fake.detector("gears")["threshold"] == threshold
    opened.locator(".earlier", has_text="12 shown photos were judged before this threshold.").wait_for()
    opened.get_by_role("button", name="Call them by this one").click()
    assert opened.locator("#total").inner_text() == "12 photos, 5 flawed"
    opened.locator("#corrections .why", has_text="The threshold is the one that they ask for.").wait_for()


# Filters ----------------------------------------------------------------------------------------------------


def test_filters_order_and_the_table(opened: Any, service: Running) -> None:
    opened.locator("#text").fill("part 0")
    until(opened, "document.querySelectorAll('.card').length === 10")
    opened.get_by_role("radio", name="Flawed", exact=True).check()
    until(opened, "document.querySelectorAll('.card').length === 4")
    assert names(opened) == ["part 09.png", "part 06.png", "part 03.png", "part 00.png"]
    with opened.expect_download() as download:
        opened.locator("#csv").click()
    assert Path(download.value.path()).read_text().splitlines()[1:] == names(opened)
    opened.reload()
    until(opened, "document.querySelectorAll('.card:not(.ghost)').length === 4")
    assert opened.locator("#text").input_value() == "part 0"
    opened.locator("#text").fill("")
    opened.get_by_role("radio", name="All", exact=True).check()
    opened.locator("#order").select_option("highest")
    until(opened, "document.querySelector('.card .name').textContent === 'part 09.png'")
    scores = [row["score"] for row in sorted(service.fake.rows, key=lambda row: -row["logit"])]
    shown = [float(text) for text in opened.locator(f"{SHOWN} .score").all_text_contents()]
    assert shown == pytest.approx(scores, abs=6e-4)
    service.fake.add("middle.png", photo(0.0), anomalous=False)
    service.fake.add("by words.png", photo(0.0), "words")
    opened.locator("#of").select_option("*")
    until(opened, "document.querySelectorAll('.card').length === 14")
    drop(opened, {"between.png": photo(0.5)})
    opened.locator("#latest .name", has_text="between.png").wait_for()
    assert names(opened)[4] == "between.png"  # behind the flawed ones, not first


def test_dates(opened: Any, service: Running) -> None:
    old = service.fake.add("old.png", photo(0.0), ago=3 * 86_400)
    day = datetime.datetime.fromisoformat(old["time"]).astimezone().date().isoformat()
    opened.locator("#when").select_option("week")
    until(opened, "document.querySelectorAll('.card').length === 13")
    opened.locator("#when").select_option("hour")
    until(opened, "document.querySelectorAll('.card').length === 12")
    assert not opened.locator("#since").is_visible()
    opened.locator("#when").select_option("dates")
    opened.locator("#since").fill(day)
    opened.locator("#until").fill(day)
    until(opened, "document.querySelectorAll('.card').length === 1")
    assert names(opened) == ["old.png"]


# When things go wrong ---------------------------------------------------------------------------------------


def test_a_service_that_dies_and_returns_loses_nothing(browser: Any, service: Running) -> None:
    page, check = watched(browser, service, quiet=False)
    page.locator(SHOWN).nth(11).wait_for()
    service.stop()
    page.locator("#link[data-state=offline]").wait_for()
    drop(page, {"waits.png": photo(3.0)})
    page.locator("#progress .count", has_text="Waiting for the service").wait_for()
    page.locator("[data-key=offline]", has_text="The service does not answer.").wait_for()
    assert page.locator(SHOWN).count() == 12
    service.fake.add("meanwhile.png", photo(-1.0))
    service.start()
    page.get_by_role("button", name="Try now").click()
    page.locator("#summary", has_text="1 photo judged, 1 flawed.").wait_for()
    page.locator("#link[data-state=live]").wait_for()
    until(page, "document.querySelectorAll('.card').length === 14")
    assert set(names(page)[:2]) == {"waits.png", "meanwhile.png"}
    assert page.locator("[data-key=offline]").count() == 0
    assert [row["name"] for row in service.fake.rows].count("waits.png") == 1
    check()


def test_an_answer_that_is_lost_does_not_judge_twice(browser: Any, service: Running) -> None:
    page, check = watched(browser, service, quiet=False)
    page.locator("#link[data-state=live]").wait_for()
    lost: list[str] = []

    def lose(route: Any) -> None:
        if lost:
            route.continue_()
            return
        lost.append(route.fetch().text())
        route.abort()

    page.route("**/v1/detect*", lose)
    drop(page, {"a.png": photo(1.5), "b.png": photo(2.0)})
    page.locator("#summary", has_text="2 photos judged, 2 flawed.").wait_for()
    assert '"a.png"' in lost[0]
    assert len(service.fake.rows) == 14
    check()


def test_a_history_that_cannot_be_read(browser: Any, service: Running) -> None:
    service.fake.broken = "The disk is full; free some space."
    page, check = watched(browser, service, quiet=False)
    page.locator("#none", has_text="The disk is full; free some space.").wait_for()
    service.fake.broken = None
    page.get_by_role("button", name="Try again").click()
    page.locator(SHOWN).nth(11).wait_for()
    assert not page.locator("#none").is_visible()
    check()


def test_a_token_is_asked_for_once(browser: Any, service: Running) -> None:
    service.fake.token = "sesame"
    page, check = watched(browser, service, quiet=False)
    page.locator("#token[open]").wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#token[open]").count() == 1
    page.get_by_label("Token", exact=True).fill("wrong")
    page.get_by_role("button", name="Unlock").click()
    page.locator("#token-error", has_text="This is not the token of this service.").wait_for()
    page.get_by_label("Token", exact=True).fill("sesame")
    page.keyboard.press("Enter")
    page.locator(SHOWN).nth(11).wait_for()
    page.locator("#link[data-state=live]").wait_for()
    until(page, "document.querySelector('.card img').naturalWidth > 0")
    page.keyboard.press("?")
    page.get_by_role("button", name="Sign out").click()
    page.locator("#token[open]").wait_for()
    check()


def test_warnings_of_drift_are_shown_until_put_away(browser: Any, service: Running) -> None:
    text = "80% of the photos are unlike the good photos: the light has changed."
    service.fake.warnings = [{"detector": "gears", "text": text}]
    page, check = watched(browser, service)
    shown = page.locator(".notice", has_text=text)
    shown.wait_for()
    page.locator("#link[data-state=live]").wait_for()
    tell = {"detector": "gears", "text": text.replace("80%", "83%")}
    warn(service, tell)
    page.locator(".notice", has_text="83% of the photos").wait_for()
    assert page.locator(".notice").count() == 1  # the same one, with another figure
    page.get_by_role("button", name="Put away").click()
    warn(service, {**tell, "text": text.replace("80%", "85%")})
    warn(service, {**tell, "text": "Another camera."})
    page.locator(".notice", has_text="Another camera.").wait_for()
    assert page.locator(".notice").count() == 1
    check()


def warn(service: Running, data: dict[str, str]) -> None:
    assert service.fake.loop is not None
    service.fake.loop.call_soon_threadsafe(service.fake.tell, "warning", data)


def test_everything_that_may_be_missing_may_be_missing(browser: Any) -> None:
    fake = Fake()
    nothing = dict.fromkeys(
        ("score", "logit", "threshold", "anomalous", "p_value", "regions", "width", "height")
    )
    gone = dict.fromkeys(("picture", "thumbnail", "map"))
    fake.add("torn.tif", photo(0.0), **nothing, **gone, milliseconds=None, error="The file ends too early.")
    fake.add("", photo(2.0), **gone)
    fake.add("bare.png", photo(2.0), threshold=None, anomalous=None, p_value=None, regions=None)
    service = Running(fake)
    page, check = watched(browser, service)
    page.locator(SHOWN).nth(2).wait_for()
    assert verdicts(page) == ["No verdict", "Flawed", "Not judged"]
    assert names(page) == ["bare.png", "photo 2", "torn.tif"]
    assert "The file ends too early." in page.locator(SHOWN).nth(2).inner_text()
    page.locator(SHOWN).nth(2).click()
    assert page.locator("#detail .gone").is_visible()
    assert "The file ends too early." in page.locator("#detail .figures").inner_text()
    page.keyboard.press("k")
    page.keyboard.press("k")
    assert "gives no verdict" in page.locator("#detail .promise").inner_text()
    check()
    service.stop()


def test_pictures_that_are_not_kept_are_shown_while_the_page_is_open(browser: Any) -> None:
    service = Running(Fake(keep=False))
    page, check = watched(browser, service)
    page.locator("#latest .invite").wait_for()
    drop(page, {"here.png": photo(2.0)})
    page.locator(f"{SHOWN} img").wait_for()
    until(page, "document.querySelector('.card img').naturalWidth === 320")
    check()
    service.stop()


def test_hostile_names_are_text(browser: Any, service: Running) -> None:
    for name in (HOSTILE, "W" * 500, "\u202egnp.exe"):
        service.fake.add(name, photo(2.0))
    service.fake.rows[-3]["note"] = HOSTILE
    service.fake.warnings = [{"detector": HOSTILE, "text": HOSTILE}]
    service.fake.detectors[0]["promise"] = HOSTILE
    page, check = watched(browser, service, viewport={"width": 1000, "height": 800})
    page.locator(SHOWN).nth(14).wait_for()
    assert HOSTILE in page.locator(".notice").inner_text()
    for place in range(3):
        page.locator(SHOWN).nth(place).click()
        page.locator("#detail[open]").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.keyboard.press("Escape")
        page.locator("#detail").wait_for(state="hidden")
    drop(page, {HOSTILE: photo(1.0)})
    page.locator("#summary", has_text="1 photo judged").wait_for()
    page.keyboard.press("b")
    page.locator("#toast", has_text="<img").wait_for()
    assert page.locator("img[src=x], main script").count() == 0
    check()


# How it looks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_no_width_scrolls_sideways(browser: Any, service: Running, width: int) -> None:
    service.fake.add("W" * 300, photo(2.0))
    size = {"width": width, "height": 740}
    page, check = watched(browser, service, viewport=size, has_touch=width < 500)
    page.locator(SHOWN).nth(12).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.get_by_role("button", name="Take a photo").is_visible() == (width < 500)
    page.locator(SHOWN).first.click()
    page.locator("#detail[open]").wait_for()
    assert page.evaluate("document.querySelector('#detail').getBoundingClientRect().width") <= width
    assert page.locator(".mark-flawed").is_visible()
    page.keyboard.press("Escape")
    page.locator("#detail").wait_for(state="hidden")
    page.locator("#help-open").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    check()


def test_light_and_dark(opened: Any) -> None:
    def paper() -> str:
        return str(opened.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = paper()
    opened.get_by_role("button", name="Light or dark").click()
    dark = paper()
    assert dark != light
    opened.reload()
    assert paper() == dark  # what was chosen is remembered
    opened.get_by_role("button", name="Light or dark").click()
    assert paper() == light
    opened.emulate_media(color_scheme="dark")
    assert paper() == light  # and counts


def test_nothing_moves_for_those_who_want_it_still(opened: Any) -> None:
    opened.emulate_media(reduced_motion="reduce")
    assert opened.locator(".gauge .bar").evaluate("node => getComputedStyle(node).transitionDuration") == "0s"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, service: Running, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="there is no axe")
    service.fake.rows[0] |= {"label": "flawed", "note": "seen"}
    service.fake.rows[5] |= {"label": "good"}
    service.fake.rows[11] |= {"error": "It was torn."}
    service.fake.warnings = [{"detector": "gears", "text": "The light has changed."}]
    page, check = watched(browser, service, color_scheme=scheme, bypass_csp=True)
    page.locator(SHOWN).nth(11).wait_for()
    page.locator("#propose").wait_for()

    def serious() -> list[tuple[str, list[str]]]:
        found = axe.Axe().run(page).response["violations"]
        return [
            (one["id"], [node["html"] for node in one["nodes"]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    assert serious() == []
    page.locator("#propose").click()
    page.locator("#proposal[open]").wait_for()
    assert serious() == []
    page.keyboard.press("Escape")
    page.locator(SHOWN).first.click()
    page.locator("#detail[open]").wait_for()
    assert serious() == []
    page.keyboard.press("Escape")
    page.locator("#detail").wait_for(state="hidden")
    page.keyboard.press("?")
    page.locator("#help[open]").wait_for()
    assert serious() == []
    check()


def test_the_empty_page_invites(browser: Any) -> None:
    service = Running(Fake())
    page, check = watched(browser, service)
    page.get_by_role("button", name="Drop photos anywhere").wait_for()
    page.locator("#none", has_text="No photos yet").wait_for()
    assert not page.locator("#filters").is_visible()
    check()
    service.stop()


def test_the_files_are_in_the_wheel_and_obey_the_policy() -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    root = Path(__file__).parents[2]
    files = {file.distribution_path for file in wheel.WheelBuilder(str(root)).recurse_included_files()}
    page = root / "src/zeroflaw/serve/page"
    assert {f"zeroflaw/serve/page/{path.name}" for path in page.iterdir()} <= files
    html = (page / "index.html").read_text(encoding="utf-8")
    assert "'unsafe-inline'" not in POLICY
    assert " style=" not in html
    assert "<style" not in html
    assert all(" src=" in tag for tag in html.split("<script")[1:])
    scripts = "".join(path.read_text(encoding="utf-8") for path in page.glob("*.js"))
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "://"):
        assert forbidden not in scripts.replace("http://www.w3.org/2000/svg", ""), forbidden


def test_the_fake_draws_what_it_judges() -> None:
    assert Fake().judge(photo(2.0))["logit"] == pytest.approx(2.0, abs=0.1)
    assert len(Fake().judge(photo(2.0))["regions"]) == 1
    with pytest.raises(OSError, match="identify"):
        Fake().judge(io.BytesIO(b"nothing").read())
