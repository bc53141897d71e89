"""``zeroflaw detectors``: what the list says, and that it says it at once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from zeroflaw.cli.main import main
from zeroflaw.detectors import PRESETS
from zeroflaw.lab.published import published


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["detectors", *arguments])
    assert not stop.value.code
    return capsys.readouterr().out


@pytest.fixture
def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in listed(capsys, "--json").splitlines()]
    return {row["name"]: row for row in found}


def test_every_preset_is_listed_as_its_class_describes_it(rows: dict[str, dict[str, Any]]) -> None:
    assert list(rows) == list(PRESETS)
    for name, row in rows.items():
        kind = PRESETS[name].detector_class
        assert row["summary"] == PRESETS[name].summary
        assert row["needs"] == str(kind.needs)
        assert row["source"] == kind.source


def test_published_numbers_are_quoted_with_their_source(rows: dict[str, dict[str, Any]]) -> None:
    for row in rows.values():
        for quoted in row["published"]:
            assert published(category=None, corruption=None, **quoted), quoted
    assert [(q["dataset"], q["value"], q["status"]) for q in rows["winclip"]["published"]] == [
        ("mvtec", 91.8, "published"),
        ("visa", 78.1, "published"),
    ]


def test_nothing_is_quoted_for_what_nobody_published(rows: dict[str, dict[str, Any]]) -> None:
    for name in ("rwda-fnn", "rwda-lda", "promptstyler"):
        assert rows[name]["published"] == []


def test_the_list_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    text = listed(capsys)
    lines = [line.strip() for line in text.splitlines()]
    for line in (
        "published: image AUROC MVTec AD 91.8, VisA 78.1 (Jeong et al., CVPR 2023)",
        "published: image AUROC MVTec AD 91.0, VisA 78.8 (poster by Gao et al.)",
        "published: image AUROC MVTec AD 85.8 (Li et al., NeurIPS 2023)",
        "published: image AUROC VisA 73.5 (poster by Gao et al.)",
        "published with 1 photo: image AUROC MVTec AD 93.1, VisA 83.8 (Jeong et al., CVPR 2023)",
        "reproduced: image AUROC MVTec AD 90.4, VisA 75.5 (zqhang/Accurate-WinCLIP, read-me)",
        "reproduced: image AUROC MVTec AD about 91.2 (mala-lab/WinCLIP, by the tables of InCTRL)",
        "recalled, not verified: image AUROC VisA 59.3 (Jeong et al., CVPR 2023)",
    ):
        assert line in lines
    assert text.splitlines()[0].startswith("rwda ")


def test_the_list_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from zeroflaw.cli.main import cli; cli.main(['detectors'], standalone_mode=False); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
