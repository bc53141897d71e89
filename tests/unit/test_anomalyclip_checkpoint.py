"""Published AnomalyCLIP prompts become a detector folder, and nothing else does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import random_model, tiny_config
from zeroflaw import load
from zeroflaw.cli.main import main
from zeroflaw.detectors import anomalyclip_checkpoint
from zeroflaw.detectors.anomalyclip import AnomalyCLIP
from zeroflaw.detectors.anomalyclip_checkpoint import convert_prompts
from zeroflaw.errors import UsageError, WeightsError, ZeroflawError
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.backbone import Backbone
from zeroflaw.towers.catalogue import WeightsRecord
from zeroflaw.towers.configs import CLIPConfig, TextConfig, VisionConfig
from zeroflaw.towers.folder import save_folder
from zeroflaw.towers.importing import convert
from zeroflaw.towers.tokenizer import Tokenizer
from zeroflaw.towers.weights import load_backbone

WIDTH, CONTEXT = 32, 77
State = dict[str, torch.Tensor]


def write_backbone(folder: Path, vocabulary: Path, *, seed: int = 0, text_layers: int = 10) -> str:
    """A tiny CLIP with the published one's patches of 14 pixels and enough text blocks."""
    shape: dict[str, Any] = {"width": WIDTH, "heads": 2, "mlp_width": 64}
    config = CLIPConfig(
        embed_dim=24,
        vision=VisionConfig(image_size=42, patch_size=14, layers=2, **shape),
        text=TextConfig(context_length=CONTEXT, vocab_size=1024, layers=text_layers, **shape),
    )
    words = Tokenizer.read(vocabulary, context_length=CONTEXT)
    record = WeightsRecord(name="tiny-14", licence="MIT", source="random numbers")
    save_folder(folder, random_model(config, seed), words, Preprocess(image_size=42), record)
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory, clip_vocabulary: Path) -> str:
    return write_backbone(tmp_path_factory.mktemp("weights") / "tiny-14", clip_vocabulary)


def published_state(clip: Backbone, *, length: int = 12, sets: int = 8, tokens: int = 4) -> State:
    """Random prompts with the names and shapes of the published checkpoints."""
    generator = torch.Generator().manual_seed(9)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.5

    state = {"ctx_pos": random(1, 1, length, WIDTH), "ctx_neg": random(1, 1, length, WIDTH)}
    for number in range(sets):
        state[f"compound_prompts_text.{number}"] = random(tokens, WIDTH)
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
    return published_state(load_backbone(backbone, device="cpu"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    def write_file(state: Any, *, bare: bool = False) -> Path:
        path = tmp_path / "epoch_15.pth"
        torch.save(state if bare else {"prompt_learner": state}, path)
        return path

    return write_file


def test_published_prompts_become_a_detector(backbone: str, state: State, write: Any, tmp_path: Path) -> None:
    source = write(state)
    made = convert_prompts(source, tmp_path / "detector", backbone=backbone, device="cpu")
    loaded = load(tmp_path / "detector", device="cpu")
    assert isinstance(loaded, AnomalyCLIP)
    params = loaded.get_params()
    wanted = {"image_size": 518, "n_ctx": 12, "deep_depth": 9, "deep_tokens": 4, "class_norm": False}
    assert {name: params[name] for name in wanted} == wanted
    assert params["temperature"] == 0.07
    assert loaded.prompts_ is not None
    assert torch.equal(loaded.prompts_.normal, state["ctx_pos"][0, 0])
    assert torch.equal(loaded.prompts_.anomalous, state["ctx_neg"][0, 0])
    assert torch.equal(loaded.prompts_.deep[7], state["compound_prompts_text.7"])
    picture = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    (one,), (other,) = (list(d.predict([picture], maps=True)) for d in (made, loaded))
    assert one.logit == other.logit
    assert one.map is not None
    assert other.map is not None
    assert one.map.shape == (37, 37)
    assert np.array_equal(one.map, other.map)
    card = (tmp_path / "detector" / "README.md").read_text(encoding="utf-8")
    assert "epoch_15.pth" in card
    assert "VisA or MVTec AD, which the file does not say" in card
    assert "CC BY-NC-SA 4.0" in card


def test_half_precision_and_a_licence(backbone: str, state: State, write: Any, tmp_path: Path) -> None:
    halves = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    made = convert_prompts(write(halves), tmp_path / "x", backbone=backbone, device="cpu", licence="my own")
    assert made.prompts_ is not None
    assert made.prompts_.normal.dtype == torch.float32
    assert "Licence: my own." in made.model_card()


def test_other_sizes_and_no_deep_tokens(backbone: str, write: Any, tmp_path: Path) -> None:
    state = published_state(load_backbone(backbone, device="cpu"), length=5, sets=0)
    made = convert_prompts(write(state), tmp_path / "x", backbone=backbone, device="cpu")
    assert (made.n_ctx, made.deep_depth, load(tmp_path / "x").is_fitted) == (5, 1, True)


def _without(name: str) -> Callable[[State], Any]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def _with(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], Any]:
    return lambda state: {key: change(t) if key == name else t for key, t in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("ctx_neg"), "lacks 'ctx_neg'"),
        (_without("token_suffix_pos"), "lacks 'token_suffix_pos'"),
        (_without("compound_prompts_text.3"), "lacks 'compound_prompts_text.3'|unknown"),
        (lambda state: {**state, "adapter.weight": torch.ones(2)}, "holds the unknown 'adapter.weight'"),
        (_with("ctx_pos", lambda t: t.repeat(2, 1, 1, 1)), r"must have the shape \(1, 1, tokens, width\)"),
        (_with("ctx_neg", lambda t: t[..., :-1]), "'ctx_neg' of .* has shape"),
        (_with("compound_prompts_text.5", lambda t: t[:3]), "'compound_prompts_text.5' of .* has shape"),
        (_with("compound_prompts_text.0", lambda t: t[0, 0]), "has shape"),
        (_with("tokenized_prompts_pos", lambda t: t[..., :9]), "has shape"),
        (_with("ctx_pos", lambda t: t * float("nan")), "'ctx_pos' of .* must hold finite numbers"),
        (_with("ctx_pos", lambda t: t.int()), "'ctx_pos' of .* must hold finite numbers"),
        (
            _with("token_suffix_neg", lambda t: t + 0.01),
            "the word embeddings copied into them are not its own",
        ),
        (
            _with("tokenized_prompts_neg", lambda t: t + 1),
            "token ids after the learned ones are not “damaged",
        ),
        (lambda state: list(state.values()), "holds tensors under 'prompt_learner'"),
        (lambda state: {**state, "epoch": 15}, "holds tensors under 'prompt_learner'"),
    ],
)
def test_other_files_are_refused(
    change: Callable[[State], Any], message: str, backbone: str, state: State, write: Any, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message):
        convert_prompts(write(change(state)), tmp_path / "detector", backbone=backbone, device="cpu")
    assert not (tmp_path / "detector").exists()


