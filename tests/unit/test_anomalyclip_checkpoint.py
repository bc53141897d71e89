"""Published AnomalyCLIP prompts become a detector folder, and nothing else does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import random_model
from zeroflaw import load
from zeroflaw.cli.main import main
from zeroflaw.detectors.anomalyclip import AnomalyCLIP, checkpoint
from zeroflaw.detectors.anomalyclip.checkpoint import convert_prompts
from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.catalogue import WeightsRecord
from zeroflaw.towers.configs import CLIPConfig, TextConfig, VisionConfig
from zeroflaw.towers.folder import save_folder
from zeroflaw.towers.importing import convert
from zeroflaw.towers.tokenizer import Tokenizer
from zeroflaw.towers.weights import load_backbone

WIDTH, CONTEXT = 32, 77
DEEP = "compound_prompts_text"
State = dict[str, torch.Tensor]


def write_backbone(folder: Path, vocabulary: Path, *, seed: int = 0, text_layers: int = 10) -> str:
    """A tiny CLIP with the published one's patches of 14 pixels and enough text blocks."""
    shape: dict[str, Any] = {"width": WIDTH, "heads": 2, "mlp_width": 64}
    vision = VisionConfig(image_size=42, patch_size=14, layers=2, **shape)
    text = TextConfig(context_length=CONTEXT, vocab_size=1024, layers=text_layers, **shape)
    model = random_model(CLIPConfig(embed_dim=24, vision=vision, text=text), seed)
    record = WeightsRecord(name="tiny-14", licence="MIT", source="random numbers")
    words = Tokenizer.read(vocabulary, context_length=CONTEXT)
    save_folder(folder, model, words, Preprocess(image_size=42), record)
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory, clip_vocabulary: Path) -> str:
    return write_backbone(tmp_path_factory.mktemp("weights") / "tiny-14", clip_vocabulary)


def published(backbone: str, *, length: int = 12, sets: int = 8) -> State:
    """Random prompts with the names and shapes of the published checkpoints."""
    clip, generator = load_backbone(backbone, device="cpu"), torch.Generator().manual_seed(9)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.5

    state = {"ctx_pos": random(1, 1, length, WIDTH), "ctx_neg": random(1, 1, length, WIDTH)}
    for number in range(sets):
        state[f"{DEEP}.{number}"] = random(4, WIDTH)
        state[f"compound_prompt_projections.{number}.weight"] = random(896, WIDTH)
        state[f"compound_prompt_projections.{number}.bias"] = random(896)
    table = clip.model.text.token_embedding.weight.detach()
    for side, words in (("pos", "object."), ("neg", "damaged object.")):
        ids, end = clip.tokenizer.encode(["x " * length + words])
        ids = torch.nn.functional.pad(ids[0, : int(end[0]) + 1], (0, CONTEXT - int(end[0]) - 1))
        state[f"token_prefix_{side}"] = table[ids][None, None, :1].clone()
        state[f"token_suffix_{side}"] = table[ids][None, None, 1 + length :].clone()
        state[f"tokenized_prompts_{side}"] = ids[None, None].int()
    return state


@pytest.fixture
def state(backbone: str) -> State:
    return published(backbone)


@pytest.fixture
def make(tmp_path: Path, backbone: str) -> Callable[..., AnomalyCLIP]:
    """Convert what a checkpoint holds."""

    def convert_state(state: Any, *, on: str = backbone, **options: Any) -> AnomalyCLIP:
        source = tmp_path / "epoch_15.pth"
        torch.save({"prompt_learner": state}, source)
        return convert_prompts(source, tmp_path / "detector", backbone=on, device="cpu", **options)

    return convert_state


def test_published_prompts_become_a_detector(state: State, make: Any, tmp_path: Path) -> None:
    made, loaded = make(state), load(tmp_path / "detector", device="cpu")
    wanted = {"image_size": 518, "map_grid": "pixels", "n_ctx": 12, "deep_depth": 9, "deep_tokens": 4}
    assert wanted.items() <= loaded.get_params().items()
    learned = loaded.fitted_.learned
    assert np.array_equal(learned["normal"], state["ctx_pos"][0, 0])
    assert np.array_equal(learned["anomalous"], state["ctx_neg"][0, 0])
    assert np.array_equal(learned["deep.9"], state["compound_prompts_text.7"])
    picture = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    (one,), (other,) = (list(d.predict([picture], maps=True)) for d in (made, loaded))
    assert one.logit == pytest.approx(other.logit, abs=1e-5)
    assert one.map.shape == (518, 518)
    np.testing.assert_allclose(one.map, other.map, atol=1e-5)
    card = (tmp_path / "detector" / "README.md").read_text(encoding="utf-8")
    for said in (r"epoch\_15.pth", "VisA or MVTec AD, which the file does not say", "CC BY-NC-SA 4.0"):
        assert said in card


