"""``zeroflaw convert`` as a user runs it: every flag, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from published import open_clip_json, openai_state, oracle, write_hugging_face
from zeroflaw.cli.main import main
from zeroflaw.towers.catalogue import REGISTRY, Model
from zeroflaw.towers.folder import load_folder
from zeroflaw.towers.layouts import hugging_face_clip
from zeroflaw.towers.tokenizer import Tokenizer

pytest.importorskip("transformers")


def run(*arguments: object) -> int:
    """Run the command in this process and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], code: int, message: str, *arguments: object) -> None:
    """Run the command and expect one line on stderr with the message."""
    capsys.readouterr()
    assert run("convert", *arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


@pytest.fixture(scope="module")
def theirs() -> Any:
    return oracle(activation="quick_gelu")


@pytest.fixture
def bare(theirs: Any, tmp_path: Path) -> Path:
    """A pickled state dict in OpenAI's layout with nothing beside it."""
    torch.save(openai_state(theirs), tmp_path / "bare.pt")
    return tmp_path / "bare.pt"


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return tmp_path / "ours"


def test_a_folder_becomes_ours(tiny_backbone: Path, ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("convert", tiny_backbone, ours) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"--backbone local-dir:{ours}" in err
    assert load_folder(ours).record == load_folder(tiny_backbone).record


def test_quiet_says_nothing(tiny_backbone: Path, ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("convert", "-q", tiny_backbone, ours) == 0
    assert capsys.readouterr() == ("", "")


def test_name_licence_and_half(tiny_backbone: Path, ours: Path) -> None:
    flags = ["--name", "ViT-T/own", "--licence", "CC-BY-4.0", "--half"]
    assert run("convert", tiny_backbone, ours, *flags) == 0
    record = load_folder(ours).record
    assert (record.name, record.licence, record.source) == ("ViT-T/own", "CC-BY-4.0", "random numbers")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tiny_backbone, ours)]
    assert sizes[1] < 0.6 * sizes[0]


def test_overwrite_replaces_our_folder_and_no_other(
    tiny_backbone: Path, ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("convert", tiny_backbone, ours) == 0
    refused(capsys, 2, "new or empty folder", tiny_backbone, ours)
    assert run("convert", tiny_backbone, ours, "--overwrite", "--name", "second") == 0
    assert load_folder(ours).record.name == "second"
    (ours / "thesis.txt").write_text("years of work", encoding="utf-8")
    refused(capsys, 2, "got 'thesis.txt'", tiny_backbone, ours, "--overwrite")
    assert (ours / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_config_openai(bare: Path, ours: Path, clip_vocabulary: Path, theirs: Any) -> None:
    assert run("convert", bare, ours, "--config", "openai", "--tokenizer", clip_vocabulary) == 0
    bundle = load_folder(ours)
    assert bundle.model.config.vision.activation == "quick_gelu"
    wanted = openai_state(theirs)["visual.proj"]
    assert torch.equal(bundle.model.state_dict()["vision.projection"], wanted)


def test_config_by_name_takes_licence_source_and_note_of_the_record(
    bare: Path, ours: Path, clip_vocabulary: Path, theirs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Model(
        name="ViT-T-8/known",
        licence="MIT",
        source="someone/tiny",
        revision="main",
        config=hugging_face_clip(theirs.config.to_dict(), "config.json"),
        mean=(0.1, 0.2, 0.3),
        note="as published",
    )
    monkeypatch.setitem(REGISTRY, record.name, record)
    flags = ["--config", record.name, "--tokenizer", clip_vocabulary]
    assert run("convert", bare, ours, *flags) == 0
    bundle = load_folder(ours)
    found = bundle.record
    assert (found.name, found.licence, found.source) == ("ViT-T-8/known", "MIT", "someone/tiny")
    assert (found.note, found.revision) == ("as published", None)
    assert bundle.preprocess.mean == (0.1, 0.2, 0.3)
    assert run("convert", bare, ours, *flags, "--overwrite", "--licence", "GPL-3.0", "--name", "x") == 0
    found = load_folder(ours).record
    assert (found.name, found.licence, found.source) == ("x", "GPL-3.0", "someone/tiny")


def test_config_file(bare: Path, ours: Path, tmp_path: Path, clip_vocabulary: Path, theirs: Any) -> None:
    (tmp_path / "given.json").write_text(json.dumps(open_clip_json(theirs)), encoding="utf-8")
    flags = ["--config", tmp_path / "given.json", "--tokenizer", clip_vocabulary]
    assert run("convert", bare, ours, *flags) == 0
    assert load_folder(ours).preprocess.mean == (0.5, 0.4, 0.3)


def test_tokenizer_as_a_file_or_a_folder(
    bare: Path, ours: Path, tmp_path: Path, clip_vocabulary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Tokenizer.read(clip_vocabulary, context_length=77).text
    (tmp_path / "words").mkdir()
    for path in (tmp_path / "words" / "tokenizer.json", tmp_path / "any.json"):
        path.write_text(text, encoding="utf-8")
    for given in (tmp_path / "words", tmp_path / "words" / "tokenizer.json", tmp_path / "any.json"):
        flags = ["--config", "openai", "--tokenizer", given, "--overwrite"]
        assert run("convert", bare, ours, *flags) == 0
        assert (ours / "tokenizer.json").read_text(encoding="utf-8") == text
    wrong = ["--config", "openai", "--overwrite", "--tokenizer"]
    refused(capsys, 4, "tokenizer.json", bare, ours, *wrong, tmp_path / "nowhere")
    refused(capsys, 4, "is not UTF-8", bare, ours, *wrong, bare)


def test_a_config_that_is_nothing_is_refused(
    bare: Path, ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("open-ai", "mini", "nowhere.json", ""):
        refused(
            capsys,
            4,
            f"config must be a file that exists, 'openai', or a name of weights whose sizes "
            f"are known, got '{name}'",
            bare,
            ours,
            "--config",
            name,
        )
    refused(capsys, 4, "did you mean 'ViT-B-32/openai'", bare, ours, "--config", "ViT-B-32/openay")
    refused(capsys, 4, "give config", bare, ours)


def test_flags_that_would_be_ignored_are_refused(
    tiny_backbone: Path, ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag in ("--config", "--tokenizer"):
        refused(capsys, 2, "are for bare files", tiny_backbone, ours, flag, "openai")


def test_broken_preprocessing_is_refused(
    theirs: Any, tmp_path: Path, ours: Path, clip_vocabulary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_hugging_face(theirs, tmp_path / "hub", clip_vocabulary)
    (source / "preprocessor_config.json").write_text("{", encoding="utf-8")
    weights, config = source / "model.safetensors", source / "config.json"
    refused(capsys, 4, "is not JSON", source, ours)
    refused(capsys, 4, "is not JSON", weights, ours, "--config", config)


def test_paths_that_cannot_be_are_refused(
    bare: Path, tiny_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long, ours = "x" * 300, tmp_path / "ours"
    (tmp_path / "a.png").write_bytes(b"a picture")
    refused(capsys, 4, "can be read", long, ours)
    refused(capsys, 4, "can be read", bare, ours, "--config", long)
    refused(capsys, 4, "can be read", bare, ours, "--config", "openai", "--tokenizer", long)
    for target in (tmp_path / long, tmp_path / "a.png" / "x", tmp_path / "a.png" / "x" / "y"):
        refused(capsys, 2, "choose another", tiny_backbone, target)
    refused(capsys, 2, "new or empty folder", tiny_backbone, tmp_path / "a.png")
    refused(capsys, 2, "only a weights folder", tiny_backbone, tmp_path / "a.png", "--overwrite")
    assert (tmp_path / "a.png").read_bytes() == b"a picture"
    assert not ours.exists()
