"""A loaded backbone: batches that do not matter, a cache that cannot lie, devices and sizes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeroflaw.errors import UsageError, WordsError
from zeroflaw.towers.backbone import Backbone, pick_device
from zeroflaw.towers.catalogue import cache_folder
from zeroflaw.towers.folder import fill, load_folder
from zeroflaw.towers.model import Block, Prefixes
from zeroflaw.towers.tokenizer import Tokenizer
from zeroflaw.towers.weights import load_backbone

TEMPLATES = [
    "a photo of a {}",
    "a photo of a {} bottle",
    "a blurry photo of the {}",
    "{}",
    "there is a {} in the scene",
]
WORDS = ["flawless", "damaged", "scratched screw", "x", "perfect metal nut without flaw"]
PROMPTS = [template.format(word) for template in TEMPLATES for word in WORDS]


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Path) -> Backbone:
    return load_backbone(f"local-dir:{tiny_backbone}", device="cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEROFLAW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "texts"


def one_by_one(backbone: Backbone, texts: list[str]) -> torch.Tensor:
    """The plain way: every prompt alone."""
    with torch.inference_mode():
        return torch.cat([backbone.model.text(*backbone.tokenizer.encode([text])) for text in texts])


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (40 + n, 60 - n, 3), dtype=np.uint8) for n in range(count)]


def counted(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the prompts that really are embedded."""
    seen: list[int] = []
    original = Backbone._embed_ids

    def spy(self: Backbone, ids: torch.Tensor, ends: torch.Tensor, normalise: bool) -> torch.Tensor:
        seen.append(len(ids))
        return original(self, ids, ends, normalise)

    monkeypatch.setattr(Backbone, "_embed_ids", spy)
    return seen


def test_the_bundled_backbone_needs_no_folder() -> None:
    found = load_backbone("mini", device="cpu")
    assert (found.name, found.licence, found.has_aligned_patches) == ("mini", "Apache-2.0", True)


def test_what_it_says_of_itself(backbone: Backbone) -> None:
    assert (backbone.name, backbone.licence, backbone.revision) == ("tiny", "Apache-2.0", "1")
    assert (backbone.embed_dim, backbone.grid, backbone.has_aligned_patches) == (24, (6, 6), False)
    assert backbone.logit_scale == pytest.approx(100)
    assert len(backbone.sha256) == 64


def corrected(folder: Path) -> Backbone:
    """Load the same weights with another activation in the text tower."""
    found = load_folder(folder)
    config = found.model.config
    config = replace(config, text=replace(config.text, activation="quick_gelu"))
    state = found.model.state_dict()
    return Backbone.on(
        fill(config, state, found.tokenizer, found.preprocess, found.record, "x"), device="cpu"
    )


def test_the_fingerprint_changes_with_all_that_decides_an_embedding(
    backbone: Backbone, tiny_backbone: Path, tiny_aligned_backbone: Path
) -> None:
    again = load_backbone(f"local-dir:{tiny_backbone}", device="cpu", dtype="bfloat16")
    assert again.fingerprint == backbone.fingerprint
    others = [
        load_backbone(f"local-dir:{tiny_aligned_backbone}", device="cpu"),
        corrected(tiny_backbone),
        backbone.with_image_size(64),
        replace(backbone, preprocess=replace(backbone.preprocess, resize="shortest")),
        replace(backbone, tokenizer=Tokenizer(backbone.tokenizer.text + " ", context_length=77)),
        replace(backbone, record=backbone.record.model_copy(update={"sha256": "0" * 64})),
    ]
    found = {backbone.fingerprint, *(other.fingerprint for other in others)}
    assert len(found) == 1 + len(others)
    assert all(len(one) == 64 for one in found)


# Texts ------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(PROMPTS), batch_size=st.integers(1, 30))
def test_neither_order_nor_batches_matter(order: list[str], batch_size: int, backbone: Backbone) -> None:
    found = backbone.embed_texts(order, batch_size=batch_size)
    torch.testing.assert_close(found, one_by_one(backbone, order), rtol=0, atol=1e-6)


def test_equal_prompts_are_computed_once_and_given_to_all(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counted(backbone, monkeypatch)
    found = backbone.embed_texts(["a screw", "a nut", "a screw", "a screw"])
    assert sum(seen) == 2
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[0], found[3])
    assert not torch.equal(found[0], found[1])


