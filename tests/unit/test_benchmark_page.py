"""What a benchmark shows: hostile names stay text, notes are said once, pages repeat byte for byte."""

from __future__ import annotations

import csv
import io
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zeroflaw.lab.benchmark.grid import DetectorSpec
from zeroflaw.lab.benchmark.page import benchmark_page, comparison_page
from zeroflaw.lab.benchmark.plan import Missing, Unit
from zeroflaw.lab.benchmark.plots import Dots, curves, dot_chart
from zeroflaw.lab.benchmark.reproduce import Comparison, Setting, markdown, table_of
from zeroflaw.lab.benchmark.results import Results, csv_of, listing, markdown_of, notes
from zeroflaw.lab.evaluation.rows import METRICS, Result, Row
from zeroflaw.lab.published import published
from zeroflaw.records import Category, Record

HOSTILE = "<script>alert('x')</script> | [a](b) `c` $x$ \\b"


def result(detector: str, value: float | None = 0.5, scored: Any = (), **facts: Any) -> Result:
    given: dict[str, Any] = {
        **dict.fromkeys(METRICS, value),
        **dict.fromkeys(("domain", "object", "error")),
        **dict.fromkeys(("seed", "unreadable", "without_mask", "missing"), 0),
        "dataset": "set",
        "category": "cup",
        "corruption": "none",
        "backbone": "mini",
        "detector": detector,
        "images": 2,
        "anomalous": 1,
        **facts,
    }
    return Result(row=Row(**given), domains=(), scored=scored)


def results(found: list[Result], specs: list[DetectorSpec] | None = None, **more: Any) -> Results:
    labels = dict.fromkeys(one.row.detector for one in found)
    specs = specs or [DetectorSpec(name=label, label=label) for label in labels]
    return Results(found, HOSTILE, {"detectors": [asdict(spec) for spec in specs]}, **more)


def svgs(page: str) -> list[str]:
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    for picture in pictures:
        ET.fromstring(picture.replace("xlink:", ""))
    return pictures


def test_names_stay_text_in_html_and_markdown() -> None:
    scored = (("cup/a", 0, 1.0), ("cup/b", 1, 2.0))
    found = results(
        [
            result(HOSTILE, 0.5, scored, category=HOSTILE, dataset=HOSTILE, notes=(HOSTILE,)),
            result("broken", None, error=f"no {HOSTILE}\n| x |"),
        ],
        missing=(Missing(HOSTILE, "gone\nfor good"),),
    )
    page, text = benchmark_page(found, []), markdown_of(found)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8
    assert len(svgs(page)) == 2  # the chart, and ROC curves of what did not fail
    assert not re.search(r"(?<!\\)[<`\[]", text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} <= {3, 4}
    assert not any(line.startswith("| x") for line in text.splitlines())


def test_nothing_found_is_still_a_page() -> None:
    found = results([], missing=(Missing("set", "gone"),))
    assert "gone" in benchmark_page(found, [])
    assert "0 results" in markdown_of(found)
    assert csv_of(found).count("\n") == 1


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@x", 'a,"b"'])
def test_a_spreadsheet_takes_no_name_for_a_formula(name: str) -> None:
    (line,) = csv.DictReader(io.StringIO(csv_of(results([result(name, -0.25, category=name)]))))
    assert line["detector"].removeprefix("'") == name
    assert line["detector"][0] not in "=+-@"
    assert float(line["image_auroc"]) == -0.25


def test_notes_are_said_once_with_the_places() -> None:
    found = results(
        [
            result(
                detector,
                category=category,
                notes=(
                    "undefined are pixel_auroc: there are no masks",
                    f"left out, not readable: {category}/test/good/0.png: the file is empty",
                    "cup/test: half of it is missing.",
                ),
            )
            for detector in ("a", "b")
            for category in ("cup", "lid", "nut", "pin", "box")
        ]
        + [result("c", None, category=category, error="no weights") for category in ("cup", "lid")]
    )
    said = [str(note) for note in notes(found)]
    assert said == [
        "undefined are pixel_auroc: there are no masks (5 places: cup, lid, nut, pin and 1 more)",
        "left out, not readable: the file is empty (5 places: cup/test/good/0.png, lid/test/good/0.png, "
        "nut/test/good/0.png, pin/test/good/0.png and 1 more)",
        "cup/test: half of it is missing. (4 places: lid, nut, pin, box)",
        "failed: c: no weights (2 places: cup, lid)",
    ]
    page, text = benchmark_page(found, []), markdown_of(found)
    assert page.count("there are no masks") == text.count("there are no masks") == 1
    assert "2 of 12 results failed" in page


def test_means_of_domains_stand_beside_pooled_figures() -> None:
    domains = tuple(result("a", value, domain=name).row for name, value in (("x", 0.2), ("y", 0.6)))
    whole = result("a", 0.5, mean_of_domains=dict.fromkeys(METRICS, 0.4))
    found = results([whole.model_copy(update={"domains": domains})])
    lines = [line.split() for line in listing(found).text()]
    assert [line[1:4] for line in lines[3:5]] == [["cup/mean", "of", "domains"], ["cup", "(pooled)", "0"]]
    assert "| set / cup/mean of domains | 0.400 |" in markdown_of(found)
    assert "| set / cup (pooled) | 0.500 |" in markdown_of(found)
    *_, mean, last = csv.DictReader(io.StringIO(csv_of(found)))
    assert (mean["domain"], mean["image_auroc"], last["image_auroc"]) == ("mean of domains", "0.4", "0.5")


