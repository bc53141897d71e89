"""Export the bundled image tower for engines other than torch: ``python -m training.engine``.

It is written into the package, beside the code that runs it, after its answers were compared with torch's.
"""

from __future__ import annotations

from pathlib import Path

import click

from zeroflaw.export.tower import export_tower
from zeroflaw.runtime.onnx_engine import BUNDLED
from zeroflaw.towers.weights import load_backbone


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=BUNDLED, show_default=False)
def main(output: Path) -> None:
    """Write the graphs of the bundled image tower."""
    export_tower(load_backbone("mini", device="cpu"), output)
    size = sum(path.stat().st_size for path in output.iterdir())
    click.echo(f"{len(list(output.iterdir()))} files, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