def test_another_clip_is_refused(state: State, write: Any, tmp_path: Path, clip_vocabulary: Path) -> None:
    other = write_backbone(tmp_path / "other", clip_vocabulary, seed=1)
    with pytest.raises(
        WeightsError, match=r"not learned on tiny-14: the word embeddings.*ViT-L-14-336/openai"
    ):
        convert_prompts(write(state), tmp_path / "x", backbone=other, device="cpu")
    short = write_backbone(tmp_path / "short", clip_vocabulary, text_layers=3)
    state = published_state(load_backbone(short, device="cpu"))
    with pytest.raises(UsageError, match="deep_depth may be at most 3"):
        convert_prompts(write(state), tmp_path / "x", backbone=short, device="cpu")


def test_another_width_and_patches_that_518_pixels_do_not_fit(
    state: State, write: Any, tmp_path: Path, tiny_backbone: Path, clip_vocabulary: Path
) -> None:
    narrow = {name: t[..., :16] if t.is_floating_point() else t for name, t in state.items()}
    tiny = f"local-dir:{tiny_backbone}"
    with pytest.raises(WeightsError, match="their tokens are 16 wide and its own 32"):
        convert_prompts(write(narrow), tmp_path / "x", backbone=tiny, device="cpu")
    fitting = published_state(load_backbone(tiny, device="cpu"), sets=1)
    with pytest.raises(UsageError, match="multiple of 8, got 518"):
        convert_prompts(write(fitting), tmp_path / "x", backbone=tiny, device="cpu")


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm-done",)


def test_nothing_in_a_checkpoint_is_run(
    backbone: str, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="damaged or would run code"):
        convert_prompts(write({"ctx_pos": _Harm()}), tmp_path / "x", backbone=backbone)
    assert not (tmp_path / "harm-done").exists()
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 and no more")
    for name in ("broken.pth", "missing.pth", "."):
        with pytest.raises(WeightsError):
            convert_prompts(tmp_path / name, tmp_path / "x", backbone=backbone)
    monkeypatch.setattr(anomalyclip_checkpoint, "LARGEST", 100)
    with pytest.raises(WeightsError, match="has a few MiB"):
        convert_prompts(write({"ctx_pos": torch.ones(99)}), tmp_path / "x", backbone=backbone)


def test_the_command(
    backbone: str, state: State, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = write(state), tmp_path / "detector"

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main(["convert", *(str(argument) for argument in arguments)])
        return int(stop.value.code or 0), capsys.readouterr().err

    code, said = run(source, target)
    assert code == 2
    assert "learned prompts of AnomalyCLIP; give --backbone" in said
    code, said = run(source, target, "--backbone", backbone)
    assert (code, f"use it with --detector {target}" in said) == (0, True)
    assert load(target).name == "anomalyclip"
    assert "already holds a detector" in run(source, target, "--backbone", backbone)[1]
    assert run(source, target, "--backbone", backbone, "--overwrite", "-q") == (0, "")
    for flags in (["--half"], ["--config", "openai"], ["--name", "x"], ["--tokenizer", "x"]):
        code, said = run(source, target, "--backbone", backbone, *flags)
        assert (code, f"{flags[0]} is for weights" in said) == (2, True)
    plain = tmp_path / "plain.pth"
    torch.save({"weight": torch.ones(2)}, plain)
    assert "leave --backbone out" in run(plain, tmp_path / "y", "--backbone", backbone)[1]


def test_prompts_are_no_weights(state: State, write: Any, tmp_path: Path) -> None:
    with pytest.raises(ZeroflawError, match="holds learned prompts of AnomalyCLIP"):
        convert(write(state), tmp_path / "x", config="openai")
    assert tiny_config().text.width == WIDTH
