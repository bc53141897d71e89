"""Conversion: every readable layout becomes our folder, and nothing in a checkpoint is ever run."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from published import open_clip_json, openai_state, oracle, write_hugging_face, write_open_clip
from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.towers.folder import load_folder
from zeroflaw.towers.importing import convert
from zeroflaw.towers.weights import load_backbone

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def theirs() -> Any:
    return oracle(activation="quick_gelu")


@pytest.fixture
def checkpoint(theirs: Any, tmp_path: Path, clip_vocabulary: Path) -> Path:
    """A pickled state dict in OpenAI's layout beside the tokenizer, without a configuration."""
    folder = tmp_path / "weights"
    shutil.copytree(clip_vocabulary, folder)
    torch.save(openai_state(theirs), folder / "model.pt")
    return folder / "model.pt"


def same_embeddings(folder: Path, theirs: Any) -> None:
    backbone = load_backbone(f"local-dir:{folder}", device="cpu")
    ids, ends = backbone.tokenizer.encode(["a photo of a damaged bottle", "screw"])
    padded = torch.nn.functional.pad(ids, (0, 77 - ids.shape[1]))
    theirs.config.text_config.eos_token_id = theirs.text_model.eos_token_id = backbone.tokenizer.end
    side = backbone.preprocess.image_size
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = theirs(pixel_values=pixels, input_ids=padded)
        image, text = backbone.model.vision(pixels).image, backbone.model.text(ids, ends)
    torch.testing.assert_close(image, found.image_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(text, found.text_embeds, rtol=0, atol=1e-5)


def test_published_folders_become_ours(theirs: Any, tmp_path: Path, clip_vocabulary: Path) -> None:
    for write in (write_hugging_face, write_open_clip):
        source = write(theirs, tmp_path / write.__name__, clip_vocabulary)
        target = tmp_path / f"ours-{write.__name__}"
        record = convert(source, target, licence="MIT")
        assert (record.name, record.licence) == (write.__name__, "MIT")
        assert load_folder(target).model.config.vision.activation == "quick_gelu"
        assert json.loads((target / "config.json").read_text(encoding="utf-8"))["kind"] == "zeroflaw-backbone"
        assert load_folder(target).preprocess.mean == (0.5, 0.4, 0.3)
        same_embeddings(target, theirs)


def test_ours_becomes_ours_with_half_the_size_and_another_name(tiny_backbone: Path, tmp_path: Path) -> None:
    record = convert(tiny_backbone, tmp_path / "half", name="half", half=True)
    assert (record.name, record.licence) == ("half", "Apache-2.0")
    assert load_folder(tmp_path / "half").record.sha256 == record.sha256


def test_a_pickled_checkpoint_of_openai_layout(checkpoint: Path, theirs: Any, tmp_path: Path) -> None:
    record = convert(checkpoint, tmp_path / "ours", config="openai")
    assert record.name == "model"
    same_embeddings(tmp_path / "ours", theirs)


def test_a_training_checkpoint_is_unwrapped(checkpoint: Path, theirs: Any, tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in openai_state(theirs).items()}
    torch.save({"epoch": 32, "state_dict": state}, checkpoint)
    convert(checkpoint, tmp_path / "ours", config="openai")
    same_embeddings(tmp_path / "ours", theirs)


@pytest.mark.parametrize("name", ["open_clip_config.json", "given.json"])
def test_a_bare_file_with_an_open_clip_configuration(
    name: str, theirs: Any, tmp_path: Path, clip_vocabulary: Path
) -> None:
    save_file(openai_state(theirs), tmp_path / "bare.safetensors")
    (tmp_path / name).write_text(json.dumps(open_clip_json(theirs)), encoding="utf-8")
    config = None if name == "open_clip_config.json" else tmp_path / name
    convert(tmp_path / "bare.safetensors", tmp_path / "ours", config=config, tokenizer=clip_vocabulary)
    same_embeddings(tmp_path / "ours", theirs)


def test_a_folder_with_only_pickled_weights(theirs: Any, tmp_path: Path, clip_vocabulary: Path) -> None:
    source = write_hugging_face(theirs, tmp_path / "hub", clip_vocabulary)
    (source / "model.safetensors").unlink()
    torch.save(dict(theirs.state_dict()), source / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"one \.safetensors file.*zeroflaw convert"):
        load_backbone(f"local-dir:{source}")
    record = convert(source, tmp_path / "ours")
    assert record.name == "hub"
    same_embeddings(tmp_path / "ours", theirs)


def test_bare_weights_say_what_is_missing(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"does not say its activation and sizes.*give config"):
        convert(checkpoint, tmp_path / "ours")
    with pytest.raises(WeightsError, match=r"tokenizer\.json, or a vocab\.json"):
        convert(checkpoint, tmp_path / "ours", config="openai", tokenizer=tmp_path)
    assert not (tmp_path / "ours").exists()


def test_a_configuration_of_another_size_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tensor '.*' \(and \d+ more\) is missing"):
        convert(checkpoint, tmp_path / "ours", config="ViT-B-32/openai")
    with pytest.raises(WeightsError, match="did you mean 'ViT-B-32/openai'"):
        convert(checkpoint, tmp_path / "ours", config="ViT-B-32/open-ai")


def test_options_that_would_be_ignored_are_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are for bare files"):
        convert(tiny_backbone, tmp_path / "ours", config="openai")


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_a_hugging_face_configuration_with_either_preprocessing_file(
    name: str, theirs: Any, tmp_path: Path, clip_vocabulary: Path
) -> None:
    source = write_hugging_face(theirs, tmp_path / "hub", clip_vocabulary)
    (source / "preprocessor_config.json").rename(source / name)
    torch.save(dict(theirs.state_dict()), tmp_path / "bare.bin")
    convert(tmp_path / "bare.bin", tmp_path / "ours", config=source / "config.json", tokenizer=source)
    assert load_folder(tmp_path / "ours").preprocess.mean == (0.5, 0.4, 0.3)
    same_embeddings(tmp_path / "ours", theirs)


@pytest.mark.parametrize("text", [None, "{", "[1]", '{"image_mean": 1, "image_std": 1}'])
def test_broken_preprocessing_beside_a_configuration_is_refused(
    text: str | None, theirs: Any, tmp_path: Path, clip_vocabulary: Path
) -> None:
    source = write_hugging_face(theirs, tmp_path / "hub", clip_vocabulary)
    (source / "preprocessor_config.json").unlink()
    if text is not None:
        (source / "preprocessor_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError) as caught:
        convert(source / "model.safetensors", tmp_path / "ours", config=source / "config.json")
    assert "pre" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_cannot_be_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    long = Path("x" * 300)
    for given in (
        lambda: convert(long, tmp_path / "ours"),
        lambda: convert(checkpoint, tmp_path / "ours", config=long),
        lambda: convert(checkpoint, tmp_path / "ours", config="openai", tokenizer=long),
    ):
        with pytest.raises(WeightsError, match="must be a path that can be read"):
            given()
    with pytest.raises(UsageError, match="destination must be a folder that can be written"):
        convert(checkpoint, long, config="openai")


# Attacks ----------------------------------------------------------------------------------------------------


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.sentinel, "owned")


def attack_plain(path: Path, sentinel: Path) -> None:
    path.write_bytes(pickle.dumps({"visual.conv1.weight": Attack(sentinel)}))


def attack_old(path: Path, sentinel: Path) -> None:
    path.write_bytes(pickle.dumps({"visual.conv1.weight": Attack(sentinel)}, protocol=2))


def attack_zipped(path: Path, sentinel: Path) -> None:
    torch.save({"visual.conv1.weight": torch.zeros(1), "extra": Attack(sentinel)}, path)


@pytest.mark.parametrize("attack", [attack_plain, attack_old, attack_zipped])
@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_a_malicious_pickle_is_refused_and_never_runs(attack: Any, suffix: str, tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    path = tmp_path / f"evil{suffix}"
    attack(path, sentinel)
    with pytest.raises(WeightsError, match="would run code"):
        convert(path, tmp_path / "ours", config="openai")
    with pytest.raises(WeightsError, match="zeroflaw convert"):
        load_backbone(f"local-dir:{path}", device="cpu")
    assert not sentinel.exists()
    attack(path, sentinel)
    with path.open("rb") as stream:  # the attack is real: an unsafe load would run it
        torch.load(stream, weights_only=False) if attack is attack_zipped else pickle.load(stream)  # noqa: S301
    assert sentinel.read_text() == "owned"


def test_a_pickle_that_calls_itself_safetensors_is_refused(tmp_path: Path) -> None:
    sentinel, path = tmp_path / "sentinel", tmp_path / "evil.safetensors"
    attack_plain(path, sentinel)
    with pytest.raises(WeightsError, match="must be a safetensors file"):
        convert(path, tmp_path / "ours", config="openai")
    assert not sentinel.exists()


def test_a_torchscript_archive_is_refused_with_a_way_out(tmp_path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates what OpenAI's files were made with
        torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "ViT-B-32.pt")
    with pytest.raises(WeightsError, match=r"TorchScript archive.*safetensors.*ViT-B-32/openai"):
        convert(tmp_path / "ViT-B-32.pt", tmp_path / "ours", config="openai")


def test_a_compressed_archive_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """A few bytes of it could become more than memory holds."""
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(checkpoint) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(WeightsError, match="is compressed"):
        convert(packed, tmp_path / "ours", config="openai")


def test_a_damaged_archive_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    data = checkpoint.read_bytes()
    assert b"PK\x01\x02" in data  # what every entry of its directory begins with
    checkpoint.write_bytes(data.replace(b"PK\x01\x02", b"PK\x01\x03"))
    with pytest.raises(WeightsError, match="damaged") as caught:
        convert(checkpoint, tmp_path / "ours", config="openai")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"PK\x03\x04 no zip"])
