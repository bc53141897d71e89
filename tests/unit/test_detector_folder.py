"""Saved detectors: whatever is wrong with a folder is said in a sentence that names the file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from zeroflaw import RWDA, DetectorError, UsageError, load
from zeroflaw.detectors import presets
from zeroflaw.files import sha256
from zeroflaw.runtime.folder import read_folder, write_folder

Arrays = dict[str, np.ndarray]
Change = Callable[[Any], object]


@pytest.fixture
def saved(tmp_path: Path, tiny_backbone: Path) -> Path:
    """A small saved detector."""
    folder = tmp_path / "saved"
    RWDA(backbone=f"local-dir:{tiny_backbone}", n_pairs=10, epochs=1, hidden=(8,)).fit().save(folder)
    return folder


def edit_json(folder: Path, name: str, change: Change) -> None:
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))
    sign(folder, name)


def sign(folder: Path, name: str) -> None:
    """Make the recorded digest right again."""
    if name != "config.json":
        digest = sha256(folder / name)
        edit_json(folder, "config.json", lambda config: config["sha256"].update({name: digest}))


def replace_head(folder: Path, change: Change) -> None:
    arrays = load_file(folder / "head.safetensors")
    change(arrays)
    save_file(arrays, folder / "head.safetensors")
    sign(folder, "head.safetensors")


def refuses(folder: Path, says: str) -> None:
    with pytest.raises(DetectorError, match=says) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_holds_json_safetensors_and_a_card(saved: Path) -> None:
    names = ["README.md", "config.json", "head.safetensors", "words.json"]
    assert sorted(p.name for p in saved.iterdir()) == names
    config = json.loads((saved / "config.json").read_text())
    assert (config["schema"], config["detector"], config["scorer"]["kind"]) == (2, "rwda", "text")
    assert len(config["backbone"]["sha256"]) == 64
    assert len(json.loads((saved / "words.json").read_text())["pairs"]) == 10


def test_it_comes_back_and_goes_out_again_as_it_was(saved: Path, tmp_path: Path) -> None:
    load(saved).save(tmp_path / "again")
    for path in saved.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_other_learned_arrays_are_kept(saved: Path, tmp_path: Path) -> None:
    replace_head(saved, lambda arrays: arrays.update({"learned.words": np.ones((2, 3), np.float32)}))
    detector: Any = load(saved)
    assert set(detector.fitted_.learned) == {"words"}
    detector.save(tmp_path / "again")
    assert read_folder(tmp_path / "again").arrays["learned.words"].shape == (2, 3)


@pytest.mark.parametrize("name", ["head.safetensors", "words.json"])
def test_a_flipped_bit_is_found(saved: Path, name: str) -> None:
    data = bytearray((saved / name).read_bytes())
    data[len(data) // 2] ^= 1
    (saved / name).write_bytes(data)
    refuses(saved, rf"{name} is damaged: sha256 .* was wanted")


@pytest.mark.parametrize("name", ["config.json", "head.safetensors", "words.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    refuses(saved, name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(schema=99), r"config\.json has schema 99, and this version reads 2; renew it"),
        (lambda c: c.pop("backbone"), r"config\.json: backbone is missing"),
        (lambda c: c.update(extra=1), "there is no 'extra'"),
        (lambda c: c.update(detector="other"), "names the detector 'other'"),
        (lambda c: c["parameters"].update(n_pears=3), "did you mean 'n_pairs'"),
        (lambda c: c["parameters"].update(fusion="nothing"), "fusion"),
        (lambda c: c["parameters"].update(window_sizes=[9]), "got size 9"),
        (lambda c: c["backbone"].update(sha256="0" * 64), "fitted on backbone"),
        (lambda c: c["backbone"].update(fingerprint="0"), "configuration, preprocessing and tokenizer"),
        (lambda c: c["scorer"].update(kind="winclip"), "a scorer of kind 'text', but .* says 'winclip'"),
        (lambda c: c["scorer"].update(weights={}), r"'scorer' in config\.json: weights must be"),
        (lambda c: c["scorer"].update(weights={"lda": 1.0}), "has no head 'lda', which config.json weighs"),
    ],
)
def test_a_wrong_config_is_refused(saved: Path, change: Change, says: str) -> None:
    edit_json(saved, "config.json", change)
    refuses(saved, says)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("config.json", "[" * 200_000, "is not JSON"),
        ("config.json", "[]", "must hold an object, got a list"),
        ("config.json", '{"schema": NaN}', "NaN is no JSON number"),
        ("words.json", '{"pairs": [NaN]}', r"words\.json is not JSON: NaN is no JSON number"),
        ("words.json", '{"pairs": "\\ud800"}', r"words\.json is not JSON"),
    ],
)
def test_files_that_could_not_be_written_again_are_refused(
    saved: Path, name: str, text: str, says: str
) -> None:
    (saved / name).write_text(text)
    sign(saved, name)
    refuses(saved, says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("prompt.weight"), "does not hold a network with one output"),
        (lambda t: t.pop("fnn.0.bias"), "layer 0 of the network"),
        (lambda t: t["prompt.weight"].fill(np.nan), "must hold finite"),
        (lambda t: t.update({"prompt.weight": np.ones(3, np.float32)}), "differ in width"),
        (lambda t: t.update({"prompt.weight": np.ones(24, np.float16)}), "float32 or int64 .*, got float16"),
        (lambda t: [t.pop(name) for name in list(t)], "has no head"),
    ],
)
def test_wrong_arrays_are_refused(saved: Path, change: Change, says: str) -> None:
    replace_head(saved, change)
    refuses(saved, says)


def test_what_is_no_safetensors_is_no_head(saved: Path) -> None:
    torch.save({"prompt.weight": torch.ones(24)}, saved / "pickle")
    for data in (b"", b"no arrays", (saved / "pickle").read_bytes()):
        (saved / "head.safetensors").write_bytes(data)
        sign(saved, "head.safetensors")
        refuses(saved, r"head\.safetensors holds no arrays")


def test_scores_that_are_no_numbers_are_never_returned(saved: Path) -> None:
    replace_head(saved, lambda arrays: arrays["fnn.0.weight"].fill(3e38))
    replace_head(saved, lambda arrays: arrays["fnn.1.weight"].fill(3e38))
    detector: Any = load(saved)
    head = detector.scorer_.heads["fnn"].layers[-1]
    head.weight.fill(1e308)
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    with np.errstate(all="ignore"), pytest.raises(DetectorError, match="not finite numbers"):
        list(detector.predict([picture], maps=True))


def test_an_older_schema_is_refused_with_the_command_that_renews_it(saved: Path, tiny_backbone: Path) -> None:
    def age(config: dict[str, Any]) -> None:
        config["schema"] = 1
        config["parameters"].update(object="metal nut", head="lda", normal=["good", "fine"], fusion="A")

    edit_json(saved, "config.json", age)
    with pytest.raises(
        DetectorError, match=r"has schema 1, and this version reads 2; renew it with: (.*)$"
    ) as caught:
        load(saved)
    command = shlex.split(str(caught.value).partition("renew it with: ")[2])
    assert command[:4] == ["zeroflaw", "fit", "--detector", "rwda"]
    assert command[-3:] == ["-o", str(saved), "--overwrite"]
    options = list(zip(command[4:-3:2], command[5:-3:2], strict=True))
    assert set(options) == {
        ("--backbone", f"local-dir:{tiny_backbone}"),
        ("--object", "metal nut"),
        ("--normal", "good"),
        ("--normal", "fine"),
        ("--set", "head=lda"),
        ("--set", "n_pairs=10"),
        ("--set", "epochs=1"),
        ("--set", "hidden=8"),
    }
    settings = [value for name, value in options if name == "--set"]
    assert presets.parse_settings("rwda", settings) == {
        "head": "lda",
        "n_pairs": 10,
        "epochs": 1,
        "hidden": (8,),
    }


@pytest.mark.parametrize(
    ("config", "ends"),
    [
        ({"detector": "winclip-plus"}, "--detector winclip-plus --reference GOOD-PHOTOS -o"),
        ({"detector": "acr", "parameters": 5}, "--detector acr --auxiliary DATA-SET -o"),
        ({"detector": "; rm -rf x"}, "--detector '; rm -rf x' -o"),
        ({}, "--detector None -o"),
    ],
)
def test_what_else_an_old_folder_needs(config: dict[str, Any], ends: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DetectorError, match="renew it with") as caught:
        load(tmp_path)
    assert f"{ends} {tmp_path} --overwrite" in str(caught.value)


def test_saving_over_something_else_is_refused(saved: Path, tmp_path: Path) -> None:
    detector, notes = load(saved), tmp_path / "notes"
    notes.mkdir()
    (notes / "important.txt").write_text("keep me")
    for change in (lambda: None, (notes / "config.json").touch, (saved / "mine.txt").touch):
        change()  # any program's config makes no detector, nor does a detector with other files
        target = saved if (saved / "mine.txt").exists() else notes
        with pytest.raises(UsageError, match="which was not written by an earlier run"):
            detector.save(target)
    (saved / "mine.txt").unlink()
    for make in ((saved / "mine").mkdir, lambda: (saved / "mine").symlink_to(notes)):
        make()  # an empty folder, and a link to one, are somebody's as well
        with pytest.raises(UsageError, match="which was not written by an earlier run"):
            detector.save(saved)
        (saved / "mine").unlink() if (saved / "mine").is_symlink() else (saved / "mine").rmdir()
    (notes / "config.json").unlink()
    detector.save(saved)  # a detector may be replaced
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "saved"]
    assert (notes / "important.txt").read_text() == "keep me"
    assert read_folder(saved).detector == "rwda"
    with pytest.raises(UsageError, match="cannot be written to"):
        detector.save(notes / "important.txt" / "below")


def test_what_cannot_be_written_leaves_nothing(saved: Path, tmp_path: Path) -> None:
    content = read_folder(saved)
    content.words["bad"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_folder(tmp_path / "new", content)
    assert not (tmp_path / "new").exists()


def test_only_place_and_type_may_change_on_load(saved: Path) -> None:
    assert load(saved, device="cpu", dtype="bfloat16").is_fitted
    with pytest.raises(UsageError, match="not 'n_pairs'"):
        load(saved, n_pairs=3)
    for name, says in (("clip", "must be fitted first"), ("rwad", "there is no saved detector .* 'rwda'")):
        with pytest.raises(UsageError, match=says):
            load(name)
    for path, says in ((saved / "words.json", "it is a file"), (saved / "nowhere", "it does not exist")):
        with pytest.raises(DetectorError, match=f"is not a saved detector: {says}"):
            load(path)
    with pytest.raises(DetectorError, match=r"has no config\.json"):
        load(saved.parent)