def test_each_line_of_a_sweep_is_of_one_detector() -> None:
    specs = [
        DetectorSpec(name="rwda", label=f"{n} {epochs}", parameters={"n_pairs": n, "epochs": epochs})
        for n in (10, 100, 1000)
        for epochs in (1, 2)
    ]
    found = results([result(spec.label, 0.5 + 0.1 * n) for n, spec in enumerate(specs)], specs)
    page = benchmark_page(found, [])
    assert "Sweep of epochs" not in page  # two values are no curve
    sweep = page[page.index("Sweep of n_pairs") : page.index("<h2>Everything")]
    assert re.findall(r">(rwda, epochs \d, none)<", sweep) == ["rwda, epochs 1, none", "rwda, epochs 2, none"]
    assert all(f">{n}<" in sweep for n in (10, 100, 1000))


def test_one_detector_has_one_colour_in_all_severity_plots() -> None:
    def lines(kind: str, names: str) -> list[Result]:
        return [result(name, corruption=f"{kind}:{severity}") for severity in (1, 2, 3) for name in names]

    page = benchmark_page(results(lines("contrast", "b") + lines("blur", "ab")), [])  # "a" failed once
    severity = page[page.index("<h2>Severity") : page.index("<h2>Everything")]
    dots = re.findall(r"<use [^>]*fill: var\(--(s\d)\)", severity)
    # Three points for each line, and one dot for each in the legend: b is first in both plots.
    assert (dots.count("s0"), dots.count("s1")) == (3 + 3 + 1, 3 + 1)


def test_plots_are_drawn_the_same_each_time_and_bars_are_there() -> None:
    def draw() -> str:
        dots = [Dots("a", 0.7, 0.1, [0.5, 0.9], 0.4), Dots("b", None)]
        points = {"a": [(1.0, 0.5, 0.1), (3.0, 0.6, None)]}
        lines = curves(
            {"k": points, "l": points, "m": points}, dict.fromkeys("klm", "x"), ("y",), "t", log=True
        )
        return dot_chart(dots, "x", "a & b") + lines

    assert draw() == draw()
    chart, lines = svgs(draw())
    assert 'aria-label="a &amp; b"' in chart
    assert "<metadata>" not in chart + lines
    assert "Date" not in chart + lines
    assert len(chart) < 12_000
    assert not re.search(r"#0[0-9a]0[0-9a]", chart + lines)  # all colours are the page's
    assert lines.count("LineCollection") == 0


def test_the_worst_misses_are_shown(tmp_path: Path) -> None:
    def record(label: int, number: int) -> Record:
        path, mask = tmp_path / f"{label}{number}.png", tmp_path / f"m{number}.png"
        Image.fromarray(np.full((40, 400, 3), 90 + number, np.uint8)).save(path)
        Image.fromarray(np.pad(np.full((20, 100), 255, np.uint8), ((5, 15), (50, 250)))).save(mask)
        return Record("set", "cup", "test", label, "dent", None, path, mask if label else None)

    records = [record(label, number) for label in (0, 1) for number in range(4)]
    category = Category("set", "cup", (), records)
    logits = dict(zip([r.image.name for r in records], [0, 1, 2, 9, 3, 4, -5, 8], strict=True))
    scored = tuple((f"cup/test/dent/{r.image.name}", r.label, float(logits[r.image.name])) for r in records)
    found = results([result("good one", 0.9, scored), result("bad one", 0.1, scored[::-1])])
    page = benchmark_page(found, [Unit(category, "none", ())])
    assert page.count('<img src="data:image/jpeg;base64,') == 4  # two of a kind at most of a category
    assert re.findall(r'alt="cup/test/dent/(\d+).png"', page) == ["12", "10", "03", "00"]
    assert "100% of good images score higher (good one)" in page
    records[6].image.write_bytes(b"gone")
    assert 'alt="cup/test/dent/12.png"' not in benchmark_page(found, [Unit(category, "none", ())])


def test_without_matplotlib_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    found = results([result("a", 0.5, (("cup/a", 0, 1.0), ("cup/b", 1, 2.0)))])
    page = benchmark_page(found, [])
    assert "plots need matplotlib" in page
    assert "zeroflaw[lab]" in page
    assert "<svg" not in page
    assert "0.500" in page


def test_published_and_measured_stand_side_by_side() -> None:
    first, second, *_ = published(table="poster", method="winclip")
    found = [
        Comparison(first, first.value - 5, spread=0.5, pooled=70.0, coverage="24 images"),
        Comparison(second, reason="no data: <b>; no weights"),
    ]
    page = comparison_page("poster", found, Setting((Path("x"),)))
    assert page.count("<tr>") == 2 + 3  # what was measured, and everything
    assert page.count('worse">-5.0<') == 2  # in both
    assert "1 of 2 numbers measured" in page
    assert page.count("not measured: no data: &lt;b&gt;") == 1
    assert len(svgs(page)) == 1
    head, measured, missing = table_of(found).text()
    assert head.index("measured on") == measured.index("24 images") == missing.index("no data")
    assert "| 71.9 | 66.9 ± 0.5 | 70.0 | -5.0 | 24 images |" in markdown("poster", found, Setting(()))
