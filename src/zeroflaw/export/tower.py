"""An image tower as ONNX graphs, which `zeroflaw.runtime.onnx_engine` runs without torch.

Weights that are half-precision numbers anyway, as the bundled model's are, are stored as such and cast when a
graph is opened: half the size, the same values.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save as save_arrays
from torch import Tensor, nn

from zeroflaw.errors import OutputError, UsageError, needing
from zeroflaw.export.place import require_place
from zeroflaw.files import write_files
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures
from zeroflaw.runtime.onnx_engine import RECORD, SCHEMA, TABLES, OnnxTower
from zeroflaw.runtime.stream import Progress
from zeroflaw.runtime.tower import check_sizes, default_sizes, test_pictures
from zeroflaw.towers.backbone import Backbone, exact
from zeroflaw.towers.model import VisionTower
from zeroflaw.towers.patches import from_stem
from zeroflaw.towers.stem import Stem

OPSET = 18
_HALF = ".half"  # ends the name of a weight that is stored in half precision
SMALLEST = 256  # numbers of a weight that is worth halving
TOLERANCE = 1e-4  # of embeddings and features of length one


class _StemGraph(nn.Module):
    def __init__(self, stem: Stem) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.stem.convolve(pixels)
        return features, from_stem(features, self.stem.config.sizes)


class _TokensGraph(nn.Module):
    def __init__(self, vision: VisionTower) -> None:
        super().__init__()
        self.embedding = vision.patch_embedding

    def forward(self, start: Tensor) -> Tensor:
        embedding = self.embedding
        return embedding.embed(start) if isinstance(embedding, Stem) else embedding(start)


class _BlocksGraph(nn.Module):
    def __init__(self, vision: VisionTower) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        layers = range(1, self.vision.config.layers + 1)
        image, patches, kept = self.vision.all_tokens(tokens, tuple(layers))
        return image, patches, *(kept[layer] for layer in layers)


def export_tower(
    backbone: Backbone, folder: Path, sizes: Sequence[int] = (), progress: Progress | None = None
) -> None:
    """Write the image tower of a backbone as a folder that `OnnxTower` reads.

    Args:
        backbone: on the CPU, in float32.
        folder: which appears whole or not at all, in place of an earlier one.
        sizes: input sizes in pixels beside the tower's own; () is that at which patches are compared, too.
        progress: called with what is being done, steps done and steps in all.

    Raises:
        UsageError: the backbone is elsewhere, a size cannot be, a graph would be larger than ONNX allows, or
            the folder holds something else.
        OutputError: the graphs do not give what the backbone gives, or cannot be written.
    """
    require_place(folder)
    if backbone.device.type != "cpu" or backbone.dtype != torch.float32:
        raise UsageError("a tower is exported from the CPU in float32; load it with device='cpu'")
    stem = isinstance(backbone.model.vision.patch_embedding, Stem)
    sides = sorted({*default_sizes(backbone), *sizes})
    check_sizes(backbone, sides)
    files = _graphs(backbone.model.vision, backbone, progress)
    tables = {
        f"positions.{side}": backbone.model.vision.patch_positions((side // backbone.patch_size,) * 2).numpy()
        for side in ([backbone.image_size] if stem else sides)  # a stem compares patches before that
    }
    tables["answers"] = backbone.embed(test_pictures(), FeatureRequest()).image
    files[TABLES] = save_arrays({name: np.ascontiguousarray(table) for name, table in tables.items()})
    record = {
        "schema": SCHEMA,
        "name": backbone.name,
        "sha256": backbone.sha256,
        "fingerprint": backbone.fingerprint,
        "licence": backbone.licence,
        "revision": backbone.revision,
        "embed_dim": backbone.embed_dim,
        "patch_size": backbone.patch_size,
        "layers": backbone.layers,
        "width": backbone.width,
        "patch_width": backbone.patch_width,
        "has_aligned_patches": backbone.has_aligned_patches,
        "has_stem": stem,
        "preprocess": asdict(backbone.preprocess),
        "sha256_of_files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    files[RECORD] = (json.dumps(record, indent=1) + "\n").encode()

    def compare(fresh: Path) -> None:
        worst = disagreement(backbone, OnnxTower(fresh), sides)
        if worst > TOLERANCE:
            raise OutputError(
                f"the exported graphs of {backbone.name} differ from the tower by {worst:.1e}, and "
                f"{TOLERANCE:.0e} is the most; nothing was written"
            )

    write_files(folder, files, "the tower", OutputError, compare)


def disagreement(backbone: Backbone, tower: OnnxTower, sizes: Sequence[int]) -> float:
    """Return the largest difference of two towers' features, over three drawn images at 1 and 3 a batch."""
    images = test_pictures()
    request = FeatureRequest(
        windows=((2, 1),), patches=True, layers=(1, backbone.layers), patch_sizes=tuple(sizes)
    )
    worst = 0.0
    for batch in (images[:1], images):
        worst = max(worst, _difference(backbone.embed(batch, request), tower.embed(batch, request)))
    return worst