def test_beginnings_in_common_are_computed_once(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens: list[int] = []
    original = Block.over_prefixes

    def spy(self: Block, x: torch.Tensor, prefixes: Prefixes, **more: Any) -> torch.Tensor:
        tokens.append(len(x))
        return original(self, x, prefixes, **more)

    monkeypatch.setattr(Block, "over_prefixes", spy)
    backbone.embed_texts([f"a photo of a bottle {letter}" for letter in "abcdefg"])
    # The start marker and five words once; a letter and an end marker for each of seven prompts; two blocks.
    assert tokens == [6 + 7 * 2] * 2


def test_progress_ends_at_the_total(backbone: Backbone) -> None:
    calls: list[tuple[int, int]] = []
    backbone.embed_texts(PROMPTS, batch_size=7, progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == [7, 14, 21, 25]
    assert {total for _, total in calls} == {25}


def test_prompts_that_are_too_long_are_never_cut(backbone: Backbone) -> None:
    with pytest.raises(WordsError, match="77 tokens long"):
        backbone.embed_texts(["fine", "! " * 90])


def test_no_prompt_and_no_batch_are_refused(backbone: Backbone) -> None:
    with pytest.raises(WordsError, match="at least one prompt"):
        backbone.embed_texts([])
    with pytest.raises(UsageError, match="batch_size"):
        backbone.embed_texts(["a"], batch_size=0)


def raw_one_by_one(backbone: Backbone, texts: list[str]) -> torch.Tensor:
    """Unnormalised embeddings, block by block over every prompt's whole length."""
    tower, found = backbone.model.text, []
    for text in texts:
        ids, _ = backbone.tokenizer.encode([text])
        x = tower.token_embedding(ids) + tower.positions[: ids.shape[1]]
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        for block in tower.blocks:
            x = block(x, mask=causal)
        found.append(tower.ln_final(x[:, -1]) @ tower.projection)
    return torch.cat(found)


def test_embeddings_may_keep_their_length(backbone: Backbone) -> None:
    raw = backbone.embed_texts(PROMPTS, normalise=False)
    torch.testing.assert_close(
        raw, raw_one_by_one(backbone, PROMPTS), rtol=0, atol=1e-6 * float(raw.norm(dim=-1).max())
    )
    torch.testing.assert_close(
        torch.nn.functional.normalize(raw), backbone.embed_texts(PROMPTS), rtol=0, atol=1e-6
    )
    assert float((raw.norm(dim=-1) - 1).abs().min()) > 0.1


# Cache ------------------------------------------------------------------------------------------------------

MANY = [f"{prompt} {number}" for prompt in PROMPTS for number in range(2)]


def test_a_second_run_reads_the_same_bytes_from_disk(
    backbone: Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = backbone.embed_texts(MANY)
    assert len(list(cache.iterdir())) == 1
    seen = counted(backbone, monkeypatch)
    assert torch.equal(backbone.embed_texts(MANY), first)
    assert seen == []


def test_other_texts_order_weights_and_numbers_have_other_entries(
    backbone: Backbone, tiny_backbone: Path, tiny_aligned_backbone: Path, cache: Path
) -> None:
    backbone.embed_texts(MANY)
    backbone.embed_texts([*MANY[:-1], "other"])
    backbone.embed_texts(MANY[::-1])
    load_backbone(f"local-dir:{tiny_aligned_backbone}", device="cpu").embed_texts(MANY)
    load_backbone(f"local-dir:{tiny_backbone}", device="cpu", dtype="bfloat16").embed_texts(MANY)
    raw = backbone.embed_texts(MANY, normalise=False)
    assert len(list(cache.iterdir())) == 6
    assert torch.equal(backbone.embed_texts(MANY, normalise=False), raw)
    assert not torch.allclose(backbone.embed_texts(MANY), raw, atol=0.1)


def test_the_same_weights_with_another_configuration_have_another_entry(
    backbone: Backbone, tiny_backbone: Path, cache: Path
) -> None:
    first = backbone.embed_texts(MANY)
    other = corrected(tiny_backbone)
    assert other.sha256 == backbone.sha256
    assert not torch.allclose(other.embed_texts(MANY), first, atol=1e-3)
    assert len(list(cache.iterdir())) == 2


def test_short_lists_are_not_kept(backbone: Backbone, cache: Path) -> None:
    backbone.embed_texts(PROMPTS)
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["truncate", "values", "shape", "other"])
def test_a_damaged_entry_is_reported_and_computed_again(
    damage: str, backbone: Backbone, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.torch import save_file

    first = backbone.embed_texts(MANY)
    (entry,) = cache.iterdir()
    wrong = {
        "values": {"embeddings": first * 2},
        "shape": {"embeddings": first[1:].contiguous()},
        "other": {"x": first},
    }
    if damage == "truncate":
        entry.write_bytes(entry.read_bytes()[:50])
    else:
        save_file(wrong[damage], entry)
    with caplog.at_level(logging.WARNING, "zeroflaw"):
        again = backbone.embed_texts(MANY)
    torch.testing.assert_close(again, first, rtol=0, atol=1e-6)
    assert "damaged" in caplog.text
    caplog.clear()
    assert torch.equal(backbone.embed_texts(MANY), again)
    assert caplog.text == ""


def test_a_cache_that_cannot_be_written_is_reported_and_changes_nothing(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("ZEROFLAW_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "zeroflaw"):
        found = backbone.embed_texts(MANY)
    torch.testing.assert_close(found, one_by_one(backbone, MANY), rtol=0, atol=1e-6)
    assert "cannot be cached" in caplog.text


def test_a_cache_with_a_name_that_cannot_be_is_reported_and_changes_nothing(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ZEROFLAW_CACHE", "x" * 300)
    with caplog.at_level(logging.WARNING, "zeroflaw"):
        found = backbone.embed_texts(MANY)
    torch.testing.assert_close(found, one_by_one(backbone, MANY), rtol=0, atol=1e-6)
    assert "cannot be read" in caplog.text
    assert "cannot be cached" in caplog.text


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZEROFLAW_CACHE", "off")
    assert cache_folder() is None
    monkeypatch.delenv("ZEROFLAW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "zeroflaw"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "zeroflaw"


def test_a_cache_that_is_off_writes_nothing(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROFLAW_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    seen = counted(backbone, monkeypatch)
    first, second = backbone.embed_texts(MANY), backbone.embed_texts(MANY)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)
    assert sum(seen) == 2 * len(MANY)
    assert not list(tmp_path.iterdir())


# Images -----------------------------------------------------------------------------------------------------


def test_what_is_asked_for_comes_back_as_float32_on_the_cpu(backbone: Backbone) -> None:
    found = backbone.embed_images(pictures(3), windows=[(2, 1), (3, 2)], patches=True, layers=[2])
    assert found.image.shape == (3, 24)
    assert {key: part.shape for key, part in found.windows.items()} == {
        (2, 1): (3, 25, 24),
        (3, 2): (3, 9, 24),
    }
    assert found.patches is not None
    assert found.patches.shape == (3, 36, 24)
    assert found.layers[2].shape == (3, 36, 32)
    for part in (found.image, *found.windows.values(), found.patches):
        assert part.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(part, axis=-1), 1, rtol=1e-5)


def test_batches_of_images_do_not_matter(backbone: Backbone) -> None:
    images = pictures(4)
    together = backbone.embed_images(images, windows=[(2, 1)])
    for row, image in enumerate(images):
        alone = backbone.embed_images([image], windows=[(2, 1)])
        np.testing.assert_allclose(alone.image[0], together.image[row], rtol=0, atol=1e-6)
        np.testing.assert_allclose(alone.windows[2, 1][0], together.windows[2, 1][row], rtol=0, atol=1e-6)


def test_another_image_size_has_another_grid(backbone: Backbone) -> None:
    larger = backbone.with_image_size(64)
    assert larger.grid == (8, 8)
    assert backbone.grid == (6, 6)
    found = larger.embed_images(pictures(1), patches=True)
    assert found.grid == (8, 8)
    assert found.patches is not None
    assert found.patches.shape[1] == 64
    with pytest.raises(UsageError, match="multiple of 8, got 50"):
        backbone.with_image_size(50)


@pytest.mark.parametrize("layers", [[0], [3]])
def test_blocks_that_do_not_exist_are_refused(layers: list[int], backbone: Backbone) -> None:
    with pytest.raises(UsageError, match="counted from 1 to 2"):
        backbone.embed_images(pictures(1), layers=layers)


def test_windows_that_do_not_fit_are_refused(backbone: Backbone) -> None:
    with pytest.raises(UsageError, match="window size"):
        backbone.embed_images(pictures(1), windows=[(7, 1)])


def test_bfloat16_is_close_and_still_gives_float32(backbone: Backbone, tiny_backbone: Path) -> None:
    low = load_backbone(f"local-dir:{tiny_backbone}", device="cpu", dtype="bfloat16")
    pairs = [
        (low.embed_texts(PROMPTS).numpy(), backbone.embed_texts(PROMPTS).numpy()),
        (low.embed_images(pictures(2)).image, backbone.embed_images(pictures(2)).image),
    ]
    for a, b in pairs:
        assert a.dtype == np.float32
        assert float((a * b).sum(-1).min()) > 0.99
    assert low.logit_scale == backbone.logit_scale


def test_auto_takes_a_device_that_is_there() -> None:
    assert pick_device("auto").type in {"cuda", "mps", "cpu"}
    assert pick_device("cpu") == torch.device("cpu")


def test_loading_and_embedding_leave_the_global_random_state_alone(tiny_backbone: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    found = load_backbone(f"local-dir:{tiny_backbone}", device="cpu")
    found.embed_texts(["a photo"])
    assert torch.equal(torch.get_rng_state(), before)
