"""``zeroflaw export``: a detector, or the image tower of a backbone, as ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import click

from zeroflaw.cli.output import overwrite_option, quiet_option, say
from zeroflaw.cli.progress import fit_bar
from zeroflaw.detectors import PRESETS, is_folder, load
from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.detectors.opening import shared_backbone
from zeroflaw.errors import UsageError, needing
from zeroflaw.files import LOCAL
from zeroflaw.images import find_images


@click.command()
@click.argument("source", metavar="DETECTOR|BACKBONE")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder to write."
)
@click.option(
    "--with-resize", is_flag=True, help="Of a detector: also a graph that takes pictures of any size."
)
@click.option(
    "--size",
    "sizes",
    type=click.IntRange(16, 4096),
    multiple=True,
    metavar="PIXELS",
    help="Of a backbone: another input size at which patches are compared; may be repeated.",
)
@click.option(
    "--int8",
    multiple=True,
    metavar="PHOTOS",
    help="Of a detector: also a graph in 8 bits, if it says the same of these photos; may be repeated.",
)
@overwrite_option
@quiet_option
def export(
    source: str,
    output: Path,
    with_resize: bool,
    sizes: tuple[int, ...],
    int8: tuple[str, ...],
    overwrite: bool,
    quiet: bool,
) -> None:
    """Write ONNX graphs of a saved DETECTOR (a folder, or rwda) or of the image tower of a BACKBONE.

    A detector becomes one graph from pixels to log-odds, named scores and map, with its threshold, a model
    card and test pictures, for any language. A backbone becomes a folder that zeroflaw runs without torch:
    --backbone local-dir:DIR. Nothing is written unless the graphs agree with torch.
    """
    if output.exists() and not overwrite:
        raise UsageError(f"{output} is there already; give another folder or --overwrite")
    with needing("zeroflaw export", "export"):
        from zeroflaw.export.detector import export_detector
        from zeroflaw.export.tower import export_tower
    with fit_bar(quiet) as progress:
        if (source in PRESETS or is_folder(source)) and not source.startswith(LOCAL):
            if sizes:
                raise UsageError("--size is for a backbone; a detector knows its input sizes")
            detector = load(source)
            if not isinstance(detector, BackboneDetector):
                raise UsageError(f"a detector of kind {detector.name} cannot be a graph; use one of ours")
            photos = find_images(int8).paths if int8 else ()
            export_detector(detector, output, with_resize=with_resize, int8=photos, progress=progress)
            say(f"the detector is in {output}; what goes in and comes out stands in detector.json", quiet)
            return
        if int8:
            raise UsageError(
                "--int8 is for a detector, whose maps decide whether it may be; export the detector"
            )
        if with_resize:
            raise UsageError("--with-resize is for a detector; a backbone is resized for by zeroflaw")
        export_tower(shared_backbone(source, "cpu", "float32"), output, sizes, progress)
    say(f"the image tower is in {output}; use it with --backbone local-dir:{output}", quiet)
