"""Weights folders: what is written comes back, and all that is not right is refused in one sentence."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from conftest import random_model, tiny_config
from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.files import sha256
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.catalogue import REGISTRY, WeightsRecord, find_model
from zeroflaw.towers.configs import CLIPConfig, StemConfig, TextConfig, VisionConfig, from_json
from zeroflaw.towers.folder import fill, load_folder, save_folder
from zeroflaw.towers.model import CLIP
from zeroflaw.towers.tokenizer import Tokenizer
from zeroflaw.towers.weights import load_backbone


@pytest.fixture
def folder(tiny_backbone: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(tiny_backbone, tmp_path / "copy"))


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(raw)
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change tensors and make the recorded sha256 agree, so that only the content is wrong."""
    path = folder / "model.safetensors"
    state = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(state)
    save_file(state, path)
    change_config(folder, lambda raw: raw["sha256"].update({"model.safetensors": sha256(path)}))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        load_backbone(f"local-dir:{folder}", device="cpu")
    assert "\n" not in str(caught.value)


def save(folder: Path, source: Path, **changes: Any) -> WeightsRecord:
    """Save what is in ``source`` once more."""
    found = load_folder(source)
    return save_folder(folder, found.model, found.tokenizer, found.preprocess, found.record, **changes)


def test_what_is_saved_comes_back(tiny_backbone: Path) -> None:
    bundle = load_folder(tiny_backbone)
    assert bundle.model.config == tiny_config()
    wanted = random_model(tiny_config()).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in bundle.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in bundle.model.parameters())
    assert (bundle.record.name, bundle.record.revision) == ("tiny", "1")
    assert bundle.record.sha256 == sha256(tiny_backbone / "model.safetensors")
    assert bundle.preprocess == Preprocess(image_size=48)
    assert {path.name for path in tiny_backbone.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
    }
    card = (tiny_backbone / "README.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in card
    assert bundle.record.sha256 in card


def test_saving_twice_gives_the_same_bytes(tiny_backbone: Path, tmp_path: Path) -> None:
    save(tmp_path / "again", tiny_backbone)
    for path in tiny_backbone.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_half_precision_on_disk_is_half_as_large_and_close(tiny_backbone: Path, tmp_path: Path) -> None:
    save(tmp_path / "half", tiny_backbone, half=True)
    half = load_folder(tmp_path / "half").model.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in half.values())
    for name, tensor in load_folder(tiny_backbone).model.state_dict().items():
        torch.testing.assert_close(half[name], tensor, rtol=1e-3, atol=1e-6)
    sizes = [(path / "model.safetensors").stat().st_size for path in (tiny_backbone, tmp_path / "half")]
    assert sizes[1] < 0.6 * sizes[0]


def test_half_precision_that_would_overflow_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    bundle = load_folder(tiny_backbone)
    bundle.model.logit_scale.data.fill_(1e6)
    parts = bundle.model, bundle.tokenizer, bundle.preprocess, bundle.record
    with pytest.raises(WeightsError, match=r"as torch\.float16 must be finite"):
        save_folder(tmp_path / "half", *parts, half=True)
    assert not list(tmp_path.iterdir())


def test_folders_made_from_others_keep_their_identity(tiny_backbone: Path, tmp_path: Path) -> None:
    origin = {"model.safetensors": "1" * 64, "tokenizer.json": "2" * 64}
    assert save(tmp_path / "copy", tiny_backbone, origin=origin).sha256 == "1" * 64
    found = load_folder(tmp_path / "copy")
    assert found.tokenizer is not None
    assert (found.record.sha256, found.tokenizer.sha256, found.origin) == ("1" * 64, "2" * 64, origin)
    half = save(tmp_path / "half", tiny_backbone, origin=origin, half=True)  # other numbers
    assert half.sha256 == sha256(tmp_path / "half" / "model.safetensors")


def test_an_existing_folder_is_only_replaced_on_request(folder: Path, tiny_backbone: Path) -> None:
    with pytest.raises(UsageError, match="new or empty folder"):
        save(folder, tiny_backbone)
    save(folder, tiny_backbone, overwrite=True, half=True)
    assert load_file(folder / "model.safetensors")["text.positions"].dtype == torch.float16
    assert [path.name for path in folder.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"model_type": "clip"}', '{"kind": "other"}'])
