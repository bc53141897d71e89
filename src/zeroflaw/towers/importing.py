"""Weights as others publish them, read into our terms: folders, files, and the only place that opens pickles.

Layouts are those of `zeroflaw.towers.layouts`. Pickled checkpoints are read with
``torch.load(weights_only=True)``, which builds tensors and plain containers and calls nothing else.
TorchScript archives, in which OpenAI published its weights, hold program code and are refused.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zeroflaw.errors import UsageError, WeightsError, closest
from zeroflaw.files import LOCAL
from zeroflaw.runtime.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from zeroflaw.towers.backbone import Bundle
from zeroflaw.towers.catalogue import REGISTRY, Model, WeightsRecord
from zeroflaw.towers.configs import CLIPConfig, MAEConfig
from zeroflaw.towers.folder import (
    CARD,
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    digest_of,
    fill,
    is_ours,
    load_folder,
    read_json,
    read_tensors,
    reading,
    save_folder,
)
from zeroflaw.towers.layouts import (
    State,
    hugging_face_clip,
    hugging_face_mae,
    hugging_face_pixels,
    infer_config,
    open_clip_settings,
    rename,
)
from zeroflaw.towers.mae import MAE
from zeroflaw.towers.model import CLIP
from zeroflaw.towers.tokenizer import Tokenizer

Settings = tuple[CLIPConfig | MAEConfig, Preprocess]

OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
PICKLED = (".pt", ".pth", ".bin", ".ckpt")
_PICKLED_WEIGHTS = ("open_clip_pytorch_model.bin", "pytorch_model.bin")
_FACTS = {"name", "licence", "source", "note"}  # of the catalogue
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    config: str | Path | None = None,
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
        config: what a bare file is: a name of the catalogue (which also gives licence, source and note),
            "openai" for OpenAI's own, an ``open_clip_config.json`` or Hugging Face ``config.json``; if not
            given, the configuration beside the file.
        tokenizer: a tokenizer.json, or a folder with it or with vocab.json and merges.txt; the source's
            folder if not given.
        name: of the weights; that of the catalogue, or the file's or folder's name, if not given.
        licence: of the weights; the one that source or catalogue states if not given.
        half: store float16.
        overwrite: replace a weights folder that is there.

    Returns:
        The record of what was written.

    Raises:
        UsageError: the destination is taken, or an option does not apply.
        WeightsError: something is missing, damaged or refused.
    """
    path = Path(source)
    if is_ours(path):
        if config is not None or tokenizer is not None:
            raise _useless(path)
        kind = read_json(path / CONFIG)["kind"]
        bundle = load_folder(path, MAE if kind == MAE.kind else CLIP)
    else:
        bundle = import_weights(path, config=config, tokenizer=tokenizer, pickled=True)
    given = {"name": name, "licence": licence}
    record = bundle.record.model_copy(update={key: text for key, text in given.items() if text})
    return save_folder(
        destination,
        bundle.model,
        bundle.tokenizer,
        bundle.preprocess,
        record,
        half=half,
        origin=bundle.origin,
        overwrite=overwrite,
    )


def import_model(model: Model, folder: Path, revision: str) -> Bundle:
    """Read the folder of weights that were downloaded by name; errors as for `import_weights`."""
    bundle = import_weights(folder)
    if bundle.model.config != model.config:
        raise WeightsError(
            f"{model.source} must hold {model.config}, got {bundle.model.config}: it has changed; "
            f"use an older revision through {LOCAL}FOLDER"
        )
    facts = model.model_dump(include=_FACTS) | {"revision": revision}
    bundle.record = bundle.record.model_copy(update=facts)
    return bundle


