"""What a benchmark shows: hostile names stay text, lines are of one sweep each, bars stay in their plot."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from zeroflaw.lab.benchmark.page import page_of
from zeroflaw.lab.benchmark.plots import Axis, Series, curves
from zeroflaw.lab.benchmark.tables import csv_of, markdown_of
from zeroflaw.lab.evaluation import METRICS, summary_of

HOSTILE = "<script>alert('x')</script> | a\\b"


def row(detector: str, value: float | None = 0.5, **facts: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(METRICS, value),
        "image_auroc_interval": None,
        "dataset": "set",
        "category": "cup",
        "domain": None,
        "corruption": "none",
        "detector": detector,
        "backbone": "mini",
        "object": None,
        "seed": 0,
        "images": 2,
        "anomalous": 1,
        "unreadable": 0,
        "without_mask": 0,
        "missing": 0,
        "error": None,
        "notes": [],
        **facts,
    }


def content(rows: list[dict[str, Any]], specs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    plain = {"known_object": False, "shots": 0, "auxiliary": None, "parameters": {}}
    labels = dict.fromkeys(line["detector"] for line in rows)
    detectors = [plain | {"name": label, "label": label} for label in labels]
    return {
        "title": HOSTILE,
        "zeroflaw": "1",
        "grid": {"detectors": [plain | spec for spec in specs] if specs else detectors},
        "rows": rows,
        "summary": summary_of(rows),
        "missing": [{"root": HOSTILE, "reason": "gone\nfor good"}],
        "open": 0,
    }


def test_names_stay_text_in_html_and_markdown() -> None:
    found = content([row(HOSTILE, category=HOSTILE, dataset=HOSTILE, notes=[HOSTILE])])
    found["rows"].append(row("broken", None, error=f"no {HOSTILE}\n| x |"))
    results = [
        {"row": line, "domains": [], "scored": [["a", 0, 1.0], ["b", 1, 2.0]]} for line in found["rows"]
    ]
    page, text = page_of(found, results), markdown_of(found)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8
    assert not re.search(r"(?<!\\)<", text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in tables}
    assert columns <= {3, 4}
    assert not any(line.startswith("| x") for line in text.splitlines())
    for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(picture)


def test_nothing_found_is_still_a_page() -> None:
    found = content([])
    assert "gone" in page_of(found, [])
    assert "0 results" in markdown_of(found)
    assert csv_of(found).count("\n") == 1


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@x", "\tx", 'a,"b"\nc'])
def test_a_spreadsheet_takes_no_name_for_a_formula(name: str) -> None:
    found = content([row(name, -0.25, category=name)])
    (line,) = csv.DictReader(io.StringIO(csv_of(found)))
    assert line["detector"].removeprefix("'") == name
    assert line["detector"][0] not in "=+-@\t\r"
    assert float(line["image_auroc"]) == -0.25


def test_each_line_of_a_sweep_is_of_one_detector() -> None:
    specs = [
        {"name": "rwda", "label": f"{n} {epochs}", "parameters": {"n_pairs": n, "epochs": epochs}}
        for n in (10, 100, 1000)
        for epochs in (1, 2)
    ]
    rows = [row(str(spec["label"]), 0.5 + 0.1 * number) for number, spec in enumerate(specs)]
    page = page_of(content(rows, specs), [])
    sweep = page[page.index("Sweep of n_pairs") :]
    lines = re.findall(r'<polyline points="([^"]*)"', sweep)
    assert [len(line.split()) for line in lines] == [3, 3]
    assert "rwda, epochs 1, none" in sweep
    assert "rwda, epochs 2, none" in sweep
    assert "Sweep of epochs" not in page  # two values are no curve


def test_one_detector_has_one_colour_in_all_severity_plots() -> None:
    def lines(kind: str, names: str) -> list[dict[str, Any]]:
        return [row(name, corruption=f"{kind}:{severity}") for severity in (1, 2, 3) for name in names]

    rows = lines("contrast", "b") + lines("blur", "ab")  # "a" failed under one of them
    page = page_of(content(rows), [])
    part = page[page.index("<h2>Severity") :]
    names = re.findall(r"</svg> (\w)</span>", part)
    colours = re.findall(r'<span><svg[^>]*><line[^>]* stroke="(#\w+)"', part)
    wanted = dict(zip(names, colours, strict=True))
    dots = re.findall(r'fill="(#\w+)"><title>(\w)', part)
    assert len(dots) == 9
    assert all(wanted[name] == colour for colour, name in dots)


def test_bars_stay_inside_the_plot() -> None:
    y = Axis("y", 0, 1, [0, 1])
    picture = curves([Series("a", [(0, 0.1), (1, 0.95)], [0.5, 0.5])], Axis("x", 0, 1, [0, 1]), y, "t")
    heights = [float(value) for value in re.findall(r'y[12]="([\d.-]+)"', picture)]
    assert min(heights) >= 10
    assert max(heights) <= 280 - 42
