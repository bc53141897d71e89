"""Names and configurations of the published layouts, and what is refused in them."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from published import open_clip_json, openai_state, oracle
from zeroflaw.errors import WeightsError
from zeroflaw.towers.catalogue import REGISTRY
from zeroflaw.towers.layouts import (
    hugging_face_clip,
    hugging_face_pixels,
    infer_config,
    open_clip_settings,
    rename,
)
from zeroflaw.towers.model import CLIP

pytest.importorskip("transformers")

WHERE = "the file"
SILENT: dict[str, Any] = {"model_type": "clip", "text_config": {}, "vision_config": {}}


@pytest.fixture(scope="module")
def theirs() -> Any:
    return oracle(widths=(128, 64), heads=(2, 1))


def test_both_layouts_rename_to_exactly_the_tensors_of_the_model(theirs: Any) -> None:
    with torch.device("meta"):
        wanted = CLIP(hugging_face_clip(theirs.config.to_dict(), WHERE)).state_dict()
    first, second = rename(openai_state(theirs)), rename(theirs.state_dict())
    for found in (first, second, rename(first)):
        assert {name: tensor.shape for name, tensor in found.items()} == {
            k: v.shape for k, v in wanted.items()
        }
    assert all(torch.equal(first[name], second[name]) for name in wanted)


def test_what_is_no_weight_is_dropped_and_a_scale_loses_its_axis(theirs: Any) -> None:
    state = openai_state(theirs)
    names = (
        "input_resolution",
        "context_length",
        "vocab_size",
        "attn_mask",
        "text_model.embeddings.position_ids",
    )
    changed = state | {name: torch.zeros(2) for name in names} | {"logit_scale": state["logit_scale"].view(1)}
    found = rename(changed)
    assert found.keys() == rename(state).keys()
    assert found["logit_scale"].shape == ()


def test_a_missing_part_of_a_fused_tensor_is_refused(theirs: Any) -> None:
    state = dict(theirs.state_dict())
    del state["text_model.encoder.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(WeightsError, match=r"q, k and v of one shape, got \['q', 'v'\]"):
        rename(state)


def test_all_configurations_agree_with_each_other_and_with_the_shapes() -> None:
    quick = oracle(widths=(128, 64), heads=(2, 1), activation="quick_gelu")
    from_hub = hugging_face_clip(quick.config.to_dict(), WHERE)
    assert open_clip_settings(open_clip_json(quick), WHERE)[0] == from_hub
    state = rename(openai_state(quick))
    assert infer_config(state, WHERE) == from_hub
    del state["text.positions"]
    with pytest.raises(WeightsError, match=r"text\.positions"):
        infer_config(state, WHERE)


def test_silent_hugging_face_configs_take_the_defaults_of_the_library() -> None:
    assert hugging_face_clip(SILENT, WHERE) == REGISTRY["ViT-B-32/openai"].config


def test_the_dict_variant_of_older_hugging_face_configs_wins() -> None:
    raw = SILENT | {"text_config": {"hidden_act": "quick_gelu"}, "text_config_dict": {"hidden_act": "gelu"}}
    found = hugging_face_clip(raw, WHERE)
    assert (found.text.activation, found.vision.activation) == ("gelu", "quick_gelu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_config": None}, "object 'text_config'"),
        ({"vision_config": {"hidden_act": "relu"}}, "'gelu' or 'quick_gelu', got 'relu'"),
        ({"vision_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps"),
        ({"vision_config_dict": 5}, "object 'vision_config_dict', got 5"),
        ({"text_config_dict": [1]}, "object 'text_config_dict'"),
        ({"vision_config": {"hidden_size": 10**12}}, r"vision\.width must be less than"),
    ],
)
def test_other_hugging_face_configs_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        hugging_face_clip(SILENT | change, WHERE)


# open_clip_config.json of timm/vit_base_patch16_plus_clip_240.laion400m_e31 and, with QuickGELU at the level
# of the model, of timm/vit_base_patch32_clip_224.openai.
E31 = {
    "model_cfg": {
        "embed_dim": 640,
        "vision_cfg": {"image_size": 240, "layers": 12, "width": 896, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 640, "heads": 10, "layers": 12},
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    },
}
B32 = {
    "model_cfg": {
        "embed_dim": 512,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
    },
    "preprocess_cfg": E31["preprocess_cfg"] | {"interpolation": "bicubic", "resize_mode": "shortest"},
}


@pytest.mark.parametrize(
    ("raw", "name"), [(E31, "ViT-B-16-plus-240/laion400m_e31"), (B32, "ViT-B-32/openai")]
)
def test_configurations_as_they_are_published(raw: dict[str, Any], name: str) -> None:
    config, preprocess = open_clip_settings(raw, WHERE)
    assert config == REGISTRY[name].config
    assert (preprocess.resize, preprocess.interpolation) == ("squash", "bicubic")
    assert preprocess.image_size == config.vision.image_size


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("vision_cfg", "timm_model_name", "vit_base"),
        ("vision_cfg", "attentional_pool", True),
        ("vision_cfg", "no_ln_pre", True),
        ("text_cfg", "hf_model_name", "roberta"),
        ("text_cfg", "no_causal_mask", True),
        ("model_cfg", "multimodal_cfg", {"width": 2}),
    ],
)
def test_open_clip_features_that_change_the_model_are_refused(
    where: str, key: str, value: object, theirs: Any
) -> None:
    raw = open_clip_json(theirs)
    part = raw["model_cfg"] if where == "model_cfg" else raw["model_cfg"][where]
    part[key] = value
    with pytest.raises(WeightsError, match=f"got '{key}' in '{where}'"):
        open_clip_settings(raw, WHERE)


def test_open_clip_features_that_are_switched_off_are_not(theirs: Any) -> None:
    raw = open_clip_json(theirs)
    plain = open_clip_settings(open_clip_json(theirs), WHERE)
    raw["model_cfg"]["vision_cfg"] |= {"patch_dropout": 0.5, "ls_init_value": None, "attentional_pool": False}
    raw["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "somewhere", "no_causal_mask": False}
    assert open_clip_settings(raw, WHERE) == plain


@pytest.mark.parametrize("key", ["embed_dim", "vision_cfg", "text_cfg"])
def test_open_clip_configs_with_holes_are_refused(key: str, theirs: Any) -> None:
    raw = open_clip_json(theirs)
    del raw["model_cfg"][key]
    with pytest.raises(WeightsError, match=key):
        open_clip_settings(raw, WHERE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "4", [4], None, True, -1])
def test_an_mlp_ratio_that_is_no_number_is_refused(value: object, theirs: Any) -> None:
    raw = open_clip_json(theirs)
    raw["model_cfg"]["vision_cfg"]["mlp_ratio"] = value
    with pytest.raises(WeightsError, match=r"'mlp_ratio' must be a number"):
        open_clip_settings(raw, WHERE)


def test_preprocessing_is_read_and_never_guessed(theirs: Any) -> None:
    config, found = open_clip_settings(open_clip_json(theirs), WHERE)
    assert (found.mean, found.std, found.interpolation) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic")
    with pytest.raises(WeightsError, match=r"object 'preprocess_cfg', got \[1\]"):
        open_clip_settings(open_clip_json(theirs) | {"preprocess_cfg": [1]}, WHERE)
    raw = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "resample": 2}
    for one in (raw, {"image_processor": raw}):
        other = hugging_face_pixels(one, config, WHERE)
        assert (other.mean, other.interpolation) == ((0.1, 0.2, 0.3), "bilinear")
    with pytest.raises(WeightsError, match="mean"):
        hugging_face_pixels({}, config, WHERE)
    for resample in (0, [1], {}, "bicubic", None, 2.5, True):
        with pytest.raises(WeightsError, match="interpolation"):
            hugging_face_pixels(raw | {"resample": resample}, config, WHERE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(raw: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """List the path of every key in nested objects."""
    inner = raw.items() if isinstance(raw, dict) else ()
    return [one for key, value in inner for one in ((*path, key), *places(value, (*path, key)))]


def spoilt(raw: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    inner = raw
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return raw


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=JSON)
def test_any_json_in_a_foreign_configuration_is_read_or_refused(
    data: st.DataObject, value: Any, theirs: Any
) -> None:
    first = open_clip_json(theirs)
    first["model_cfg"]["vision_cfg"]["mlp_ratio"] = first["model_cfg"]["text_cfg"]["mlp_ratio"] = 4.0
    second = theirs.config.to_dict() | {"vision_config_dict": None, "text_config_dict": None}
    third = {"image_processor": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}}
    config = hugging_face_clip(theirs.config.to_dict(), WHERE)
    for raw, read in (
        (first, lambda raw: open_clip_settings(raw, WHERE)),
        (second, lambda raw: hugging_face_clip(raw, WHERE)),
        (third, lambda raw: hugging_face_pixels(raw, config, WHERE)),
    ):
        path = data.draw(st.sampled_from(places(raw)))
        with contextlib.suppress(WeightsError):  # anything else is a crash
            read(spoilt(raw, path, value))
