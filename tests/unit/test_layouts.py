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
from zeroflaw.towers.layouts import (
    hugging_face_config,
    hugging_face_preprocess,
    infer_config,
    layout_of,
    open_clip_config,
    rename,
)
from zeroflaw.towers.model import CLIPConfig
from zeroflaw.towers.records import REGISTRY
from zeroflaw.towers.schema import empty_model, read_config, to_json

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def theirs() -> Any:
    return oracle(widths=(128, 64), heads=(2, 1))


def hugging_face_json(theirs: Any) -> dict[str, Any]:
    return theirs.config.to_dict()


def test_layouts_are_recognised(theirs: Any) -> None:
    assert layout_of(openai_state(theirs)) == "openai"
    assert layout_of(theirs.state_dict()) == "huggingface"
    assert layout_of(rename(theirs.state_dict())) == "zeroflaw"
    assert layout_of({"conv1.weight": torch.zeros(1)}) is None


def test_both_layouts_rename_to_exactly_the_tensors_of_the_model(theirs: Any) -> None:
    wanted = empty_model(hugging_face_config(hugging_face_json(theirs))).state_dict()
    for state in (openai_state(theirs), theirs.state_dict()):
        found = rename(state)
        assert {name: tensor.shape for name, tensor in found.items()} == {
            k: v.shape for k, v in wanted.items()
        }
    first, second = rename(openai_state(theirs)), rename(theirs.state_dict())
    assert all(torch.equal(first[name], second[name]) for name in wanted)


def test_buffers_that_are_no_weights_are_dropped(theirs: Any) -> None:
    extra = {
        "input_resolution": torch.tensor(48),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(9),
        "attn_mask": torch.zeros(2),
    }
    assert rename(openai_state(theirs) | extra).keys() == rename(openai_state(theirs)).keys()
    position_ids = {"text_model.embeddings.position_ids": torch.arange(77)}
    assert rename(dict(theirs.state_dict()) | position_ids).keys() == rename(theirs.state_dict()).keys()


def test_a_logit_scale_with_an_axis_loses_it(theirs: Any) -> None:
    state = openai_state(theirs)
    state["logit_scale"] = state["logit_scale"].view(1)
    assert rename(state)["logit_scale"].shape == ()


def test_another_model_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"layout of OpenAI.*got tensors such as layer1\.weight"):
        rename({"layer1.weight": torch.zeros(1)})


