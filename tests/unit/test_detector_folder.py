"""Saved detectors: whatever is wrong with a folder is said in a sentence that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from zeroflaw import RWDA, DetectorError, UsageError, load
from zeroflaw.detectors import make
from zeroflaw.files import sha256
from zeroflaw.runtime.folder import read_folder


@pytest.fixture
def saved(tmp_path: Path, tiny_backbone: Path) -> Path:
    """A small saved detector."""
    folder = tmp_path / "saved"
    RWDA(backbone=f"local-dir:{tiny_backbone}", n_pairs=10, epochs=1, hidden=(8,)).fit().save(folder)
    return folder


def edit_config(folder: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def replace_head(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change tensors and make the recorded digest right again."""
    tensors = load_file(folder / "head.safetensors")
    change(tensors)
    save_file(tensors, folder / "head.safetensors")
    digest = sha256(folder / "head.safetensors")
    edit_config(folder, lambda config: config["sha256"].update({"head.safetensors": digest}))


def test_a_folder_holds_json_safetensors_and_a_card(saved: Path) -> None:
    assert sorted(p.name for p in saved.iterdir()) == [
        "README.md",
        "config.json",
        "head.safetensors",
        "words.json",
    ]
    config = json.loads((saved / "config.json").read_text())
    assert config["detector"] == "rwda"
    assert len(config["backbone"]["sha256"]) == 64
    assert len(json.loads((saved / "words.json").read_text())["pairs"]) == 10


@pytest.mark.parametrize("name", ["head.safetensors", "words.json"])
def test_a_flipped_bit_is_found(saved: Path, name: str) -> None:
    data = bytearray((saved / name).read_bytes())
    data[len(data) // 2] ^= 1
    (saved / name).write_bytes(data)
    with pytest.raises(DetectorError, match=rf"{name} is damaged: sha256 .* was wanted"):
        load(saved)


@pytest.mark.parametrize("name", ["config.json", "head.safetensors", "words.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(DetectorError, match=name):
        load(saved)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(schema=99), "schema 99"),
        (lambda c: c.pop("backbone"), "needs"),
        (lambda c: c.update(detector="other"), "'other'"),
        (lambda c: c["parameters"].update(n_pears=3), "n_pairs"),
        (lambda c: c["parameters"].update(hidden=[10**12]), "hidden"),
        (lambda c: c["parameters"].update(hidden=[16]), "shape"),
        (lambda c: c["parameters"].update(hidden=[8, 8]), "tensors"),
        (lambda c: c["parameters"].update(fusion="nothing"), "fusion"),
        (lambda c: c["parameters"].update(seed="zero"), "seed"),
        (lambda c: c["backbone"].update(sha256="0" * 64), "fitted on backbone"),
        (lambda c: c["sha256"].pop("words.json"), "sha256"),
        (lambda c: c["backbone"].update(fingerprint="0"), "configuration, preprocessing and tokenizer"),
        (lambda c: c["parameters"].update(backbone=5), "backbone must be text"),
        (lambda c: c["parameters"].update(dtype={}), "dtype must be text"),
        (lambda c: c["parameters"].update(position="zzz"), "position must be one of"),
        (lambda c: c["parameters"].update(image_in_map="no"), "image_in_map must be true or false"),
        (lambda c: c["parameters"].update(window_sizes=[9]), "window size"),
        (lambda c: c["parameters"].update(hidden=[65536] * 9), "tensors"),
    ],
)
def test_a_wrong_config_is_refused(saved: Path, change: Callable[[dict], None], says: str) -> None:  # type: ignore[type-arg]
    edit_config(saved, change)
    with pytest.raises(DetectorError, match=says):
        load(saved)


def test_deep_nesting_is_refused(saved: Path) -> None:
    (saved / "config.json").write_text("[" * 200_000)
    with pytest.raises(DetectorError, match="is not JSON"):
        load(saved)


