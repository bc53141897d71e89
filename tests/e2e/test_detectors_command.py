"""``zeroflaw detectors`` and ``models``: what the lists say, and that they say it at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from command import lines, run
from zeroflaw.detectors import PRESETS
from zeroflaw.lab.published import published


def test_every_preset_is_listed_with_published_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("detectors", "--json") == 0
    rows = {row["name"]: row for row in lines(capsys.readouterr().out)}
    assert list(rows) == list(PRESETS)
    for name, row in rows.items():
        kind = PRESETS[name].detector_class
        found = (row["summary"], row["needs"], row["source"])
        assert found == (PRESETS[name].summary, str(kind.needs), kind.source)
        for quoted in row["published"]:
            assert published(category=None, corruption=None, **quoted), quoted
    assert [q["value"] for q in rows["winclip"]["published"]] == [91.8, 78.1]
    for name in ("rwda-fnn", "rwda-lda", "promptstyler"):  # which nobody published
        assert rows[name]["published"] == []


def test_the_list_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("detectors") == 0
    first, *rest = (line.strip() for line in capsys.readouterr().out.splitlines())
    assert first.startswith("rwda ")
    assert {
        "published: image AUROC MVTec AD 91.8, VisA 78.1 (Jeong et al., CVPR 2023)",
        "published: image AUROC VisA 73.5 (poster by Gao et al.)",
        "published with 1 photo: image AUROC MVTec AD 93.1, VisA 83.8 (Jeong et al., CVPR 2023)",
        "reproduced: image AUROC MVTec AD 90.4, VisA 75.5 (zqhang/Accurate-WinCLIP, read-me)",
        "reproduced: image AUROC MVTec AD about 91.2 (mala-lab/WinCLIP, by the tables of InCTRL)",
        "recalled, not verified: image AUROC VisA 59.3 (Jeong et al., CVPR 2023)",
    } <= set(rest)


@pytest.mark.parametrize("verb", ["detectors", "models", "datasets", "samples --help"])
def test_what_judges_no_image_does_not_wait_for_torch(verb: str) -> None:
    code = (
        f"import sys; from zeroflaw.cli.main import cli; cli.main({verb.split()}, standalone_mode=False); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "--json") == 0
    rows = {row["name"]: row for row in lines(capsys.readouterr().out)}
    assert {"mini", "ViT-B-16-plus-240/laion400m_e32", "ViT-L-14-336/openai"} <= rows.keys()
    assert run("models") == 0
    text = capsys.readouterr().out
    assert all(row["source"] in text and row["licence"] in text for row in rows.values())


def test_the_card_of_the_bundled_model_credits_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "--card") == 0
    said = capsys.readouterr().out
    assert said.startswith("# mini")
    assert "| attribution |" in said
    assert "Calli et al." in said