def test_a_missing_part_of_a_fused_tensor_is_refused(theirs: Any) -> None:
    state = dict(theirs.state_dict())
    del state["text_model.encoder.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(WeightsError, match=r"q, k and v of one shape, got \['q', 'v'\]"):
        rename(state)


def test_the_two_configurations_agree_with_each_other_and_with_the_shapes(theirs: Any) -> None:
    from_hub = hugging_face_config(hugging_face_json(theirs))
    assert open_clip_config(open_clip_json(theirs))[0] == from_hub
    quick = oracle(widths=(128, 64), heads=(2, 1), activation="quick_gelu")
    assert infer_config(rename(openai_state(quick)), "quick_gelu") == hugging_face_config(
        hugging_face_json(quick)
    )


def test_heads_of_openai_layout_are_64_wide(theirs: Any) -> None:
    found = infer_config(rename(openai_state(theirs)), "quick_gelu")
    assert (found.vision.heads, found.text.heads) == (2, 1)


def test_infer_config_says_what_is_missing(theirs: Any) -> None:
    state = rename(openai_state(theirs))
    del state["text.positions"]
    with pytest.raises(WeightsError, match=r"text\.positions"):
        infer_config(state, "quick_gelu")


def test_silent_hugging_face_configs_take_the_defaults_of_the_library() -> None:
    found = hugging_face_config({"model_type": "clip", "text_config": {}, "vision_config": {}})
    assert found == REGISTRY["ViT-B-32/openai"].config()


def test_the_dict_variant_of_older_hugging_face_configs_wins() -> None:
    raw = {
        "model_type": "clip",
        "text_config": {"hidden_act": "quick_gelu"},
        "text_config_dict": {"hidden_act": "gelu"},
        "vision_config": {},
    }
    found = hugging_face_config(raw)
    assert (found.text.activation, found.vision.activation) == ("gelu", "quick_gelu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "siglip"}, "model_type 'clip', got 'siglip'"),
        ({"text_config": None}, "object 'text_config'"),
        ({"vision_config": {"hidden_act": "relu"}}, "one of 'gelu', 'quick_gelu', got 'relu'"),
        ({"vision_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps"),
        ({"vision_config_dict": 5}, "object 'vision_config_dict', got 5"),
        ({"text_config_dict": [1]}, "object 'text_config_dict'"),
        ({"vision_config": {"hidden_size": 10**12}}, "vision.width' must be a whole number"),
    ],
)
def test_other_hugging_face_configs_are_refused(change: dict[str, Any], message: str) -> None:
    raw = {"model_type": "clip", "text_config": {}, "vision_config": {}} | change
    with pytest.raises(WeightsError, match=message):
        hugging_face_config(raw)


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
    with pytest.raises(WeightsError, match=f"'{where}'.*'{key}'"):
        open_clip_config(raw)


def test_open_clip_features_that_are_switched_off_are_not(theirs: Any) -> None:
    raw = open_clip_json(theirs)
    plain = open_clip_config(open_clip_json(theirs))
    raw["model_cfg"]["vision_cfg"] |= {"patch_dropout": 0.5, "ls_init_value": None, "attentional_pool": False}
    raw["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "somewhere", "no_causal_mask": False}
    assert open_clip_config(raw) == plain


@pytest.mark.parametrize("key", ["embed_dim", "vision_cfg", "text_cfg"])
def test_open_clip_configs_with_holes_are_refused(key: str, theirs: Any) -> None:
    raw = open_clip_json(theirs)
    del raw["model_cfg"][key]
    with pytest.raises(WeightsError, match=key):
        open_clip_config(raw)


def test_preprocessing_is_read_and_never_guessed(theirs: Any) -> None:
    _, found = open_clip_config(open_clip_json(theirs))
    assert (found.mean, found.std, found.interpolation) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic")
    config = hugging_face_config(hugging_face_json(theirs))
    raw = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "resample": 2}
    for one in (raw, {"image_processor": raw}):
        other = hugging_face_preprocess(one, config)
        assert (other.mean, other.interpolation) == ((0.1, 0.2, 0.3), "bilinear")
    with pytest.raises(WeightsError, match="image_mean and image_std"):
        hugging_face_preprocess({}, config)
    with pytest.raises(WeightsError, match="interpolation"):
        hugging_face_preprocess(raw | {"resample": 0}, config)


@pytest.mark.parametrize("value", [[1], {}, "bicubic", None, 2.5])
def test_a_filter_that_is_no_number_is_refused(value: object, theirs: Any) -> None:
    raw = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "resample": value}
    with pytest.raises(WeightsError, match=r"preprocess\.interpolation"):
        hugging_face_preprocess(raw, hugging_face_config(hugging_face_json(theirs)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "4", [4], None, True])
def test_an_mlp_ratio_that_is_no_number_is_refused(value: object, theirs: Any) -> None:
    raw = open_clip_json(theirs)
    raw["model_cfg"]["vision_cfg"]["mlp_ratio"] = value
    with pytest.raises(WeightsError, match=r"open_clip_config\.json must give all sizes"):
        open_clip_config(raw)


def test_open_clip_preprocessing_that_is_no_object_is_refused(theirs: Any) -> None:
    with pytest.raises(WeightsError, match=r"object 'preprocess_cfg', got \[1\]"):
        open_clip_config(open_clip_json(theirs) | {"preprocess_cfg": [1]})


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
    second = hugging_face_json(theirs) | {"vision_config_dict": None, "text_config_dict": None}
    third = {"image_processor": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}}
    config = hugging_face_config(hugging_face_json(theirs))
    for raw, read in (
        (first, open_clip_config),
        (second, hugging_face_config),
        (third, lambda raw: hugging_face_preprocess(raw, config)),
    ):
        path = data.draw(st.sampled_from(places(raw)))
        with contextlib.suppress(WeightsError):  # anything else is a crash
            read(spoilt(raw, path, value))


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "mini"])
def test_every_record_describes_a_model_that_can_be_built(name: str) -> None:
    config = REGISTRY[name].config()
    assert isinstance(config, CLIPConfig)
    assert read_config(to_json(config)) == config
    model = empty_model(config)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert config.vision.activation == ("quick_gelu" if name.endswith("/openai") else "gelu")


def test_sizes_of_published_models() -> None:
    """Numbers of parameters as their papers and repositories state them, in millions."""
    millions = {"ViT-B-32/openai": 151, "ViT-L-14/openai": 428, "ViT-H-14/laion2b_s32b_b79k": 986}
    millions["ViT-B-16-plus-240/laion400m_e32"] = 208
    for name, wanted in millions.items():
        config = REGISTRY[name].config()
        assert config is not None
        assert round(sum(p.numel() for p in empty_model(config).parameters()) / 1e6) == wanted