def test_what_is_no_weights_folder_of_ours_is_never_replaced(
    text: str | None, folder: Path, tiny_backbone: Path
) -> None:
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text, encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match="only a weights folder of zeroflaw may be overwritten"):
        save(folder, tiny_backbone, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["thesis.txt", ".git/HEAD"])
def test_foreign_files_survive(name: str, folder: Path, tiny_backbone: Path) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match=rf"may hold nothing else, got '{name.split('/')[0]}'"):
        save(folder, tiny_backbone, overwrite=True)
    assert (folder / name).read_text(encoding="utf-8") == "years of work"


def test_destinations_that_cannot_be_are_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    for target in (tmp_path / "file" / "x", tmp_path / "file" / "x" / "y", tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match=r"can be written|can be made"):
            save(target, tiny_backbone)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_folder(
    folder: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "disk full")

    monkeypatch.setattr("zeroflaw.towers.folder.write_json", fail)
    with pytest.raises(UsageError, match=r"can be written.*disk full"):
        save(folder, tiny_backbone, overwrite=True)
    assert load_folder(folder).record.name == "tiny"
    assert [path.name for path in folder.parent.iterdir()] == ["copy"]


def test_a_model_with_a_stem_comes_back(clip_vocabulary: Path, tmp_path: Path) -> None:
    four = dict.fromkeys(("repeats", "expansions"), (1,) * 4) | {
        "kernels": (3,) * 4,
        "channels": (4,) * 4,
    }
    stem = StemConfig(first=8, strides=(2, 2, 2, 1), context=8, **four)
    shape = {"width": 16, "layers": 1, "heads": 2, "mlp_width": 16}
    config = CLIPConfig(
        embed_dim=8,
        vision=VisionConfig(image_size=80, patch_size=16, patch_projection=True, stem=stem, **shape),
        text=TextConfig(context_length=77, vocab_size=1024, **shape),
    )
    model = random_model(config)
    tokenizer = Tokenizer.read(clip_vocabulary, context_length=77)
    save_folder(tmp_path / "stem", model, tokenizer, Preprocess(image_size=80), WeightsRecord(name="stem"))
    found = load_folder(tmp_path / "stem").model
    pixels = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    assert found.config == config
    assert all(
        torch.equal(a, b)
        for a, b in zip(found.state_dict().values(), model.state_dict().values(), strict=True)
    )
    # A random stem amplifies the last digit, which differs between memory addresses.
    torch.testing.assert_close(found.vision(pixels).image, model.vision(pixels).image, atol=1e-2, rtol=0)


def test_building_without_memory_leaves_the_compiler_alone() -> None:
    code = (
        "import sys; from zeroflaw.towers.weights import load_backbone; load_backbone('mini', device='cpu')\n"
        "sys.exit('torch._dynamo' in sys.modules or 'huggingface_hub' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_networks_that_are_trained_start_from_random_numbers() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = CLIP(tiny_config()).requires_grad_(False).text
    assert float(tower.token_embedding.weight.std()) == pytest.approx(1, abs=0.02)
    assert float(tower.positions.std()) == pytest.approx(0.01, rel=0.1)


# What is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_flipped_bit_is_refused_with_both_hashes(name: str, folder: Path) -> None:
    wanted = sha256(folder / name)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    refused(folder, f"{re.escape(name)} is damaged.*{wanted} was wanted, got {sha256(folder / name)}")


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    change_config(folder, lambda raw: raw["sha256"].update({"model.safetensors": sha256(path)}))
    refused(folder, "must be a safetensors file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("text.ln_final.weight"), r"tensor 'text\.ln_final\.weight' is missing"),
        (lambda state: state.update(bias=torch.zeros(1)), "tensor 'bias' is not part of this network"),
        (
            lambda state: state["vision.projection"].view(-1)[7:8].fill_(torch.nan),
            "'vision.projection'.*finite",
        ),
        (lambda state: state["vision.projection"].view(-1)[7:8].fill_(-torch.inf), "must be finite"),
        (lambda state: state["logit_scale"].fill_(1000), "'logit_scale'.*at most 20"),
        (
            lambda state: state.update({"text.positions": state["text.positions"].int()}),
            "real numbers.*int32",
        ),
    ],
)
def test_wrong_tensors_are_refused(
    change: Callable[[dict[str, torch.Tensor]], object], message: str, folder: Path
) -> None:
    change_tensors(folder, change)
    refused(folder, message)


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    bundle = load_folder(folder)
    small = random_model(tiny_config(vocab_size=300))
    save_folder(folder, small, bundle.tokenizer, bundle.preprocess, bundle.record, overwrite=True)
    refused(folder, r"at most 300 tokens.*got 7\d\d")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_a_bare_file_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "model.safetensors", tmp_path / name)
    refused(tmp_path / name, r"must be a folder with configuration.*a bare file.*zeroflaw convert")


