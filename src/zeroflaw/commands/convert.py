"""``zeroflaw convert``: published weights into a weights folder."""

from __future__ import annotations

from pathlib import Path

import click

from zeroflaw.commands.common import say


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--config",
    metavar="FILE|NAME",
    help="What a bare file of weights is: an open_clip_config.json, a Hugging Face config.json, a name that "
    "'zeroflaw models' lists, or 'openai'.",
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="tokenizer.json, or a folder with it, where SOURCE has none.",
)
@click.option("--name", metavar="ARCHITECTURE/TAG", help="Name to record in the folder.")
@click.option("--licence", metavar="TEXT", help="Licence to record in the folder.")
@click.option("--half", is_flag=True, help="Store 16-bit numbers: half the size.")
@click.option("--overwrite", is_flag=True, help="Replace a weights folder that is already there.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def convert(
    source: Path,
    destination: Path,
    config: str | None,
    tokenizer: Path | None,
    name: str | None,
    licence: str | None,
    half: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Turn CLIP weights (OpenAI, open_clip or Hugging Face layout) in SOURCE into a weights folder.

    This is the only verb that opens pickled checkpoints, and it reads nothing but tensors from them.
    """
    from zeroflaw.clip.convert import convert as convert_weights

    convert_weights(
        source,
        destination,
        config=config,
        tokenizer=tokenizer,
        name=name,
        licence=licence,
        half=half,
        overwrite=overwrite,
    )
    say(f"weights are in {destination}; use them with --backbone local-dir:{destination}", quiet)
