"""``zeroflaw convert`` as a user runs it: every flag, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from command import refused, run
from published import open_clip_json, openai_state, oracle, write_hugging_face
from zeroflaw.towers.catalogue import REGISTRY, Model
from zeroflaw.towers.folder import load_folder
from zeroflaw.towers.layouts import hugging_face_clip
from zeroflaw.towers.tokenizer import Tokenizer

pytest.importorskip("transformers")


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
    half = ours.with_name("half")
    flags = ["--name", "ViT-T/own", "--licence", "CC-BY-4.0", "--half"]
    assert run("convert", "-q", tiny_backbone, half, *flags) == 0
    assert capsys.readouterr() == ("", "")
    record = load_folder(half).record
    assert (record.name, record.licence, record.source) == ("ViT-T/own", "CC-BY-4.0", "random numbers")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tiny_backbone, half)]
    assert sizes[1] < 0.6 * sizes[0]


def test_overwrite_replaces_our_folder_and_no_other(
    tiny_backbone: Path, ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("convert", tiny_backbone, ours) == 0
    refused(capsys, 2, "new or empty folder", "convert", tiny_backbone, ours)
    assert run("convert", tiny_backbone, ours, "--overwrite", "--name", "second") == 0
    assert load_folder(ours).record.name == "second"
    (ours / "thesis.txt").write_text("years of work", encoding="utf-8")
    refused(capsys, 2, "got 'thesis.txt'", "convert", tiny_backbone, ours, "--overwrite")
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
    command = ("convert", bare, ours, "--config", "openai", "--overwrite", "--tokenizer")
    for given in (tmp_path / "words", tmp_path / "any.json"):
        assert run(*command, given) == 0
        assert (ours / "tokenizer.json").read_text(encoding="utf-8") == text
    refused(capsys, 4, "tokenizer.json", *command, tmp_path / "nowhere")
    refused(capsys, 4, "is not UTF-8", *command, bare)


LONG = "x" * 300
NO_CONFIG = "config must be a file that exists, 'openai', or a name of weights whose sizes are known, got"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        *(
            (f"{{bare}} {{ours}} --config={name}", 4, f"{NO_CONFIG} '{name}'")
            for name in ("mini", "no.json", "")
        ),
        ("{bare} {ours} --config ViT-B-32/openay", 4, "did you mean 'ViT-B-32/openai'"),
        ("{bare} {ours}", 4, "give config"),
        ("{tiny} {ours} --config openai", 2, "are for bare files"),
        ("{tiny} {ours} --tokenizer openai", 2, "are for bare files"),
        ("{bare} {ours} --half --backbone mini", 2, "--half is for weights, but --backbone says that"),
        ("{hub} {ours}", 4, "is not JSON"),
        ("{hub}/model.safetensors {ours} --config {hub}/config.json", 4, "is not JSON"),
        ("nowhere {ours}", 4, "nowhere"),
        (f"{LONG} {{ours}}", 4, "can be read"),
        (f"{{bare}} {{ours}} --config {LONG}", 4, "can be read"),
        (f"{{bare}} {{ours}} --config openai --tokenizer {LONG}", 4, "can be read"),
        (f"{{tiny}} {LONG}", 2, "choose another"),
        ("{tiny} {photo}/x/y", 2, "choose another"),
        ("{tiny} {photo}", 2, "new or empty folder"),
        ("{tiny} {photo} --overwrite", 2, "only a weights folder"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    arguments: str,
    code: int,
    says: str,
    bare: Path,
    tiny_backbone: Path,
    theirs: Any,
    clip_vocabulary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {name: tmp_path / name for name in ("ours", "hub", "photo")}
    if "{hub}" in arguments:  # with preprocessing that is broken
        write_hugging_face(theirs, places["hub"], clip_vocabulary)
        (places["hub"] / "preprocessor_config.json").write_text("{", encoding="utf-8")
    places["photo"].write_bytes(b"a picture")
    words = arguments.format(bare=bare, tiny=tiny_backbone, **places).split()
    refused(capsys, code, says, "convert", *words)
    assert places["photo"].read_bytes() == b"a picture"
    assert not places["ours"].exists()
