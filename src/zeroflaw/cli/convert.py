"""``zeroflaw convert``: published weights into a weights folder, published prompts into a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zeroflaw.cli.output import say
from zeroflaw.errors import UsageError


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
@click.option(
    "--backbone",
    metavar="NAME",
    help="SOURCE holds prompts of AnomalyCLIP, learned on this CLIP: write a detector.",
)
@click.option("--overwrite", is_flag=True, help="Replace a folder of the same kind that is already there.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def convert(
    source: Path,
    destination: Path,
    config: str | None,
    tokenizer: Path | None,
    name: str | None,
    licence: str | None,
    half: bool,
    backbone: str | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Turn CLIP weights (OpenAI, open_clip or Hugging Face layout) in SOURCE into a weights folder.

    With --backbone, SOURCE is a published checkpoint of AnomalyCLIP's prompts (epoch_15.pth), and what is
    written is a detector. This is the only verb that opens pickled checkpoints, and it reads nothing but
    tensors from them.
    """
    if backbone is not None:
        _convert_prompts(
            source,
            destination,
            backbone,
            others={"--config": config, "--tokenizer": tokenizer, "--name": name, "--half": half or None},
            licence=licence,
            overwrite=overwrite,
        )
        say(f"the detector is in {destination}; use it with --detector {destination}", quiet)
        return
    from zeroflaw.towers.importing import convert as convert_weights

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


def _convert_prompts(
    source: Path, destination: Path, backbone: str, *, others: dict[str, object | None], **options: Any
) -> None:
    from zeroflaw.detectors.anomalyclip.checkpoint import convert_prompts

    given = [flag for flag, value in others.items() if value is not None]
    if given:
        raise UsageError(
            f"{given[0]} is for weights, but --backbone says that {source} holds prompts; drop one"
        )
    convert_prompts(source, destination, backbone=backbone, **options)
