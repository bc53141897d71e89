"""``zeroflaw datasets``: the data sets and layouts that can be evaluated on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from zeroflaw.lab.datasets import Layout


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def datasets(as_json: bool) -> None:
    """List the data sets: what to call them, how their files lie, their licence and where to get them.

    Nothing is ever downloaded.
    """
    from zeroflaw.lab.datasets import LAYOUTS

    for number, layout in enumerate(LAYOUTS.values()):
        if as_json:
            click.echo(json.dumps(_row(layout), ensure_ascii=False))
        else:
            click.echo("\n" * bool(number) + _block(layout))


def _row(layout: Layout) -> dict[str, Any]:
    return {
        "name": layout.name,
        "title": layout.title,
        "layout": list(layout.picture),
        "licence": layout.licence,
        "source": layout.source,
        "note": layout.note,
        "aliases": dict(layout.aliases),
    }


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