def import_weights(
    path: Path,
    *,
    config: str | Path | None = None,
    tokenizer: str | Path | None = None,
    pickled: bool = False,
) -> Bundle:
    """Read weights in a published layout.

    Args:
        path: a folder; with ``pickled`` also a file of bare weights.
        config: what such a file is; see `convert`.
        tokenizer: where it lies, if not beside such a file.
        pickled: open pickled files, too.

    Raises:
        UsageError: ``config`` or ``tokenizer`` are given for a folder, which says its own.
        WeightsError: something is missing, damaged or refused; the message says what and where.
    """
    described = None
    with reading(path):
        if path.is_dir():
            if config is not None or tokenizer is not None:
                raise _useless(path)
            described, weights = _in_folder(path, pickled)
        elif path.is_file() and pickled:
            weights = path
        else:
            raise WeightsError(
                f"weights must be a folder with configuration, tokenizer and preprocessing, got {path}, "
                f"{'a bare file' if path.is_file() else 'which does not exist'}; give the folder that they "
                "came in, or use 'zeroflaw convert' with a configuration"
            )
    state = rename(_read_state(weights))
    shape, preprocess = _settings(config, weights, state) if described is None else read_settings(described)
    facts = {"name": path.resolve().name if described else path.stem, "source": f"a file {weights.name}"}
    facts["licence"] = _licence(weights.parent / CARD)
    if isinstance(config, str) and config in REGISTRY:
        facts = REGISTRY[config].model_dump(include=_FACTS)
    record = WeightsRecord(**facts, sha256=digest_of(weights))
    origin = {WEIGHTS: digest_of(weights)}
    if isinstance(shape, MAEConfig):
        bundle = fill(shape, _as_autoencoder(state, shape, weights), None, preprocess, record, weights, MAE)
    else:
        beside = Path(weights.parent if tokenizer is None else tokenizer)
        with reading(beside):
            words = Tokenizer.read(beside, shape.text.context_length)
        bundle = fill(shape, state, words, preprocess, record, weights)
        origin[TOKENIZER] = words.sha256
    bundle.origin = origin
    return bundle


def _as_autoencoder(state: State, shape: MAEConfig, weights: Path) -> State:
    """Make sure that there is a decoder, and put zeros where the network has no bias."""
    if not any(name.startswith("decoder.") for name in state):
        raise WeightsError(
            f"masked-autoencoder weights with a decoder are needed, but {weights} holds the encoder only, "
            "which cannot reconstruct; give those of a ViTMAEForPreTraining"
        )
    fused = [name for name in state if name.endswith(".attn.qkv.weight") and not shape.qkv_bias]
    return state | {f"{name.removesuffix('weight')}bias": torch.zeros(len(state[name])) for name in fused}


def _useless(path: Path) -> UsageError:
    return UsageError(f"config and tokenizer are for bare files, but {path} says its own; leave them out")


def _in_folder(folder: Path, pickled: bool) -> tuple[Path, Path]:
    """Return the files of a published folder that say what the tensors are, and hold them."""
    described = next(
        (folder / name for name in (OPEN_CLIP_CONFIG, CONFIG) if (folder / name).is_file()), None
    )
    usual = WEIGHTS if described == folder / CONFIG else OPEN_CLIP_WEIGHTS
    found = [folder / usual] if (folder / usual).is_file() else sorted(folder.glob("*.safetensors"))
    if not found and pickled:
        found = [folder / name for name in _PICKLED_WEIGHTS if (folder / name).is_file()]
    if described is None or len(found) != 1:
        names = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
        raise WeightsError(
            f"a weights folder needs {CONFIG} of zeroflaw or Hugging Face, or {OPEN_CLIP_CONFIG}, and one "
            f".safetensors file, usually {usual}; {folder} has {names}; fetch the rest, or turn pickled "
            "or bare weights into a folder with 'zeroflaw convert'"
        )
    return described, found[0]


def _licence(card: Path) -> str:
    """Return what the header of a model card says of the licence."""
    if not card.is_file():
        return "unknown"
    with card.open(encoding="utf-8", errors="replace") as lines:
        header = lines.read(10_000).partition("---\n")[2].partition("---\n")[0]
    found = re.search(r"^license:[ \t]*([\w.\-]+)[ \t]*$", header, re.MULTILINE)
    return found[1] if found else "unknown"


# Tensors


