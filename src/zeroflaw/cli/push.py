"""``zeroflaw push``: a saved detector to the hub."""

from __future__ import annotations

from pathlib import Path

import click

from zeroflaw.cli.output import PATH, put
from zeroflaw.sharing import push as push_detector


@click.command()
@click.argument("detector", type=PATH, metavar="DETECTOR")
@click.argument("repository", metavar="REPO_ID")
@click.option("--private", is_flag=True, help="Let nobody else see it, where the repository is new.")
@click.option("--message", metavar="TEXT", help="Of the commit.")
def push(detector: Path, repository: str, private: bool, message: str | None) -> None:
    """Put the folder of a saved DETECTOR into the repository REPO_ID (OWNER/NAME) of the Hugging Face hub.

    The repository is made where there is none; the model card becomes its page. It needs a token that can
    write, from 'hf auth login' or in HF_TOKEN. The address of the commit is printed.
    """
    put(push_detector(detector, repository, private=private, message=message))
