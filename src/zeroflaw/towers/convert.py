"""Any readable CLIP to a weights folder of ours. The only place where pickled checkpoints are read.

They are read with ``torch.load(weights_only=True)``, which builds tensors and plain containers and calls
nothing else. TorchScript archives, in which OpenAI published its weights, hold program code and are refused.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zeroflaw.errors import UsageError, WeightsError, closest
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers import layouts
from zeroflaw.towers.backbone import Bundle
from zeroflaw.towers.folder import (
    CONFIG,
    OPEN_CLIP_CONFIG,
    hugging_face_settings,
    load_folder,
    read_json,
    read_tensors,
    reading,
    save_folder,
)
from zeroflaw.towers.model import CLIPConfig
from zeroflaw.towers.records import REGISTRY, WeightsRecord
from zeroflaw.towers.schema import build
from zeroflaw.towers.tokenizer import Tokenizer

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights
_PICKLED_WEIGHTS = ("open_clip_pytorch_model.bin", "pytorch_model.bin")


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    config: str | Path | CLIPConfig | None = None,
    tokenizer: str | Path | None = None,
    name: str | None = None,
    licence: str | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> WeightsRecord:
    """Write a weights folder from a folder or file in any readable layout.

    Args:
        source: a weights folder of any layout, or a file of weights (.safetensors, or pickled .pt, .pth,
            .bin, .ckpt).
        destination: the folder to write.
        config: sizes of the towers where the source does not say: a name from `REGISTRY` (which also gives
            licence, source and note), "openai" for OpenAI's own, an ``open_clip_config.json`` or Hugging Face
            ``config.json``, or a configuration. Not taken for folders that load as they are.
        tokenizer: a tokenizer.json, or a folder with it or with vocab.json and merges.txt; the source's
            folder if not given.
        name: of the weights; that of `REGISTRY`, or the file's or folder's name, if not given.
        licence: of the weights; the one that source or `REGISTRY` states if not given.
        half: store float16.
        overwrite: replace a weights folder that is there.

    Returns:
        The record of what was written.

    Raises:
        UsageError: the destination is taken, or an option does not apply.
        WeightsError: something is missing, damaged or refused.
    """
    bundle = _bundle(Path(source), config, tokenizer)
    record = bundle.record
    record = replace(record, name=name or record.name, licence=licence or record.licence)
    return save_folder(
        destination, bundle.model, bundle.tokenizer, bundle.preprocess, record, half=half, overwrite=overwrite
    )


def _bundle(path: Path, config: str | Path | CLIPConfig | None, tokenizer: str | Path | None) -> Bundle:
    with reading(path):
        weights = _pickled_in(path) if path.is_dir() else path
        if weights is not None and not weights.is_file():
            raise WeightsError(f"weights must be a folder or file that exists, got {path}; check the path")
    if weights is not None:
        return _bare(weights, config, Path(tokenizer) if tokenizer is not None else weights.parent)
    if config is not None or tokenizer is not None:
        raise UsageError(
            f"config and tokenizer are only for bare files, but {path} says its own; leave them out"
        )
    return load_folder(path)


def _pickled_in(folder: Path) -> Path | None:
    """Return the pickled weights of a published folder that has no others."""
    if any(folder.glob("*.safetensors")):
        return None
    return next((folder / name for name in _PICKLED_WEIGHTS if (folder / name).is_file()), None)


def _bare(weights: Path, config: str | Path | CLIPConfig | None, tokenizer: Path) -> Bundle:
    state = layouts.rename(_read(weights))
    shape, preprocess = _configuration(config, weights, state)
    known = REGISTRY.get(config) if isinstance(config, str) else None
    record = known or WeightsRecord(name=_plain_name(weights), source=f"a file {weights.name}")
    with reading(tokenizer):
        words = Tokenizer.read(tokenizer, context_length=shape.text.context_length)
    record = replace(record, activation=shape.vision.activation, revision=None)
    return Bundle(build(shape, state, str(weights)), words, preprocess, record)


def _plain_name(weights: Path) -> str:
    return weights.resolve().parent.name if weights.name in _PICKLED_WEIGHTS else weights.stem


def _configuration(
    config: str | Path | CLIPConfig | None, weights: Path, state: Mapping[str, Tensor]
) -> tuple[CLIPConfig, Preprocess]:
    if isinstance(config, CLIPConfig):
        return config, Preprocess(image_size=config.vision.image_size)
    if isinstance(config, str) and config == "openai":
        found = layouts.infer_config(state, "quick_gelu")
        return found, Preprocess(image_size=found.vision.image_size)
    if config is None:
        beside = [weights.parent / file for file in (OPEN_CLIP_CONFIG, CONFIG)]
        config = next((path for path in beside if path.is_file()), None)
    if config is None:
        raise WeightsError(
            f"a file of bare weights does not say its activation and sizes, and {weights.parent} has no "
            f"{OPEN_CLIP_CONFIG} and no {CONFIG}; give config: a name that 'zeroflaw models' lists, such a "
            "file, or 'openai' for OpenAI's own"
        )
    with reading(Path(config)):
        if Path(config).is_file():
            return _configuration_file(Path(config))
    return _configuration_named(str(config))


def _configuration_named(name: str) -> tuple[CLIPConfig, Preprocess]:
    record = REGISTRY.get(name)
    shape = None if record is None else record.config()
    if record is None or shape is None:
        known = [other for other, one in REGISTRY.items() if one.shape is not None]
        raise WeightsError(
            f"config must be a file that exists, 'openai', or a name of weights whose sizes are known, got "
            f"'{name}'{closest(name, known)}"
        )
    return shape, Preprocess(image_size=shape.vision.image_size, mean=record.mean, std=record.std)


def _configuration_file(path: Path) -> tuple[CLIPConfig, Preprocess]:
    raw = read_json(path)
    if "model_cfg" in raw:
        return layouts.open_clip_config(raw)
    return hugging_face_settings(path.parent, raw)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_tensors(path)
    if path.suffix not in PICKLED:
        raise WeightsError(
            f"weights must be .safetensors, {', '.join(PICKLED)} or a folder, got {path}; name one of these"
        )
    return _state(read_pickled(path), path)


def read_pickled(path: Path) -> Any:
    """Read a pickled checkpoint as tensors and plain containers; nothing in it is run.

    Raises:
        WeightsError: the file is damaged, is a TorchScript archive, or would run code.
    """
    _refuse_torchscript(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # torch warns of old and new pickle protocols; what it refuses, it raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # broken bytes can end the reader in any way
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{path} must be a checkpoint of plain tensors, got one that is damaged or would run code "
            f"({reason}); it was not run: get the weights as safetensors"
        ) from error


def _state(raw: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(raw, Mapping) and "prompt_learner" in raw:
        raise UsageError(
            f"weights of a CLIP were wanted, but {path} holds learned prompts of AnomalyCLIP; give "
            "--backbone with the CLIP that they were learned on (ViT-L-14-336/openai for the published ones)"
        )
    for key in _WRAPPERS:
        if isinstance(raw, Mapping) and isinstance(raw.get(key), Mapping):
            raw = raw[key]
    if not isinstance(raw, Mapping) or not all(isinstance(value, Tensor) for value in raw.values()):
        raise WeightsError(
            f"{path} must hold named tensors, got {type(raw).__name__}; use a checkpoint of a CLIP"
        )
    # Training on several devices puts "module." before every name.
    return {str(name).removeprefix("module."): tensor for name, tensor in raw.items()}


def _refuse_torchscript(path: Path) -> None:
    if "constants.pkl" in _parts(path):
        raise WeightsError(
            f"{path} is a TorchScript archive, which holds program code and is not opened; OpenAI's weights "
            "lie on the hub as safetensors: use --backbone ViT-B-32/openai and the like"
        )


def _parts(path: Path) -> set[str]:
    """Return the file names in a zip archive, and none for any other file."""
    with reading(path):
        if not zipfile.is_zipfile(path):
            return set()
        try:
            with zipfile.ZipFile(path) as archive:
                return {Path(name).name for name in archive.namelist()}
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise WeightsError(f"{path} is a damaged archive: {error}; fetch it again") from error
