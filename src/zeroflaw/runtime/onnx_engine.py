"""An exported image tower, run by ONNX Runtime or OpenVINO; no torch.

`zeroflaw.export.tower` writes the folder: graphs, ``tower.json``, and positions with known answers in
``tables.safetensors``. The bundled model's own lies in
the package. Graphs:

- ``stem.onnx``, where the tower has a stem: pixels (B, 3, Y, X) to stem features (B, K, R, S) and patch
  features (B, P, C) of length one.
- ``tokens.onnx``: stem features, or pixels, to patch tokens (B, P, C), without their positions.
- ``blocks.onnx``: patch tokens of an image, or of a window, (N, T, C) to the embeddings of class token (N, E)
  and patches (N, T, E), and the tokens after each block (N, T, C).

Shapes as in `zeroflaw.runtime.features`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from zeroflaw.errors import UsageError, WeightsError, ZeroflawError, lacks_memory, needing, reason
from zeroflaw.files import read_bytes, read_json
from zeroflaw.parameters import Record, in_words
from zeroflaw.runtime.features import FeatureRequest, Floats, ImageFeatures
from zeroflaw.runtime.preprocess import Pixels, Preprocess
from zeroflaw.runtime.processors import each, processor_count
from zeroflaw.runtime.scores import make_windows
from zeroflaw.runtime.tower import compared, compared_layers, in_passes

SCHEMA = 1
RECORD = "tower.json"
TABLES = "tables.safetensors"
BUNDLED = Path(__file__).parent / "mini"
LARGEST_GRAPH = 4 * 2**30  # bytes; an image tower of the largest CLIP has 3.7 GB

EngineName = Literal["onnx", "openvino"]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Graph = Callable[[Mapping[str, Floats], Sequence[str]], list[Floats]]
"""Runs a graph: inputs by name and names of the outputs wanted, to these outputs."""

_LEFT_BEHIND: list[dict[str, Graph]] = []
_CHUNK = 512  # windows at a time: more leave the processor's cache


class TowerRecord(Record):
    """``tower.json``: what an exported tower is; attributes as in `zeroflaw.runtime.tower.ImageTower`.

    Attributes:
        preprocess: parameters of `zeroflaw.runtime.preprocess.Preprocess`.
        has_stem: whether there is a ``stem.onnx``.
        sha256_of_files: of every other file of the folder.
    """

    schema_: Annotated[int, Field(alias="schema")]
    name: str
    sha256: str
    fingerprint: str
    licence: str
    revision: str | None
    embed_dim: Annotated[int, Field(ge=1, le=8192)]
    patch_size: Annotated[int, Field(ge=1, le=1024)]
    layers: Annotated[int, Field(ge=1, le=128)]
    width: Annotated[int, Field(ge=1, le=8192)]
    patch_width: Annotated[int, Field(ge=1, le=65_536)]
    has_aligned_patches: bool
    has_stem: bool
    preprocess: dict[str, Any]
    sha256_of_files: dict[str, Digest]


class OnnxTower:
    """An exported image tower behind an engine; see `zeroflaw.runtime.tower.ImageTower`.

    Attributes:
        record: what ``tower.json`` says.
        engine: "onnx" or "openvino".
    """

    def __init__(
        self, folder: Path, engine: EngineName = "onnx", dtype: str = "float32", threads: int | None = None
    ) -> None:
        """Read ``tower.json``; graphs are opened when they are first needed.

        Args:
            folder: what `zeroflaw.export.tower.export_tower` wrote.
            engine: "onnx" for ONNX Runtime, "openvino" for OpenVINO.
            dtype: "float32", or "bfloat16" on OpenVINO.
            threads: of the engine; None is its own choice.

        Raises:
            WeightsError: the folder is missing, damaged or of another version.
            UsageError: the engine does not compute in ``dtype``.
        """
        raw = read_json(folder / RECORD, 1 << 20, "description of an exported tower", WeightsError)
        if raw.get("schema") != SCHEMA:
            raise WeightsError(
                f"{folder / RECORD} has schema {raw.get('schema')!r}, and this version reads {SCHEMA}; make "
                "it anew with: zeroflaw export BACKBONE -o DIR"
            )
        if engine == "onnx" and dtype != "float32":
            raise UsageError(
                f"ONNX Runtime computes in float32, got {dtype}; use the engine openvino or torch"
            )
        record = TowerRecord.read(raw, str(folder / RECORD), WeightsError)
        self.record = record
        self.engine = engine
        self._folder, self._dtype, self._threads = folder, dtype, threads
        try:
            self.preprocess = TypeAdapter(Preprocess).validate_python(record.preprocess)
        except ValidationError as error:
            raise in_words(error, Preprocess, WeightsError, f"{folder / RECORD}, preprocess") from None
        # What every image tower says of itself; see `ImageTower`.
        self.name, self.sha256, self.fingerprint = record.name, record.sha256, record.fingerprint
        self.licence, self.revision, self.embed_dim = record.licence, record.revision, record.embed_dim
        self.image_size, self.patch_size = self.preprocess.image_size, record.patch_size
        self.grid = (self.image_size // self.patch_size,) * 2
        self.layers, self.width, self.patch_width = record.layers, record.width, record.patch_width
        self.has_aligned_patches = record.has_aligned_patches
        self._open: dict[str, Graph] = {}
        self._shares: dict[int, OnnxTower] = {}  # the same with so many threads
        self._process = os.getpid()
        self._opening = threading.Lock()

    def embed(self, images: Sequence[Pixels], request: FeatureRequest) -> ImageFeatures:
        """Embed RGB images, uint8 (H, W, 3) of any sizes; see `ImageTower.embed`."""
        processors = self._threads or processor_count()
        parts = min(len(images), processors) if self._in_parts else 1
        if parts < 2:
            return self._embed(images, request)
        share = self._share(processors // parts)
        ends = [len(images) * part // parts for part in range(parts + 1)]
        some = [images[start:end] for start, end in itertools.pairwise(ends)]
        return ImageFeatures.join(each(lambda part: share._embed(part, request), some))

    @property
    def _in_parts(self) -> bool:
        """Whether parts of a batch are run at the same time, each by fewer threads.

        Threads that share out the small convolutions of a stem wait for one another; those with photos of
        their own do not. The large products of a CLIP share out well, and its weights are too large to be
        held twice; OpenVINO has ways of its own.
        """
        return self.engine == "onnx" and self.record.has_stem

    def _share(self, threads: int) -> OnnxTower:
        with self._opening:
            if threads not in self._shares:
                self._shares[threads] = OnnxTower(self._folder, self.engine, self._dtype, threads)
            return self._shares[threads]

    def _embed(self, images: Sequence[Pixels], request: FeatureRequest) -> ImageFeatures:
        blocks = compared_layers(self.layers, stem=self.record.has_stem)
        return in_passes(
            self,
            request,
            blocks,
            native=lambda layers: self._native(images, request, layers),
            elsewhere=lambda size: self._elsewhere(images, size, blocks),
            compare=lambda tokens: (
                tokens[0] if self.record.has_stem else compared([tokens[b] for b in blocks])
            ),
        )

    def _native(
        self, images: Sequence[Pixels], request: FeatureRequest, layers: Sequence[int]
    ) -> ImageFeatures:
        """Run the pass at the tower's own size; of a stem, block 0 are its patch features."""
        self._positions(self.image_size)  # that there are any, before memory is taken for pixels
        start, kept = self._pixels(images, self.image_size), {}
        if self.record.has_stem:
            start, kept[0] = self._run("stem", {"pixels": start}, ("features", "patch_features"))
        tokens = self._tokens(start, self.image_size)
        inside = [block for block in layers if block]
        found = self._blocks(tokens, patches=request.patches, layers=inside)
        kept |= {block: found[f"layer_{block}"] for block in inside}
        return ImageFeatures(
            image=found["image"],
            grid=self.grid,
            windows={key: self._windows(tokens, *key) for key in request.windows},
            patches=found.get("patches"),
            layers=kept,
        )

    def _elsewhere(self, images: Sequence[Pixels], size: int, blocks: Sequence[int]) -> dict[int, Floats]:
        """Run a pass at another input size; of a stem, its patch features as block 0."""
        pixels = self._pixels(images, size)
        if self.record.has_stem:
            return {0: self._run("stem", {"pixels": pixels}, ("patch_features",))[0]}
        found = self._blocks(self._tokens(pixels, size), layers=blocks)
        return {block: found[f"layer_{block}"] for block in blocks}

    def _tokens(self, start: Floats, size: int) -> Floats:
        return self._run("tokens", {"start": start}, ("tokens",))[0] + self._positions(size)

    def _blocks(
        self, tokens: Floats, *, patches: bool = False, layers: Sequence[int] = ()
    ) -> dict[str, Floats]:
        names = ["image", *["patches"] * patches, *(f"layer_{block}" for block in layers)]
        return dict(zip(names, self._run("blocks", {"tokens": tokens}, names), strict=True))

    def _windows(self, tokens: Floats, size: int, stride: int) -> Floats:
        index = make_windows(self.grid, size, stride).index
        gathered = tokens[:, index].reshape(-1, index.shape[1], tokens.shape[-1])  # (B * W, T, C)
        parts = [
            self._blocks(gathered[start : start + _CHUNK])["image"]
            for start in range(0, len(gathered), _CHUNK)
        ]
        return np.concatenate(parts).reshape(len(tokens), len(index), -1)

    def _pixels(self, images: Sequence[Pixels], size: int) -> Floats:
        return replace(self.preprocess, image_size=size)(images)

    @property
    def answers(self) -> Floats:
        """Embeddings (3, E) of `zeroflaw.runtime.tower.test_pictures`, as torch gave them."""
        return self._tables["answers"]

    @cached_property
    def _tables(self) -> dict[str, Floats]:
        try:
            return load_arrays(self._checked(TABLES))
        except SafetensorError as error:
            raise WeightsError(f"{self._folder / TABLES} holds no arrays ({error}); export again") from error

    def _positions(self, size: int) -> Floats:
        table = self._tables.get(f"positions.{size}")
        if table is None:
            sizes = [name.partition(".")[2] for name in self._tables if name.startswith("positions.")]
            raise UsageError(
                f"{self.name} was exported for photos of {', '.join(sorted(sizes))} pixels, got {size}; "
                f"export it again with --size {size}, or use the engine torch"
            )
        return table

    def _checked(self, name: str) -> bytes:
        """Return a file of the folder after a look at its SHA-256."""
        path = self._folder / name
        data = read_bytes(path, LARGEST_GRAPH, "file of an exported tower", WeightsError)
        if hashlib.sha256(data).hexdigest() != self.record.sha256_of_files.get(name):
            raise WeightsError(f"{path} is damaged: it is not the file that was exported; export it again")
        return data

    def _run(self, graph: str, inputs: Mapping[str, Floats], outputs: Sequence[str]) -> list[Floats]:
        with self._opening:
            if self._process != os.getpid():  # forked: the threads of the engines stayed in the parent
                _LEFT_BEHIND.append(self._open)  # to close them would wait for these threads
                self._open, self._process = {}, os.getpid()
            opened = self._graph(graph)
        try:
            return opened(inputs, outputs)
        except Exception as error:  # those of the engines have no base of their own
            if lacks_memory(error):
                count = max(len(part) for part in inputs.values())
                raise UsageError(
                    f"there is not enough memory to run {self.name} on {count} photos or windows at a time; "
                    "use a smaller --batch-size (batch_size)"
                ) from error
            raise UsageError(
                f"{self.engine} cannot run the graphs of {self.name} on this machine "
                f"({reason(error).splitlines()[-1]}); use another engine, see 'zeroflaw doctor'"
            ) from error

    def _graph(self, graph: str) -> Graph:
        if graph not in self._open:
            data = self._checked(f"{graph}.onnx")
            opened = open_openvino if self.engine == "openvino" else open_onnx
            try:
                self._open[graph] = opened(data, self._dtype, self._threads)
            except Exception as error:  # those of the engines have no base of their own
                if isinstance(error, ZeroflawError):
                    raise
                if isinstance(error.__cause__, KeyboardInterrupt):  # while the engine's library was imported
                    raise error.__cause__ from None
                if lacks_memory(error):
                    raise UsageError(
                        f"there is not enough memory to open {self.name}, {len(data) / 2**20:.0f} MiB of "
                        "weights; end other programs, or take a smaller backbone"
                    ) from error
                raise WeightsError(
                    f"{self._folder / graph}.onnx cannot be run by {self.engine} ({reason(error)})"
                ) from error
        return self._open[graph]