def test_config_that_is_not_json_is_refused(saved: Path) -> None:
    (saved / "config.json").write_text("{")
    with pytest.raises(DetectorError, match="is not JSON"):
        load(saved)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("prompt.weight"), "prompt.weight"),
        (lambda t: t.update({"more": torch.ones(2)}), "more"),
        (lambda t: t["prompt.weight"].fill_(float("nan")), "not finite"),
        (lambda t: t.update({"prompt.weight": torch.ones(3)}), "shape"),
        (
            lambda t: t.update({"prompt.weight": torch.ones(24).half()}),
            "float32 or int64 numbers, got torch.float16",
        ),
        (lambda t: t.update({"prompt.weight": torch.ones(24).to(torch.float8_e4m3fn)}), "float8"),
        (
            lambda t: t.update({"prompt.weight": torch.ones(24).long()}),
            "must hold torch.float32 numbers, got torch.int64",
        ),
    ],
)
def test_wrong_tensors_are_refused(
    saved: Path, change: Callable[[dict[str, torch.Tensor]], None], says: str
) -> None:
    replace_head(saved, change)
    with pytest.raises(DetectorError, match=says):
        load(saved)


@pytest.mark.parametrize("change", [lambda w: w.pop("example"), lambda w: w.update(example=None)])
def test_words_without_what_the_model_card_says_are_refused(
    saved: Path,
    change: Callable[[dict], None],  # type: ignore[type-arg]
) -> None:
    words = json.loads((saved / "words.json").read_text())
    change(words)
    (saved / "words.json").write_text(json.dumps(words))
    digest = sha256(saved / "words.json")
    edit_config(saved, lambda config: config["sha256"].update({"words.json": digest}))
    with pytest.raises(DetectorError, match=r"words\.json does not hold the words"):
        load(saved)


def test_scores_of_parts_that_are_no_numbers_are_never_returned(saved: Path) -> None:
    def huge(tensors: dict[str, torch.Tensor]) -> None:
        tensors["prompt.weight"] = torch.full_like(tensors["prompt.weight"], 3e38)

    replace_head(saved, huge)
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    with pytest.raises(DetectorError, match="not finite numbers"):
        list(load(saved).predict([picture], maps=True))


def test_a_long_wrong_value_is_cut() -> None:
    with pytest.raises(
        UsageError, match=r"templates must be several of: text, got \('a \{\}', .{60,110}\.\.\.$"
    ):
        make("clip", templates=("a {}",) * 90 + (5,)).fit()


def test_a_pickle_is_no_head(saved: Path) -> None:
    torch.save({"prompt.weight": torch.ones(24)}, saved / "head.safetensors")
    digest = sha256(saved / "head.safetensors")
    edit_config(saved, lambda config: config["sha256"].update({"head.safetensors": digest}))
    with pytest.raises(DetectorError, match="not a complete detector folder"):
        load(saved)


def test_saving_over_something_else_is_refused(saved: Path, tmp_path: Path) -> None:
    detector = load(saved)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "important.txt").write_text("keep me")
    with pytest.raises(UsageError, match="something else"):
        detector.save(tmp_path / "notes")
    (tmp_path / "notes" / "config.json").write_text("{}")  # any program's config makes no detector
    with pytest.raises(UsageError, match="something else"):
        detector.save(tmp_path / "notes")
    (saved / "mine.txt").write_text("keep me too")
    with pytest.raises(UsageError, match="something else"):
        detector.save(saved)
    (saved / "mine.txt").unlink()
    (tmp_path / "notes" / "config.json").unlink()
    assert (tmp_path / "notes" / "important.txt").read_text() == "keep me"
    detector.save(saved)  # a detector may be replaced
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "saved"]
    assert read_folder(saved).detector == "rwda"


def test_only_place_and_type_may_change_on_load(saved: Path) -> None:
    assert load(saved, device="cpu").is_fitted
    with pytest.raises(UsageError, match="not 'n_pairs'"):
        load(saved, n_pairs=3)
