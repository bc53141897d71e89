"""Both towers against transformers on seeded random weights, and the fast forwards against slow ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from published import build, open_clip_json, openai_state, oracle, ours, write_hugging_face, write_open_clip
from zeroflaw.runtime.scores import make_windows
from zeroflaw.towers.importing import import_weights
from zeroflaw.towers.layouts import infer_config, open_clip_settings, rename
from zeroflaw.towers.model import CLIP, VisionTower

pytest.importorskip("transformers")

TOLERANCE = 1e-5  # on embeddings of length one
B32 = {"image": 224, "patch": 32, "widths": (48, 40), "heads": (3, 2)}
B16_PLUS = {"image": 240, "patch": 16, "widths": (56, 40), "heads": (7, 5)}
L14_336 = {"image": 336, "patch": 14, "widths": (32, 24), "heads": (2, 3), "layers": (3, 2)}


def images(model: Any, count: int = 2, seed: int = 1) -> Tensor:
    side = model.config.vision_config.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def prompts(model: Any, lengths: list[int], *, shared: int = 1, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Random token ids (B, 77) with a common start, and where each prompt ends."""
    text = model.config.text_config
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(
        1, text.vocab_size - 1, (len(lengths), text.max_position_embeddings), generator=generator
    )
    ids[:, :shared] = ids[:1, :shared]
    ids[:, 0] = 0
    ends = torch.tensor(lengths) - 1
    ids[torch.arange(len(ids)), ends] = text.vocab_size - 1
    return ids, ends


def expected(model: Any, pixels: Tensor, ids: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        found = model(pixel_values=pixels, input_ids=ids, **options)
    return found.image_embeds, found.text_embeds


def close(a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("shape", [B32, B16_PLUS, L14_336], ids=["B/32", "B/16+ 240", "L/14-336"])
def test_both_towers(shape: dict[str, Any], activation: str) -> None:
    theirs = oracle(**shape, activation=activation)
    model = ours(theirs)
    pixels, (ids, ends) = images(theirs), prompts(theirs, [5, 77, 12])
    image, text = expected(theirs, pixels, ids)
    close(model.vision(pixels).image, image)
    close(model.text(ids, ends), text)


def test_the_wrong_activation_is_seen() -> None:
    theirs = oracle(**B32, activation="quick_gelu")
    config = open_clip_json(theirs)
    config["model_cfg"]["quick_gelu"] = False
    wrong = build(open_clip_settings(config, "here")[0], rename(openai_state(theirs)))
    pixels, (ids, ends) = images(theirs), prompts(theirs, [9, 9])
    image, text = expected(theirs, pixels, ids)
    assert (wrong.vision(pixels).image - image).abs().max() > 1e-4
    assert (wrong.text(ids, ends) - text).abs().max() > 1e-4


def test_both_towers_at_the_full_size_of_b16_plus_240() -> None:
    theirs = oracle(
        image=240, patch=16, widths=(896, 640), heads=(14, 10), layers=(12, 12), embed=640, vocabulary=49408
    )
    model = ours(theirs)
    pixels, (ids, ends) = images(theirs, 1), prompts(theirs, [7, 16])
    image, text = expected(theirs, pixels, ids)
    with torch.inference_mode():
        close(model.vision(pixels).image, image)
        close(model.text(ids[:, :16], ends), text)


@pytest.mark.parametrize("side", [160, 272])
def test_other_image_sizes_interpolate_the_positions(side: int) -> None:
    theirs = oracle(**B16_PLUS)
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(3))
    ids, _ = prompts(theirs, [4])
    image, _ = expected(theirs, pixels, ids, interpolate_pos_encoding=True)
    close(ours(theirs).vision(pixels).image, image)


def test_patch_tokens_and_layers_do_not_change_the_image_embedding() -> None:
    theirs = oracle(**B16_PLUS)
    model, pixels = ours(theirs), images(theirs)
    with torch.inference_mode():
        hidden = theirs.vision_model(pixels, output_hidden_states=True)
        patches = theirs.visual_projection(
            theirs.vision_model.post_layernorm(hidden.last_hidden_state[:, 1:])
        )
        found = model.vision(pixels, patches=True, layers=(1, 2))
    close(found.image, model.vision(pixels).image)
    close(found.patches, F.normalize(patches, dim=-1))
    for block in (1, 2):
        close(found.layers[block], hidden.hidden_states[block][:, 1:], 1e-4)


def masked_class_token(tower: VisionTower, pixels: Tensor, window: Tensor) -> Tensor:
    """Run the full sequence slowly; nobody may look at a token outside the window and the class token."""
    x = tower.ln_pre(
        torch.cat(
            [(tower.class_embedding + tower.positions[0]).expand(len(pixels), 1, -1), tower.tokens(pixels)], 1
        )
    )
    hidden = torch.ones(x.shape[1], dtype=torch.bool)
    hidden[torch.cat([torch.zeros(1, dtype=torch.long), window + 1])] = False
    for block in tower.blocks:
        h = F.linear(block.ln_1(x), block.attn.qkv.weight, block.attn.qkv.bias)
        q, k, v = (part.unflatten(-1, (block.attn.heads, -1)).transpose(1, 2) for part in h.chunk(3, -1))
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        seen = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v
        x = x + block.attn.out(seen.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.ln_2(x))
    return F.normalize(tower.ln_post(x[:, 0]) @ tower.projection, dim=-1)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (2, 1), (3, 2)])
