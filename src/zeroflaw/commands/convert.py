"""``zeroflaw convert``: published weights into a weights folder."""

from __future__ import annotations

from pathlib import Path

import click

from zeroflaw.commands.common import say


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Config of a bare state dict."
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="tokenizer.json, where SOURCE has none.",
)
@click.option("--name", metavar="ARCHITECTURE/TAG", help="Name to record in the folder.")
@click.option("--overwrite", is_flag=True, help="Replace a folder that is already there.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def convert(
    source: Path,
    destination: Path,
    config: Path | None,
    tokenizer: Path | None,
    name: str | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Turn CLIP weights (OpenAI, open_clip or Hugging Face layout) in SOURCE into a weights folder.

    This is the only verb that opens pickled checkpoints, and it reads nothing but tensors from them.
    """
    from zeroflaw.clip.convert import convert as convert_weights

    convert_weights(source, destination, config=config, tokenizer=tokenizer, name=name, overwrite=overwrite)
    say(f"weights are in {destination}; use them with --backbone local-dir:{destination}", quiet)