def test_paths_without_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "does not exist")
    refused(Path("x" * 300), "must be a path that can be read")
    (folder / "model.safetensors").unlink()
    refused(folder, r"model\.safetensors' does not exist")
    os.mkfifo(folder / "model.safetensors")
    refused(folder, "is a pipe")
    (folder / "config.json").unlink()
    refused(folder, r"needs config\.json.*open_clip_config\.json.*has README\.md, model\.safetensors")
    os.mkfifo(folder / "config.json")
    refused(folder, r"needs config\.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(schema=2), "schema must be 1"),
        (lambda raw: raw.update(kind="zeroflaw-autoencoder"), "must be of a zeroflaw-backbone, got"),
        (lambda raw: raw.pop("sha256"), "sha256 is missing"),
        (lambda raw: raw["sha256"].update({"../../x": "0" * 64}), "must give the sha256"),
        (lambda raw: raw["sha256"].update({"tokenizer.json": "0"}), "sha256.*got '0'"),
        (lambda raw: raw.update(origin=3), "origin must be"),
        (lambda raw: raw.pop("model"), "model is missing"),
        (lambda raw: raw["model"].update(widht=3), "no 'widht'"),
        (lambda raw: raw["model"].pop("embed_dim"), "embed_dim is missing"),
        (lambda raw: raw["model"]["text"].update(heads=5), "multiple of its heads"),
        (lambda raw: raw["model"]["text"].update(width=64), r"must be of real numbers with shape \(.*64.*32"),
        (lambda raw: raw["model"]["text"].update(width=True), r"text\.width must be a valid integer"),
        (
            lambda raw: raw["model"]["text"].update(layers=0),
            r"text\.layers must be greater than or equal to 1",
        ),
        (lambda raw: raw["model"]["vision"].update(image_size=47), "multiple of patch_size"),
        (lambda raw: raw["model"]["vision"].update(activation="relu"), "'gelu' or 'quick_gelu'"),
        (lambda raw: raw["model"]["vision"].update(ln_pre="yes"), "ln_pre must be a valid boolean"),
        (lambda raw: raw["model"]["vision"].update(stem={"repeats": [1]}), "4 to 64"),
        (lambda raw: raw["preprocess"].update(mean=[0, 0]), r"preprocess\.mean"),
        (lambda raw: raw["preprocess"].update(std=[0, 1, 1]), "must be greater than 0"),
        (
            lambda raw: raw["preprocess"].update(mean=["a", 0, 0]),
            r"preprocess\.mean\.0 must be a valid number",
        ),
        (lambda raw: raw["preprocess"].update(mean=[10**400, 0, 0]), r"preprocess\.mean\.0"),
        (lambda raw: raw["preprocess"].update(image_size=4), "at least one patch"),
        (lambda raw: raw["preprocess"].update(resize="crop"), "'squash' or 'shortest'"),
    ],
)
def test_wrong_configurations_are_refused(
    change: Callable[[dict[str, Any]], object], message: str, folder: Path
) -> None:
    change_config(folder, change)
    refused(folder, message)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, '{"kind": NaN}', " " * (5 * 2**20)])
