"""Weights folders: what is written comes back, and everything that is not right is refused in one "
"sentence."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
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
from zeroflaw.towers.folder import load_folder, save_folder
from zeroflaw.towers.model import CLIPConfig, TextConfig, VisionConfig
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.records import REGISTRY, WeightsRecord, find_record
from zeroflaw.towers.schema import build, empty_model, read_config, to_json
from zeroflaw.towers.stem import StemConfig
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
        load_folder(folder)
    assert "\n" not in str(caught.value)


def test_what_is_saved_comes_back(tiny_backbone: Path) -> None:
    bundle = load_folder(tiny_backbone)
    assert bundle.model.config == tiny_config()
    wanted = random_model(tiny_config()).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in bundle.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in bundle.model.parameters())
    assert (bundle.record.name, bundle.record.revision) == ("tiny", "1")
    assert bundle.record.sha256 == sha256(tiny_backbone / "model.safetensors")
    assert bundle.preprocess == Preprocess(image_size=48)


def test_the_folder_holds_json_safetensors_and_a_card_that_names_licence_and_hash(
    tiny_backbone: Path,
) -> None:
    names = {path.name for path in tiny_backbone.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    card = (tiny_backbone / "README.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in card
    assert sha256(tiny_backbone / "model.safetensors") in card


def test_saving_twice_gives_the_same_bytes(tiny_backbone: Path, tmp_path: Path) -> None:
    bundle = load_folder(tiny_backbone)
    save_folder(tmp_path / "again", bundle.model, bundle.tokenizer, bundle.preprocess, bundle.record)
    for path in tiny_backbone.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_half_precision_on_disk_is_half_as_large_and_close(tiny_backbone: Path, tmp_path: Path) -> None:
    bundle = load_folder(tiny_backbone)
    save_folder(
        tmp_path / "half", bundle.model, bundle.tokenizer, bundle.preprocess, bundle.record, half=True
    )
    half = load_folder(tmp_path / "half").model.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in half.values())
    for name, tensor in bundle.model.state_dict().items():
        torch.testing.assert_close(half[name], tensor, rtol=1e-3, atol=1e-6)
    sizes = [(path / "model.safetensors").stat().st_size for path in (tiny_backbone, tmp_path / "half")]
    assert sizes[1] < 0.6 * sizes[0]


def test_half_precision_that_would_overflow_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    bundle = load_folder(tiny_backbone)
    bundle.model.logit_scale.data.fill_(1e6)
    with pytest.raises(WeightsError, match=r"finite numbers as torch\.float16"):
        save_folder(
            tmp_path / "half", bundle.model, bundle.tokenizer, bundle.preprocess, bundle.record, half=True
        )
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_only_replaced_on_request(folder: Path, tiny_backbone: Path) -> None:
    bundle = load_folder(tiny_backbone)
    parts = bundle.model, bundle.tokenizer, bundle.preprocess, WeightsRecord(name="second")
    with pytest.raises(UsageError, match="new or empty folder"):
        save_folder(folder, *parts)
    save_folder(folder, *parts, overwrite=True)
    assert load_folder(folder).record.name == "second"
    assert [path.name for path in folder.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"model_type": "clip"}', '{"kind": "other"}'])
def test_what_is_no_weights_folder_of_ours_is_never_replaced(text: str | None, folder: Path) -> None:
    bundle = load_folder(folder)
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text, encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match="only a weights folder of zeroflaw may be overwritten"):
        save_folder(folder, bundle.model, bundle.tokenizer, bundle.preprocess, bundle.record, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["thesis.txt", ".git/HEAD"])
def test_foreign_files_survive(name: str, folder: Path) -> None:
    bundle = load_folder(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match=rf"may hold nothing else, got '{name.split('/')[0]}'"):
        save_folder(folder, bundle.model, bundle.tokenizer, bundle.preprocess, bundle.record, overwrite=True)
    assert (folder / name).read_text(encoding="utf-8") == "years of work"
    assert load_folder(folder).record.name == "tiny"


def test_destinations_that_cannot_be_are_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    bundle = load_folder(tiny_backbone)
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    for target in (tmp_path / "file" / "x", tmp_path / "file" / "x" / "y", tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match="destination must be a folder that can be written") as caught:
            save_folder(target, bundle.model, bundle.tokenizer, bundle.preprocess, bundle.record)
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_folder(folder)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("zeroflaw.towers.folder.write_json", fail)
    with pytest.raises(UsageError, match=r"can be written.*disk full"):
        save_folder(folder, bundle.model, bundle.tokenizer, bundle.preprocess, bundle.record, overwrite=True)
    assert load_folder(folder).record.name == "tiny"
    assert [path.name for path in folder.parent.iterdir()] == ["copy"]


def test_a_model_with_a_stem_comes_back(clip_vocabulary: Path, tmp_path: Path) -> None:
    stem = StemConfig(
        first=8,
        repeats=(1, 1, 1, 1),
        strides=(2, 2, 2, 1),
        channels=(4, 4, 4, 4),
        kernels=(3,) * 4,
        expansions=(1,) * 4,
        context=8,
    )
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
    assert torch.equal(found.vision(pixels).image, model.vision(pixels).image)


# What is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_flipped_bit_is_refused_with_both_hashes(name: str, folder: Path) -> None:
    wanted = sha256(folder / name)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    got = sha256(folder / name)
    refused(folder, f"{re.escape(name)} is damaged.*{wanted} was wanted, got {got}")


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    refused(folder, "is damaged")
    change_config(folder, lambda raw: raw["sha256"].update({"model.safetensors": sha256(path)}))
    refused(folder, "must be a safetensors file")


def test_a_missing_tensor_is_refused(folder: Path) -> None:
    change_tensors(folder, lambda state: state.pop("text.ln_final.weight"))
    refused(folder, r"tensor 'text\.ln_final\.weight' is missing")


def test_an_unexpected_tensor_is_refused(folder: Path) -> None:
    change_tensors(folder, lambda state: state.update({"logit_bias": torch.zeros(1)}))
    refused(folder, "tensor 'logit_bias' is not part of this model")


def test_a_wrong_width_is_refused(folder: Path) -> None:
    change_config(folder, lambda raw: raw["model"]["text"].update({"width": 64}))
    refused(
        folder,
        r"tensor '\S+' in \S+ must be of real numbers with shape \(.*64.*\), got torch\.float32 \(.*32",
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float, folder: Path) -> None:
    change_tensors(folder, lambda state: state["vision.projection"].view(-1)[7:8].fill_(value))
    refused(folder, r"tensor 'vision\.projection'.*must be finite")


def test_an_absurd_logit_scale_is_refused(folder: Path) -> None:
    change_tensors(folder, lambda state: state["logit_scale"].fill_(1000))
    refused(folder, "'logit_scale'.*at most 20")


def test_whole_numbers_are_refused(folder: Path) -> None:
    change_tensors(
        folder, lambda state: state.update({"text.positions": state["text.positions"].to(torch.int32)})
    )
    refused(folder, r"'text\.positions'.*real numbers.*int32")


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    bundle = load_folder(folder)
    small = random_model(tiny_config(vocab_size=300))
    record = WeightsRecord(name="small")
    save_folder(folder, small, bundle.tokenizer, bundle.preprocess, record, overwrite=True)
    refused(folder, r"at most 300 tokens.*got 7\d\d")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_a_bare_file_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    shutil.copy(folder / "model.safetensors", path)
    with pytest.raises(WeightsError, match=r"must be a folder with configuration.*zeroflaw convert"):
        load_backbone(f"local-dir:{path}", device="cpu")


def test_a_folder_without_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    refused(folder, r"needs config\.json.*open_clip_config\.json.*has README\.md, model\.safetensors")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "folder that exists")


def test_a_name_that_cannot_be_is_refused() -> None:
    refused(Path("x" * 300), "must be a path that can be read")
    with pytest.raises(WeightsError, match="must be a path that can be read"):
        load_backbone(f"local-dir:{'x' * 300}", device="cpu")


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    refused(folder, r"model\.safetensors must be a file that can be read")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(schema=2), "must have schema 1, got 2"),
        (lambda raw: raw.pop("sha256"), "must give the sha256"),
        (lambda raw: raw["sha256"].update({"../../x": "0"}), "must give the sha256"),
        (lambda raw: raw.pop("model"), "'model' must be a JSON object"),
        (lambda raw: raw["model"].update(widht=3), "'model' has no key 'widht'"),
        (lambda raw: raw["model"].pop("embed_dim"), "must have a key 'embed_dim'"),
        (lambda raw: raw["model"]["text"].update(heads=5), "multiple of its heads"),
        (lambda raw: raw["model"]["text"].update(width=True), "whole number from 1 to"),
        (lambda raw: raw["model"]["text"].update(layers=0), "whole number from 1 to"),
        (lambda raw: raw["model"]["vision"].update(image_size=47), "multiple of patch_size"),
        (lambda raw: raw["model"]["vision"].update(activation="relu"), "one of 'gelu', 'quick_gelu'"),
        (lambda raw: raw["model"]["vision"].update(ln_pre="yes"), "true or false"),
        (lambda raw: raw["preprocess"].update(mean=[0, 0]), "list of 3 values"),
        (lambda raw: raw["preprocess"].update(std=[0, 1, 1]), "std must be above zero"),
        (lambda raw: raw["preprocess"].update(mean=["a", 0, 0]), "a finite number"),
        (lambda raw: raw["preprocess"].update(mean=[10**400, 0, 0]), "a finite number"),
        (lambda raw: raw["preprocess"].update(image_size=4), "at least one patch"),
        (lambda raw: raw["preprocess"].update(resize="crop"), "one of 'squash', 'shortest'"),
    ],
)
def test_wrong_configurations_are_refused(
    change: Callable[[dict[str, Any]], object], message: str, folder: Path
) -> None:
    change_config(folder, change)
    refused(folder, message)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, '{"kind": NaN}'])
def test_files_that_are_no_configuration_are_refused(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError):
        load_folder(folder)


def test_a_huge_configuration_file_is_not_read(folder: Path) -> None:
    (folder / "config.json").write_bytes(b" " * (5 * 2**20))
    refused(folder, "small JSON file")


@pytest.mark.parametrize("tower", ["vision", "text"])
@pytest.mark.parametrize("key", ["width", "layers", "heads", "mlp_width"])
def test_absurd_numbers_fail_at_once(tower: str, key: str) -> None:
    raw = to_json(tiny_config())
    raw[tower][key] = 10**12
    start = time.perf_counter()
    with pytest.raises(
        WeightsError, match=f"'model.{tower}.{key}' must be a whole number from 1 to .*got 1000000000000"
    ):
        read_config(raw)
    assert time.perf_counter() - start < 0.05


def test_the_largest_configuration_that_passes_takes_no_memory() -> None:
    """What the ceilings let through is compared with the file before anything of its size is made."""
    raw = to_json(tiny_config())
    raw["text"] |= {"width": 8192, "mlp_width": 65536, "vocab_size": 1_000_000}
    with pytest.raises(WeightsError, match="is missing"):
        build(read_config(raw), {}, "an empty file")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    path=st.sampled_from(
        [
            (),
            ("vision",),
            ("text",),
            ("embed_dim",),
            ("vision", "stem"),
            ("vision", "width"),
            ("text", "activation"),
            ("vision", "patch_projection"),
            ("text", "vocab_size"),
        ]
    ),
    value=JSON,
)
def test_any_json_is_a_configuration_or_refused(path: tuple[str, ...], value: Any) -> None:
    raw: Any = to_json(tiny_config())
    if not path:
        raw = value
    else:
        inner = raw
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
    with contextlib.suppress(WeightsError):  # anything else is a crash
        empty_model(read_config(raw))


# Names ------------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(WeightsError, match=r"did you mean 'ViT-B-16-plus-240/laion400m_e3"):
        find_record("ViT-B-16-plus-240/laion400m_e33")


def test_the_registry_holds_the_promised_names() -> None:
    assert {
        "mini",
        "ViT-B-16-plus-240/laion400m_e31",
        "ViT-B-16-plus-240/laion400m_e32",
        "ViT-B-32/openai",
        "ViT-B-16/openai",
        "ViT-L-14/openai",
        "ViT-L-14-336/openai",
        "ViT-B-32/laion2b_s34b_b79k",
        "ViT-B-16/laion2b_s34b_b88k",
        "ViT-L-14/laion2b_s32b_b82k",
        "ViT-H-14/laion2b_s32b_b79k",
    } <= REGISTRY.keys()


def test_two_names_never_share_a_repository() -> None:
    """open_clip sends two epochs of ViT-B-16-plus-240 to one repository; this table must not."""
    sources = [record.source for record in REGISTRY.values()]
    assert len(set(sources)) == len(sources)


def test_no_revision_or_hash_is_invented() -> None:
    for record in REGISTRY.values():
        assert record.revision in (None, "main")
        assert record.sha256 is None


def test_the_table_of_names_needs_no_torch() -> None:
    code = "import sys, zeroflaw.towers.records; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_device_that_is_not_there_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the device must be auto or one that this machine has"):
        load_backbone(f"local-dir:{tmp_path}", device="tpu")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the number type must be one of float32, bfloat16"):
        load_backbone(f"local-dir:{tmp_path}", device="cpu", dtype="int8")  # type: ignore[arg-type]
