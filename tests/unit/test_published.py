"""Published numbers: the file agrees with itself, and says where everything is from."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from statistics import mean

import pytest

from zeroflaw.corruptions import CORRUPTIONS
from zeroflaw.lab.published import dataset_titles, method_titles, numbers, published

MVTEC = {
    *("carpet", "grid", "leather", "tile", "wood", "bottle", "cable", "capsule", "hazelnut", "metal_nut"),
    *("pill", "screw", "toothbrush", "transistor", "zipper"),
}
VISA = {
    *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"),
    *("pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"),
}
METRICS = {
    *("image_auroc", "image_aupr", "image_f1max"),
    *("pixel_auroc", "pixel_aupr", "pixel_f1max", "pixel_pro"),
}


def test_every_number_is_well_formed() -> None:
    for number in numbers():
        assert number.source.strip() == number.source
        assert number.metric in METRICS
        assert number.method in method_titles()
        assert number.dataset in dataset_titles()
        assert number.category is None or number.category in {"mvtec": MVTEC, "visa": VISA}[number.dataset]
        assert number.corruption in (None, "mean", *CORRUPTIONS)
        assert number.severity is None or number.corruption is not None


def test_no_number_is_there_twice() -> None:
    said = {"value", "approximate", "source", "status", "note"}
    keys = [tuple(number.model_dump(exclude=said).values()) for number in numbers()]
    assert len(set(keys)) == len(keys) > 400


def test_titles_are_all_of_use() -> None:
    assert set(method_titles()) == {number.method for number in numbers()}
    assert set(dataset_titles()) == {number.dataset for number in numbers()}


def test_poster_means_agree_with_its_columns() -> None:
    printed = published(table="poster", corruption="mean")
    for number in printed:
        row = published(table="poster", method=number.method, dataset=number.dataset)
        parts = [n.value for n in row if n.corruption in CORRUPTIONS]
        assert len(parts) == 4
        assert abs(mean(parts) - number.value) < 0.05 + 1e-9, number
    assert len(printed) == 8 * 2
    assert len(published(table="poster")) == 8 * 13 - 1  # ACR has no other class to learn from on AeBAD


@pytest.mark.parametrize(
    ("table", "dataset", "metric", "categories", "exact", "printed_in"),
    [
        ("winclip-mvtec", "mvtec", "image_auroc", MVTEC, 91.81, "winclip"),
        ("winclip-mvtec", "mvtec", "pixel_auroc", MVTEC, 85.12, "winclip"),
        ("winclip-visa", "visa", "image_auroc", VISA, 78.06, "winclip"),
        ("winclip-visa", "visa", "pixel_auroc", VISA, 79.59, "winclip"),
        ("winclip-zqhang-mvtec", "mvtec", "image_auroc", MVTEC, 90.37, "winclip-zqhang"),
        ("anomalyclip-log-mvtec", "mvtec", "image_auroc", MVTEC, 91.56, "anomalyclip-log"),
        ("anomalyclip-log-mvtec", "mvtec", "pixel_auroc", MVTEC, 91.07, "anomalyclip-log"),
        ("anomalyclip-log-visa", "visa", "image_auroc", VISA, 81.97, "anomalyclip-log"),
        ("anomalyclip-log-visa", "visa", "pixel_auroc", VISA, 95.51, "anomalyclip-log"),
        ("maeday-mvtec", "mvtec", "image_auroc", MVTEC, 74.51, "maeday"),
        ("maeday-huweiyu-mvtec", "mvtec", "image_auroc", MVTEC, 57.62, "maeday-huweiyu"),
    ],
)
def test_categories_agree_with_the_printed_mean(
    table: str, dataset: str, metric: str, categories: set[str], exact: float, printed_in: str
) -> None:
    rows = published(table=table, dataset=dataset, metric=metric)
    assert {row.category for row in rows} == categories
    average = mean(row.value for row in rows)
    assert round(average, 2) == exact
    (printed,) = published(table=printed_in, dataset=dataset, metric=metric)
    assert abs(average - printed.value) < 0.05 + 1e-9


def test_the_poster_repeats_the_papers_where_it_says_so() -> None:
    for text in ("winclip mvtec", "winclip visa", "anomalyclip mvtec", "acr mvtec"):
        method, dataset = text.split()
        paper, poster = (
            published(table=t, method=method, dataset=dataset, metric="image_auroc", corruption=None)
            for t in (method, "poster")
        )
        assert paper[0].value == poster[0].value


def test_what_is_only_remembered_and_about_is_marked() -> None:
    def tables(**wanted: object) -> dict[str, int]:
        return dict(Counter(number.table for number in published(**wanted)))

    recalled = {"winclip-few-shot": 3, "winclip-clip-ac": 12, "anomalyclip-clip": 4}
    assert tables(status="recalled") == {**recalled, "newer-strict": 8, "newer-auxiliary": 8}
    assert tables(approximate=True) == {"winclip-mala": 1, "newer-strict": 2, "aa-clip-issues": 1}
    assert {n.status for n in published(table="poster")} == {"published"}


def test_numbers_can_be_asked_for() -> None:
    (number,) = published(table="winclip", dataset="visa", metric="image_auroc")
    assert (number.value, number.category, number.detector) == (78.1, None, "winclip")
    (screw,) = published(variant="zqhang", category="screw")
    assert (screw.value, screw.status, screw.detector) == (71.7, "reproduced", "winclip-zqhang")
    assert published(method="nobody") == ()
    assert published() == numbers()


def test_the_file_is_read_without_torch_or_numpy() -> None:
    code = (
        "import sys, zeroflaw.lab.published as p; p.numbers(); print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "set()"