def open_onnx(data: bytes, dtype: str, threads: int | None) -> Graph:
    """Open a graph with ONNX Runtime, on processors.

    Whatever ONNX Runtime raises where it is no graph, or one of another version, is passed on.
    """
    import onnxruntime  # a quarter of a second, and of no use to those who fit on torch

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    allowed = processor_count()
    # Its own choice, one a core, knows no limits of containers.
    options.intra_op_num_threads = threads or (allowed if allowed < (os.cpu_count() or 1) else 0)
    # Threads that spin while they wait take the processor from reading, scoring and drawing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Floats], outputs: Sequence[str]) -> list[Floats]:
        return session.run(list(outputs), dict(inputs))  # type: ignore[no-any-return]

    return run


def open_openvino(data: bytes, dtype: str, threads: int | None) -> Graph:
    """Open a graph with OpenVINO, on processors.

    Raises:
        UsageError: OpenVINO is not installed.
        RuntimeError: it is no graph, or one of another version.
    """
    with needing("the engine openvino"):
        import openvino
    precision = openvino.Type.bf16 if dtype == "bfloat16" else openvino.Type.f32
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", config)
    request, one_at_a_time = compiled.create_infer_request(), threading.Lock()

    def run(inputs: Mapping[str, Floats], outputs: Sequence[str]) -> list[Floats]:
        with one_at_a_time:
            found = request.infer(dict(inputs))
            return [np.array(found[name], np.float32) for name in outputs]

    return run


@lru_cache(maxsize=4)
def shared_tower(
    folder: Path, engine: EngineName, dtype: str = "float32", threads: int | None = None
) -> OnnxTower:
    """Open an exported tower once for all detectors of a process that use it; opening it is quick."""
    return OnnxTower(folder, engine, dtype, threads)


__all__ = ["BUNDLED", "EngineName", "OnnxTower", "TowerRecord", "shared_tower"]
