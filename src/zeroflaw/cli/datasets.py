"""``zeroflaw datasets``: the data sets and layouts that can be evaluated on."""

from __future__ import annotations

import click

from zeroflaw.cli.output import json_option, put_json
from zeroflaw.lab.datasets import LAYOUTS, Layout


@click.command()
@json_option
def datasets(as_json: bool) -> None:
    """List the data sets: what to call them, how their files lie, their licence and where to get them.

    Nothing is ever downloaded.
    """
    for number, layout in enumerate(LAYOUTS.values()):
        if as_json:
            kept = ("name", "title", "licence", "source", "note", "aliases")
            put_json({name: getattr(layout, name) for name in kept} | {"layout": layout.picture})
        else:
            click.echo("\n" * bool(number) + _block(layout))


def _block(layout: Layout) -> str:
    lines = [
        f"{layout.name:12}{layout.title}",
        *(f"    {pattern}" for pattern in layout.picture),
        f"  licence  {layout.licence}",
        f"  from     {layout.source}",
        f"  note     {layout.note}",
    ]
    if layout.aliases:
        said = ", ".join(f"{name}: {alias}" for name, alias in layout.aliases.items())
        lines.append(f"  aliases  {said}")
    return "\n".join(lines)
