"""``zeroflaw models``: the weights that can be used as a backbone."""

from __future__ import annotations

from pathlib import Path

import click

import zeroflaw
from zeroflaw.cli.output import json_option, put, put_json
from zeroflaw.towers.catalogue import REGISTRY

CARD = Path(zeroflaw.__file__).parent / "towers" / "mini" / "README.md"


@click.command()
@json_option
@click.option("--card", is_flag=True, help="Card of the bundled model: what it saw, limits, sources.")
def models(as_json: bool, card: bool) -> None:
    """List the backbones: the bundled mini model and the CLIP weights that can be downloaded."""
    if card:
        for line in CARD.read_text(encoding="utf-8").splitlines():
            put(line)
        return
    width = max(map(len, REGISTRY))
    for name, record in REGISTRY.items():
        if as_json:
            put_json({"name": name, "source": record.source, "licence": record.licence, "note": record.note})
        else:
            put(f"{name:{width}}  {record.source}")
            put(f"{'':{width}}  {record.licence}; {record.note}")
