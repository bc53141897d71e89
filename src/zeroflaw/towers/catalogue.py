"""The weights that zeroflaw knows by name, as ``models.toml`` lists them. Importing this needs no torch."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from zeroflaw.errors import WeightsError, closest
from zeroflaw.files import LOCAL, read_toml
from zeroflaw.parameters import Record
from zeroflaw.towers.configs import CLIPConfig, from_json

MINI = "mini"

Text = Annotated[str, Field(max_length=2000)]
Colours = tuple[float, float, float]  # one number a channel: red, green, blue


class WeightsRecord(Record):
    """What is known of one set of weights.

    Attributes:
        name: ``architecture/tag``, ``mini``, or the name that a folder gives itself.
        licence: as the source states it.
        source: hub repository, or where else the weights come from.
        revision: commit of the source, where there is one and it is known.
        note: what a user should know.
        sha256: of the weights file as it was published; None before it was read.
    """

    name: Text
    licence: Text = "unknown"
    source: Text = "unknown"
    revision: Text | None = None
    note: Text = ""
    sha256: str | None = None


class Model(WeightsRecord):
    """Weights that can be had by name.

    Attributes:
        config: shape of the towers; None for the bundled model, whose folder says it.
        quick_gelu: whether both towers have QuickGELU, as ``config`` says, too.
        mean, std: what pixels are normalised with, where that is not what OpenAI's were; a configuration
            that comes with the weights goes before them.
        release: address of a file with the same weights outside the hub.
    """

    config: CLIPConfig | None = None
    quick_gelu: bool = False
    mean: Colours | None = None
    std: Colours | None = None
    release: str = ""


class _Catalogue(Record):
    shapes: dict[str, CLIPConfig]
    models: tuple[Model, ...]


def _read() -> dict[str, Model]:
    path = Path(__file__).parent / "models.toml"
    raw = read_toml(path, 1 << 20, "list of models", WeightsError)
    found = from_json(_Catalogue, json.dumps(raw), path.name)
    return {model.name: _with_config(model, found.shapes) for model in found.models}


def _with_config(model: Model, shapes: dict[str, CLIPConfig]) -> Model:
    config = shapes.get(model.name.partition("/")[0])
    if config is not None and model.quick_gelu:
        vision = replace(config.vision, activation="quick_gelu")
        config = replace(config, vision=vision, text=replace(config.text, activation="quick_gelu"))
    return model.model_copy(update={"config": config})


REGISTRY: dict[str, Model] = _read()


def find_model(name: str) -> Model:
    """Return what is known of a name.

    Raises:
        WeightsError: nothing is.
    """
    if name not in REGISTRY:
        raise WeightsError(
            f"a backbone must be one of the names that 'zeroflaw models' lists, or {LOCAL}FOLDER, got "
            f"'{name}'{closest(name, REGISTRY)}"
        )
    return REGISTRY[name]


def cache_folder() -> Path | None:
    """Return the cache folder, which need not exist, or None where `zeroflaw.towers.cache` is off."""
    chosen = os.environ.get("ZEROFLAW_CACHE", "")
    if chosen.lower() == "off":
        return None
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "zeroflaw"