def test_windows_equal_a_masked_full_length_forward(size: int, stride: int) -> None:
    theirs = oracle(**B32)
    tower, pixels = ours(theirs).vision, images(theirs)
    windows = make_windows((7, 7), size, stride)
    found = tower(pixels, windows=[windows]).windows[0]
    slow = torch.stack(
        [masked_class_token(tower, pixels, window) for window in torch.from_numpy(windows.index)], 1
    )
    close(found, slow)
    close(tower.window_embeddings(tower.tokens(pixels), windows, chunk=5), slow)


def test_a_window_over_all_patches_is_the_image() -> None:
    theirs = oracle(**B32)
    tower, pixels = ours(theirs).vision, images(theirs)
    found = tower(pixels, windows=[make_windows((7, 7), 7)])
    close(found.windows[0][:, 0], found.image, 1e-6)


@pytest.mark.parametrize("shared", [0, 1, 4])
def test_cut_context_and_shared_start_equal_the_full_context(shared: int) -> None:
    theirs = oracle(**B16_PLUS)
    ids, ends = prompts(theirs, [6, 11, 8, 5], shared=shared)
    _, text = expected(theirs, images(theirs, 1), ids)
    model = ours(theirs)
    close(model.text(ids[:, :11], ends), text)
    close(model.text(ids, ends), text)
    close(model.text.from_vectors(model.text.token_embedding(ids[:, :11]), ends), text)


def test_gradients_reach_injected_word_vectors_up_to_the_end() -> None:
    theirs = oracle(**B32)
    model = ours(theirs)
    ids, ends = prompts(theirs, [6, 9])
    vectors = model.text.token_embedding(ids[:, :12]).detach().requires_grad_(True)
    found = model.text.from_vectors(vectors, ends)
    close(found, model.text(ids, ends))
    found[:, 0].sum().backward()
    assert vectors.grad is not None
    for row, end in zip(vectors.grad, ends.tolist(), strict=True):
        assert bool((row[: end + 1].abs().amax(1) > 0).all())
        assert bool((row[end + 1 :] == 0).all())


def test_bfloat16_stays_close() -> None:
    theirs = oracle(**B16_PLUS)
    pixels, (ids, ends) = images(theirs), prompts(theirs, [6, 9])
    image, text = expected(theirs, pixels, ids)
    low = ours(theirs).to(torch.bfloat16)
    found = low.vision(pixels.bfloat16(), windows=[make_windows((15, 15), 2, 2)])
    assert found.image.dtype == torch.float32
    assert float(F.cosine_similarity(found.image, image).min()) > 0.999
    assert float(F.cosine_similarity(low.text(ids, ends), text).min()) > 0.999


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_the_three_layouts_on_disk_give_the_same_embeddings(
    activation: str, tmp_path: Path, clip_vocabulary: Path
) -> None:
    theirs = oracle(activation=activation)
    pixels, (ids, ends) = images(theirs), prompts(theirs, [5, 9])
    image, text = expected(theirs, pixels, ids)
    folders = [
        write_hugging_face(theirs, tmp_path / "hugging-face", clip_vocabulary),
        write_open_clip(theirs, tmp_path / "open_clip", clip_vocabulary),
        write_open_clip(theirs, tmp_path / "custom", clip_vocabulary, custom=True),
    ]
    models: list[CLIP] = []
    for folder in folders:
        bundle = import_weights(folder)
        assert bundle.preprocess.mean == (0.5, 0.4, 0.3)
        assert bundle.model.config.vision.activation == activation
        models.append(bundle.model)
    if activation == "quick_gelu":
        state = rename(openai_state(theirs))
        models.append(build(infer_config(state, "here"), state))
    for model in models:
        close(model.vision(pixels).image, image)
        close(model.text(ids, ends), text)
