"""Masked autoencoders: maskings, errors of reconstructions, weights and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mae_folder import CONFIG, random_state, write_mae
from published import oracle, write_open_clip
from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.autoencoder import Autoencoder, load_autoencoder
from zeroflaw.towers.catalogue import WeightsRecord
from zeroflaw.towers.configs import MAEConfig, StackConfig
from zeroflaw.towers.importing import convert
from zeroflaw.towers.mae import draw_visible, hidden_counts, normalise_patches, patchify
from zeroflaw.towers.weights import load_backbone

SHAPE = StackConfig(width=8, layers=1, heads=1, mlp_width=8)


def pictures(count: int = 3, size: tuple[int, int] = (48, 48)) -> list[np.ndarray[Any, Any]]:
    random = np.random.default_rng(7)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture
def tiny_clip(tmp_path: Path, clip_vocabulary: Path) -> Path:
    pytest.importorskip("transformers")
    return write_open_clip(oracle(), tmp_path / "clip", clip_vocabulary)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_mae(tmp_path / "mae")


# --- masks


@pytest.mark.parametrize(
    ("patches", "ratio", "kept"), [(196, 0.75, 49), (36, 0.75, 9), (10, 0.5, 5), (7, 0.6, 2)]
)
@pytest.mark.parametrize("drawing", ["random", "balanced"])
def test_masks_keep_the_right_number_of_patches(patches: int, ratio: float, kept: int, drawing: Any) -> None:
    visible = draw_visible(5, patches, ratio, seed=0, drawing=drawing)
    assert visible.shape == (5, kept)
    assert bool((visible[:, 1:] > visible[:, :-1]).all())  # in order, so each at most once
    assert int(visible.min()) >= 0
    assert int(visible.max()) < patches


def test_masks_come_from_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (draw_visible(4, 36, 0.75, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_balanced_masks_hide_every_patch_equally_often() -> None:
    counts = hidden_counts(draw_visible(8, 196, 0.75, seed=3, drawing="balanced"), 196)
    assert counts.tolist() == [6] * 196


def test_random_masks_hide_about_the_ratio() -> None:
    counts = hidden_counts(draw_visible(2000, 36, 0.75, seed=3), 36)
    assert float((counts / 2000 - 0.75).abs().max()) < 0.05


def test_a_patch_that_is_never_hidden_is_refused() -> None:
    with pytest.raises(UsageError, match="9 of 36 never are in 1 masks"):
        hidden_counts(draw_visible(1, 36, 0.75, seed=0), 36)


@pytest.mark.parametrize("ratio", [0.99, 0.01])
def test_a_ratio_that_shows_nothing_or_hides_nothing_is_refused(ratio: float) -> None:
    with pytest.raises(UsageError, match="mask_ratio"):
        draw_visible(1, 4, ratio if ratio > 0.5 else 0.0, seed=0)


# --- errors


class Known(nn.Module):
    """An autoencoder of which it is known what it says: the picture, plus what is added to chosen patches."""

    def __init__(
        self, *, normalised: bool = False, on_visible: float = 0.0, offset: Tensor | None = None
    ) -> None:
        super().__init__()
        self.config = MAEConfig(
            image_size=16, patch_size=4, encoder=SHAPE, decoder=SHAPE, normalised_targets=normalised
        )
        self.encoder = self
        self.on_visible, self.offset = on_visible, offset

    def tokens(self, pixels: Tensor) -> Tensor:
        return patchify(pixels, 4)

    def forward(self, tokens: Tensor, visible: Tensor) -> Tensor:
        said = normalise_patches(tokens) if self.config.normalised_targets else tokens
        said = said.expand(len(visible), -1, -1).clone()
        if self.offset is not None:
            said += self.offset
        index = visible[..., None].expand(-1, -1, said.shape[-1])
        return said.scatter_add(1, index, torch.full_like(said, self.on_visible))


def known(**settings: Any) -> Autoencoder:
    model: Any = Known(**settings)
    preprocess = Preprocess(image_size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    place, kind = torch.device("cpu"), torch.float32
    return Autoencoder(WeightsRecord(name="known"), preprocess, place, kind, model)


VISIBLE = draw_visible(8, 16, 0.75, seed=0, drawing="balanced")


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("over", ["hidden", "all"])
def test_a_perfect_reconstruction_has_no_error(normalised: bool, over: Any) -> None:
    errors = known(normalised=normalised).errors(pictures(2), VISIBLE, over=over)
    assert errors.shape == (2, 16, 16)
    assert errors.count_nonzero() == 0


def test_an_error_is_found_at_its_pixel() -> None:
    offset = torch.zeros(1, 16, 4, 4, 3)
    offset[0, 6, 2, 1] = torch.tensor([1.0, -2.0, 3.0])  # patch in row 1, column 2; pixel in row 2, column 1
    errors = known(offset=offset.flatten(2)).errors(pictures(1), VISIBLE, over="hidden")[0]
    assert float(errors[1 * 4 + 2, 2 * 4 + 1]) == pytest.approx(14, rel=1e-5)
    errors[6, 9] = 0
    assert float(errors.max()) < 1e-9


def test_what_is_said_of_visible_patches_counts_only_where_all_pixels_do() -> None:
    model = known(on_visible=2.0)
    assert float(model.errors(pictures(1), VISIBLE, over="hidden").max()) == 0
    everywhere = model.errors(pictures(1), VISIBLE, over="all")
    # Each patch is visible in a quarter of these masks: three colours, 2 squared, one of four.
    torch.testing.assert_close(everywhere, torch.full((1, 16, 16), 3.0))


def test_targets_can_be_normalised_against_the_configuration() -> None:
    image = pictures(1)
    assert float(known().errors(image, VISIBLE, over="all", normalised=True).max()) > 0.01
    assert float(known(normalised=True).errors(image, VISIBLE, over="all", normalised=False).max()) > 0.01


# --- weights


def test_a_folder_is_read_with_all_that_identifies_it(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\ntags:\n- vision\n---\n# MAE\n")
    found = load_autoencoder(f"local-dir:{folder}", device="cpu")
    assert found.name == "mae"
    assert found.licence == "cc-by-nc-4.0"
    assert len(found.sha256) == len(found.fingerprint) == 64
    assert found.preprocess == Preprocess(
        image_size=48, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bilinear"
    )
    assert found.model.config.decoder == StackConfig(width=24, layers=1, heads=3, mlp_width=40)
    assert not any(parameter.requires_grad for parameter in found.model.parameters())


def test_no_licence_is_invented(folder: Path) -> None:
    assert load_autoencoder(f"local-dir:{folder}", device="cpu").licence == "unknown"
    (folder / "README.md").write_text("no header\nlicense: mit\n")
    assert load_autoencoder(f"local-dir:{folder}", device="cpu").licence == "unknown"


def test_our_own_format_is_the_same_autoencoder(folder: Path, tmp_path: Path) -> None:
    theirs = load_autoencoder(f"local-dir:{folder}", device="cpu")
    record = convert(folder, tmp_path / "ours")
    assert not (tmp_path / "ours" / "tokenizer.json").exists()
    ours = load_autoencoder(f"local-dir:{tmp_path / 'ours'}", device="cpu")
    assert (ours.fingerprint, ours.record) == (theirs.fingerprint, record)
    convert(tmp_path / "ours", tmp_path / "half", half=True)
    assert load_autoencoder(f"local-dir:{tmp_path / 'half'}", device="cpu").sha256 != ours.sha256
    with pytest.raises(WeightsError, match=r"of a zeroflaw-backbone, got 'zeroflaw-autoencoder'"):
        load_backbone(f"local-dir:{tmp_path / 'ours'}", device="cpu")


@pytest.mark.parametrize("cache", ["on", "off"])
def test_a_clip_is_no_autoencoder_nor_the_other_way_round(
    cache: str, folder: Path, tiny_clip: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cache == "off":
        monkeypatch.setenv("ZEROFLAW_CACHE", "off")
    with pytest.raises(WeightsError, match=r"weights of a CLIP are needed|of a zeroflaw-backbone, got"):
        load_backbone(f"local-dir:{folder}", device="cpu")
    for clip in (tiny_clip, tiny_backbone):
        with pytest.raises(WeightsError, match=r"holds a CLIP|of a zeroflaw-autoencoder, got"):
            load_autoencoder(f"local-dir:{clip}", device="cpu")


def test_an_encoder_without_decoder_is_refused(tmp_path: Path) -> None:
    whole = random_state(CONFIG)
    parts = {name: tensor for name, tensor in whole.items() if name.startswith("vit.")}
    for state in (parts, {name.removeprefix("vit."): tensor for name, tensor in parts.items()}):
        folder = write_mae(tmp_path / "encoder", state=state)
        with pytest.raises(WeightsError, match=r"model\.safetensors holds the encoder only.*ViTMAEForPreTr"):
            load_autoencoder(f"local-dir:{folder}")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=name):
        load_autoencoder(f"local-dir:{folder}")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        load_autoencoder(f"local-dir:{tmp_path / 'nowhere'}")
    with pytest.raises(WeightsError, match="path that can be read"):
        load_autoencoder("local-dir:" + "long" * 500)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"num_channels": 1}, "num_channels"),
        ({"hidden_size": 33}, "multiple of its heads"),
        ({"num_hidden_layers": 10_000}, r"encoder\.layers must be less than or equal to 128"),
        ({"decoder_hidden_size": 0}, r"decoder\.width"),
        ({"decoder_hidden_size": 10**9}, r"decoder\.width"),
        ({"image_size": 50}, "multiple of patch_size"),
        ({"image_size": 8}, "larger than patch_size"),
        ({"image_size": [48, 64]}, "image_size"),
        ({"patch_size": "8"}, "patch_size"),
        ({"layer_norm_eps": 0}, "norm_eps"),
        ({"layer_norm_eps": 10**400}, "norm_eps"),
        ({"qkv_bias": "yes"}, "qkv_bias"),
        ({"norm_pix_loss": 1}, "normalised_targets"),
        ({"decoder_num_hidden_layers": 2}, "is missing"),
        ({"patch_size": 16}, "with shape"),
    ],
)
def test_configurations_that_cannot_be_are_refused(
    change: dict[str, Any], message: str, folder: Path
) -> None:
    write_mae(folder, state=random_state(CONFIG), config=change)
    with pytest.raises(WeightsError, match=message):
        load_autoencoder(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_mean": None}, "mean"),
        ({"image_mean": [0.5, 0.5]}, "mean"),
        ({"image_std": [0.5, 0.5, 0]}, "above 0"),
        ({"image_std": [0.5, 0.5, "x"]}, "std"),
        ({"resample": 1}, "interpolation"),
        ({"resample": []}, "interpolation"),
        ({"image_processor": 3}, "object 'image_processor'"),
    ],
)
def test_preprocessing_is_never_guessed(change: dict[str, Any], message: str, folder: Path) -> None:
    write_mae(folder, preprocessor=change)
    with pytest.raises(WeightsError, match=message):
        load_autoencoder(f"local-dir:{folder}")


def test_a_square_may_be_written_as_two_sides(folder: Path) -> None:
    before = load_autoencoder(f"local-dir:{folder}").fingerprint
    write_mae(folder, state=random_state(CONFIG), config={"image_size": [48, 48], "patch_size": [8, 8]})
    assert load_autoencoder(f"local-dir:{folder}").fingerprint == before


def test_damaged_tensors_are_refused(folder: Path) -> None:
    state = random_state(CONFIG)
    write_mae(folder, state={**state, "decoder.mask_token": state["decoder.mask_token"] / 0})
    with pytest.raises(WeightsError, match="must be finite"):
        load_autoencoder(f"local-dir:{folder}")
    write_mae(folder, state={**state, "decoder.mask_token": state["decoder.mask_token"].long()})
    with pytest.raises(WeightsError, match="real numbers"):
        load_autoencoder(f"local-dir:{folder}")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="safetensors file"):
        load_autoencoder(f"local-dir:{folder}")


def test_half_precision_weights_are_read_as_float32(folder: Path) -> None:
    write_mae(folder, state={name: tensor.half() for name, tensor in random_state(CONFIG).items()})
    found = load_autoencoder(f"local-dir:{folder}", device="cpu")
    assert {parameter.dtype for parameter in found.model.parameters()} == {torch.float32}
    half = load_autoencoder(f"local-dir:{folder}", device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