def test_rubbish_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "rubbish.pt").write_bytes(content)
    with pytest.raises(WeightsError, match="damaged or would run code"):
        convert(tmp_path / "rubbish.pt", tmp_path / "ours", config="openai")


def test_other_things_than_a_clip_are_refused(theirs: Any, tmp_path: Path, clip_vocabulary: Path) -> None:
    torch.save({"prompt_learner": {}}, tmp_path / "prompts.pth")
    with pytest.raises(UsageError, match="learned prompts of AnomalyCLIP"):
        convert(tmp_path / "prompts.pth", tmp_path / "ours", config="openai")


def test_a_folder_says_its_own(theirs: Any, tmp_path: Path, clip_vocabulary: Path) -> None:
    source = write_hugging_face(theirs, tmp_path / "hub", clip_vocabulary)
    with pytest.raises(UsageError, match="are for bare files"):
        convert(source, tmp_path / "ours", config="openai")
    (source / "config.json").write_text('{"model_type": "siglip"}', encoding="utf-8")
    with pytest.raises(WeightsError, match="model_type clip, or vit_mae for an autoencoder, got 'siglip'"):
        convert(source, tmp_path / "ours")


def test_a_checkpoint_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(WeightsError, match="must hold named tensors"):
        convert(tmp_path / "empty.pt", tmp_path / "ours", config="openai")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"weights must be \.safetensors"):
        convert(tmp_path / "weights.h5", tmp_path / "ours")
    with pytest.raises(WeightsError, match="does not exist"):
        convert(tmp_path / "nowhere.pt", tmp_path / "ours")
