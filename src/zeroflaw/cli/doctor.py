"""``zeroflaw doctor``: what runs on this machine, how fast, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import time
from importlib import metadata
from typing import Any

import click
import numpy as np

from zeroflaw._version import __version__
from zeroflaw.cli.output import json_option, put, put_json
from zeroflaw.detectors.opening import Engine, open_tower
from zeroflaw.errors import EXTRAS, ZeroflawError
from zeroflaw.runtime.features import FeatureRequest
from zeroflaw.runtime.onnx_engine import BUNDLED, OnnxTower
from zeroflaw.runtime.tower import test_pictures
from zeroflaw.towers.catalogue import cache_folder

ENGINES: tuple[Engine, ...] = ("onnx", "openvino", "torch")
_CORE = ("numpy", "pillow", "onnxruntime", "safetensors", "click", "tqdm", "pydantic", "jinja2", "scipy")
ROUNDS = 4
_DIFFERENCE = 1e-3  # of embeddings of length one: more is another answer
Facts = dict[str, Any]


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Say what zeroflaw finds on this machine; the exit code is 4 where the usual engine gives wrong answers.

    Every engine that is installed embeds the same pictures, whose answer is known.
    """
    facts: Facts = {
        "zeroflaw": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "packages": {name: _version(name) for name in _CORE},
        "missing extras": _missing(),
        "offline": os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"),
        "cache": _cache(),
        "engines": {name: _examine(name) for name in ENGINES},
    }
    if as_json:
        put_json(facts)
    else:
        for line in _lines(facts):
            put(line)
    return 0 if facts["engines"]["onnx"].get("agrees") else 4


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _missing() -> list[str]:
    """Return the extras that are not installed, each with a package that it lacks."""
    lacking = {EXTRAS[name]: name for name in EXTRAS if importlib.util.find_spec(name) is None}
    return [f"{extra} ({name})" for extra, name in lacking.items()]


def _cache() -> str:
    """Return the cache folder and what it holds, as `zeroflaw.towers.cache` finds it."""
    folder = cache_folder()
    if folder is None:
        return "off"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    return f"{folder} ({size / 2**20:.0f} MiB)"


def _examine(engine: Engine) -> Facts:
    """Let an engine embed pictures: images a second, and the difference from what is known."""
    photos = test_pictures()
    request = FeatureRequest(patches=True)
    try:
        tower = open_tower("mini", engine, "cpu", "float32")
        found = tower.embed(photos, request)
        begin = time.perf_counter()
        for photo in photos * ROUNDS:
            tower.embed([photo], request)
        spent = time.perf_counter() - begin
    except ZeroflawError as error:
        return {"works": False, "why": str(error)}
    difference = float(np.abs(found.image - OnnxTower(BUNDLED).answers).max())
    return {
        "works": True,
        "images a second": round(len(photos) * ROUNDS / spent, 1),
        "difference": difference,
        "agrees": difference <= _DIFFERENCE,
    }


def _lines(facts: Facts) -> list[str]:
    lines = [
        f"zeroflaw {facts['zeroflaw']} on Python {facts['python']}, {facts['machine']}",
        ", ".join(f"{name} {version}" for name, version in facts["packages"].items()),
        f"extras that are not installed: {', '.join(facts['missing extras']) or 'none'}",
        f"cache: {facts['cache']}; downloads are {'off' if facts['offline'] else 'on'}",
    ]
    for name, said in facts["engines"].items():
        if not said["works"]:
            lines.append(f"engine {name}: {said['why']}")
            continue
        verdict = "agrees" if said["agrees"] else "GIVES OTHER ANSWERS"
        lines.append(
            f"engine {name}: {said['images a second']} images a second, one at a time; {verdict} "
            f"(largest difference {said['difference']:.1e})"
        )
    return lines