def _read_state(path: Path) -> State:
    if path.suffix == ".safetensors":
        return read_tensors(path)
    if path.suffix not in PICKLED:
        raise WeightsError(
            f"weights must be .safetensors, {', '.join(PICKLED)} or a folder, got {path}; name one of these"
        )
    raw = read_pickled(path)
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


def read_pickled(path: Path) -> Any:
    """Read a pickled checkpoint as tensors and plain containers; nothing in it is run.

    Raises:
        WeightsError: the file is damaged, is a TorchScript archive, or would run code.
    """
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickle protocols; what it refuses, it raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # broken bytes can end the reader in any way
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise WeightsError(
            f"{path} must be a checkpoint of plain tensors, got one that is damaged or would run code "
            f"({said}); it was not run: get the weights as safetensors"
        ) from error


def _check_archive(path: Path) -> None:
    """Refuse archives with program code, and compressed ones, which could hold more than memory does."""
    with reading(path):
        if not path.is_file():  # a pipe might never end
            raise WeightsError(f"{path} must be a file of weights, got none; check the path")
        if not zipfile.is_zipfile(path):
            return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise WeightsError(f"{path} is a damaged archive: {error}; fetch it again") from error
    if any(Path(entry.filename).name == "constants.pkl" for entry in entries):
        raise WeightsError(
            f"{path} is a TorchScript archive, which holds program code and is not opened; OpenAI's weights "
            "lie on the hub as safetensors: use --backbone ViT-B-32/openai and the like"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError(f"{path} is compressed, which no checkpoint of torch is; fetch it again")


# What a file is


def _settings(config: str | Path | None, weights: Path, state: State) -> Settings:
    """Find out what a file of bare weights is."""
    if config == "openai":
        found = infer_config(state, str(weights))
        return found, Preprocess(image_size=found.vision.image_size)
    beside = [path for name in (OPEN_CLIP_CONFIG, CONFIG) if (path := weights.parent / name).is_file()]
    if config is None and not beside:
        raise WeightsError(
            f"a file of bare weights does not say its activation and sizes, and {weights.parent} has no "
            f"{OPEN_CLIP_CONFIG} and no {CONFIG}; give config: a name that 'zeroflaw models' lists, such a "
            "file, or 'openai' for OpenAI's own"
        )
    path = beside[0] if config is None else Path(config)
    with reading(path):
        if path.is_file():
            return read_settings(path)
    model = REGISTRY.get(str(config))
    if model is None or model.config is None:
        known = [name for name, one in REGISTRY.items() if one.config is not None]
        raise WeightsError(
            f"config must be a file that exists, 'openai', or a name of weights whose sizes are known, got "
            f"'{config}'{closest(str(config), known)}"
        )
    side = model.config.vision.image_size
    return model.config, Preprocess(
        image_size=side, mean=model.mean or OPENAI_MEAN, std=model.std or OPENAI_STD
    )


def read_settings(path: Path) -> Settings:
    """Read a published configuration, and the preprocessing that it holds or that lies beside it.

    Raises:
        WeightsError: one of them is missing or damaged, or of a network that we do not build.
    """
    raw = read_json(path)
    if "model_cfg" in raw:
        return open_clip_settings(raw, str(path))
    config: CLIPConfig | MAEConfig
    kind = str(raw.get("model_type"))
    if kind == "clip":
        config = hugging_face_clip(raw, str(path))
    elif kind == "vit_mae":
        config = hugging_face_mae(raw, str(path))
    else:
        raise WeightsError(
            f"{path} must have model_type clip, or vit_mae for an autoencoder, got {kind[:40]!r}; "
            "use other weights"
        )
    beside = next((file for name in PREPROCESSORS if (file := path.parent / name).is_file()), None)
    if beside is None:
        raise WeightsError(
            f"{' or '.join(PREPROCESSORS)} must lie in {path.parent}: preprocessing is never guessed; fetch "
            "that file too"
        )
    return config, hugging_face_pixels(read_json(beside), config, str(beside))