def test_half_precision_other_sizes_and_a_licence(backbone: str, make: Any) -> None:
    state = published(backbone, length=5, sets=0)
    made = make({k: t.half() if t.is_floating_point() else t for k, t in state.items()}, licence="my own")
    assert (made.n_ctx, made.deep_depth) == (5, 1)
    assert made.fitted_.learned["normal"].dtype == np.float32
    assert "Licence: my own." in made.card_


def _with(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], Any]:
    return lambda state: {**state, name: change(state[name])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {k: t for k, t in state.items() if k != "ctx_neg"}, "lacks 'ctx_neg'"),
        (lambda state: {**state, f"{DEEP}.9": torch.ones(2)}, "lacks 'compound_prompts_text.8'"),
        (lambda state: {**state, "adapter.weight": torch.ones(2)}, "holds the unknown 'adapter.weight'"),
        (_with("ctx_pos", lambda t: t.repeat(2, 1, 1, 1)), r"'ctx_pos' has the shape \(2, 1, 12, 32\)"),
        (_with("ctx_pos", lambda t: t[..., :0, :]), "'ctx_pos' has the shape"),
        (_with("ctx_neg", lambda t: t[..., :-1]), r"'ctx_neg' has the shape .*, not \(1, 1, 12, 32\)"),
        (_with(f"{DEEP}.5", lambda t: t[:3]), r"text.5' has the shape \(3, 32\), not \(4, 32\)"),
        (_with(f"{DEEP}.0", lambda t: t[0, 0]), r"has the shape \(\)"),
        (_with("ctx_pos", lambda t: t * float("nan")), "'ctx_pos' of .* must hold finite numbers"),
        (_with("ctx_pos", lambda t: t.int()), "'ctx_pos' of .* must hold finite numbers"),
        (_with("tokenized_prompts_pos", lambda t: t[..., :9]), "token ids after .* are not “object"),
        (_with("tokenized_prompts_neg", lambda t: t + 1), "token ids after .* are not “damaged"),
        (_with("token_suffix_neg", lambda t: t + 0.01), "word embeddings .* are not its own"),
        (_with("token_suffix_neg", lambda t: t[..., :1, :]), "word embeddings .* are not its own"),
        (lambda state: list(state.values()), "holds tensors under 'prompt_learner'.*leave --backbone out"),
        (lambda state: {**state, "epoch": 15}, "holds tensors under 'prompt_learner'"),
    ],
)
def test_other_files_are_refused(
    change: Callable[[State], Any], message: str, state: State, make: Any, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message):
        make(change(state))
    assert not (tmp_path / "detector").exists()


def test_another_clip_is_refused(
    state: State, make: Any, tmp_path: Path, tiny_backbone: Path, clip_vocabulary: Path
) -> None:
    other = write_backbone(tmp_path / "other", clip_vocabulary, seed=1)
    with pytest.raises(WeightsError, match=r"not learned on tiny-14: the word emb.*ViT-L-14-336/openai"):
        make(state, on=other)
    short = write_backbone(tmp_path / "short", clip_vocabulary, text_layers=3)
    with pytest.raises(UsageError, match="deep tokens for at most 2 blocks"):
        make(published(short), on=short)
    tiny = f"local-dir:{tiny_backbone}"
    with pytest.raises(UsageError, match="multiple of 8, got 518"):
        make(published(tiny, sets=1), on=tiny)


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm-done",)


def test_nothing_in_a_checkpoint_is_run(
    backbone: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="damaged or would run code"):
        make({"ctx_pos": _Harm()})
    assert not (tmp_path / "harm-done").exists()
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 and no more")
    for name in ("broken.pth", "missing.pth", "."):
        with pytest.raises(WeightsError):
            convert_prompts(tmp_path / name, tmp_path / "x", backbone=backbone)
    monkeypatch.setattr(checkpoint, "LARGEST", 100)
    with pytest.raises(WeightsError, match="bytes, and at most 100 are read"):
        make({"ctx_pos": torch.ones(99)})


def test_the_command(backbone: str, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "epoch_15.pth", tmp_path / "detector"
    torch.save({"prompt_learner": state}, source)

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main(["convert", str(source), str(target), *(str(argument) for argument in arguments)])
        return int(stop.value.code or 0), capsys.readouterr().err

    code, said = run("--backbone", backbone)
    assert (code, f"use it with --detector {target}" in said) == (0, True)
    assert load(target).name == "anomalyclip"
    assert "already holds a detector" in run("--backbone", backbone)[1]
    assert run("--backbone", backbone, "--overwrite", "-q") == (0, "")
    assert "--half is for weights" in run("--backbone", backbone, "--half")[1]
    with pytest.raises(UsageError, match="holds learned prompts of AnomalyCLIP; give --backbone"):
        convert(source, tmp_path / "x", config="openai")