def _difference(wanted: ImageFeatures, found: ImageFeatures) -> float:
    """Return the largest difference; tokens of blocks are of any length and count by their largest."""
    assert wanted.patches is not None
    assert found.patches is not None
    pairs = [(wanted.image, found.image), (wanted.patches, found.patches)]
    pairs += [(part, found.windows[key]) for key, part in wanted.windows.items()]
    pairs += [(part, found.layers[block]) for block, part in wanted.layers.items()]
    pairs += [(part, found.patch_features[size]) for size, part in wanted.patch_features.items()]
    return max(float(np.abs(one - other).max() / max(1.0, np.abs(one).max())) for one, other in pairs)


def _graphs(vision: VisionTower, backbone: Backbone, progress: Progress | None) -> dict[str, bytes]:
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    side, (rows, columns) = backbone.image_size, backbone.grid
    pixels, patches = torch.randn(2, 3, side, side), torch.randn(2, rows * columns, vision.config.width)
    start = pixels
    with exact():
        vision(pixels)  # fills the caches of index tensors, which tracing would fill with its own kind
    down, across = torch.export.Dim("rows"), torch.export.Dim("columns")
    any_size = {0: batch, 2: backbone.patch_size * down, 3: backbone.patch_size * across}
    todo: list[tuple[str, nn.Module, str, Tensor, Mapping[int, Any], list[str]]] = []
    if isinstance(vision.patch_embedding, Stem):
        stem = _StemGraph(vision.patch_embedding)
        todo.append(("stem", stem, "pixels", pixels, any_size, ["features", "patch_features"]))
        start = torch.randn(2, sum(vision.patch_embedding.config.sizes), rows, columns)
        any_size = {0: batch}  # distances between patches belong to one grid
    todo.append(("tokens", _TokensGraph(vision), "start", start, any_size, ["tokens"]))
    layers = [f"layer_{layer}" for layer in range(1, backbone.layers + 1)]
    free = {0: batch, 1: tokens}
    todo.append(("blocks", _BlocksGraph(vision), "tokens", patches, free, ["image", "patches", *layers]))
    found = {}
    for number, (name, module, source, example, lengths, outputs) in enumerate(todo):
        if progress is not None:
            progress("graphs", number, len(todo))
        found[f"{name}.onnx"] = graph(module, {source: example}, {source: lengths}, outputs)
    if progress is not None:
        progress("graphs", len(todo), len(todo))
    return found


class _ByPlace(nn.Module):
    """A module whose inputs are given by place: names are those of the graph, and may be any number."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)


def graph(
    module: nn.Module, inputs: Mapping[str, Tensor], free: Mapping[str, Any], outputs: Sequence[str]
) -> bytes:
    """Return a module as an ONNX graph.

    Args:
        module: whose ``forward`` takes ``inputs``.
        inputs: an example of each, by name.
        free: dimensions of each input that may have any length.
        outputs: names.

    Raises:
        UsageError: what writes ONNX files is not installed, or the graph would have 2 GiB or more.
    """
    with needing("writing ONNX files"):
        import onnxscript  # noqa: F401  torch's exporter needs it
    with quiet("torch.onnx"), exact():
        program = torch.onnx.export(
            _ByPlace(module).eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(tuple(free[name] for name in inputs),),
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget(model)
    try:
        return halved(model)
    except ValueError as error:
        raise UsageError(f"a graph of this tower is larger than ONNX files may be ({error})") from error


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep what a library says about its own insides off the terminal; ``name`` is that of its logger."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _forget(model: Any) -> None:
    """Take out what the exporter notes of source files and their lines."""
    model.doc_string = ""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")


def halved(model: Any) -> bytes:
    """Return a model as a file; weights that are half-precision numbers anyway are stored as such."""
    with needing("writing ONNX files"):
        import onnx
    casts, graph = [], model.graph
    for weight in graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):  # to infinity, which is another value
            half = values.astype(np.float16)
        if values.size < SMALLEST or not np.array_equal(half.astype(np.float32), values):
            continue
        name = weight.name
        weight.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}{_HALF}"))
        casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def singled(model: Any) -> Any:
    """Undo `halved`: weights are single-precision numbers again, without casts."""
    with needing("writing ONNX files"):
        import onnx
    graph, halves = model.graph, set()
    for weight in graph.initializer:
        if weight.name.endswith(_HALF):
            values = onnx.numpy_helper.to_array(weight).astype(np.float32)
            halves.add(weight.name)
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name.removesuffix(_HALF)))
    nodes = [node for node in graph.node if not (node.op_type == "Cast" and node.input[0] in halves)]
    del graph.node[:]
    graph.node.extend(nodes)
    return model