def test_files_that_are_no_configuration_are_refused(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError, match="configuration"):
        load_folder(folder)


@pytest.mark.parametrize("tower", ["vision", "text"])
@pytest.mark.parametrize("key", ["width", "layers", "heads", "mlp_width"])
def test_absurd_numbers_fail_at_once(tower: str, key: str) -> None:
    raw = asdict(tiny_config())
    raw[tower][key] = 10**12
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=rf"{tower}\.{key} must be less than .*got 1000000000000"):
        from_json(CLIPConfig, json.dumps(raw), "here")
    assert time.perf_counter() - start < 0.05


def test_the_largest_configuration_that_passes_takes_no_memory() -> None:
    """What the ceilings let through is compared with the file before anything of its size is made."""
    raw = asdict(tiny_config())
    raw["text"] |= {"width": 8192, "mlp_width": 65536, "vocab_size": 1_000_000}
    config = from_json(CLIPConfig, json.dumps(raw), "here")
    with pytest.raises(WeightsError, match="is missing"):
        fill(config, {}, None, Preprocess(image_size=48), WeightsRecord(name="none"), "an empty file")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
PATHS = [
    "",
    "vision",
    "text",
    "embed_dim",
    "vision.stem",
    "vision.width",
    "text.activation",
    "text.vocab_size",
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=st.sampled_from(PATHS), value=JSON)
def test_any_json_is_a_configuration_or_refused(path: str, value: Any) -> None:
    raw: Any = asdict(tiny_config())
    inner = raw
    *parents, last = path.split(".")
    for key in parents:
        inner = inner[key]
    inner[last] = value
    with contextlib.suppress(WeightsError), torch.device("meta"):  # anything else is a crash
        CLIP(from_json(CLIPConfig, json.dumps(raw if path else value), "here"))


# Names ------------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(WeightsError, match=r"did you mean 'ViT-B-16-plus-240/laion400m_e3"):
        find_model("ViT-B-16-plus-240/laion400m_e33")


def test_the_catalogue_holds_the_promised_names_and_no_invented_revision() -> None:
    e31 = "ViT-B-16-plus-240/laion400m_e31"
    openai = {f"{name}/openai" for name in ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336")}
    laion = {"ViT-B-32/laion2b_s34b_b79k", "ViT-B-16/laion2b_s34b_b88k", "ViT-L-14/laion2b_s32b_b82k"}
    wanted = {"mini", e31, "ViT-B-16-plus-240/laion400m_e32", "ViT-H-14/laion2b_s32b_b79k"}
    assert REGISTRY.keys() == wanted | openai | laion
    known = {name: model.revision for name, model in REGISTRY.items() if model.revision is not None}
    assert known == {e31: "6dbe024bee4f13f90ad3676d92957e68868a616d"}
    sources = [model.source for model in REGISTRY.values()]
    assert len(set(sources)) == len(sources)  # open_clip sends two epochs to one repository


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "mini"])
def test_every_model_of_the_catalogue_can_be_built(name: str) -> None:
    config = REGISTRY[name].config
    assert config is not None
    with torch.device("meta"):
        model = CLIP(config)
    assert config.vision.activation == config.text.activation
    assert config.vision.activation == ("quick_gelu" if name.endswith("/openai") else "gelu")
    # Numbers of parameters as their papers and repositories state them, in millions.
    millions = {"ViT-B-32": 151, "ViT-B-16-plus-240": 208, "ViT-L-14": 428, "ViT-H-14": 986}
    count = round(sum(parameter.numel() for parameter in model.parameters()) / 1e6)
    assert count == millions.get(name.split("/")[0], count)


def test_the_catalogue_needs_no_torch() -> None:
    code = "import sys, zeroflaw.towers.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_device_that_is_not_there_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the device must be auto or one that this machine has"):
        load_backbone(f"local-dir:{tmp_path}", device="tpu")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the number type must be one of float32, bfloat16"):
        load_backbone(f"local-dir:{tmp_path}", device="cpu", dtype="int8")  # type: ignore[arg-type]
