"""``zeroflaw pull``: a saved detector from the hub."""

from __future__ import annotations

from pathlib import Path

import click

from zeroflaw.cli.output import PATH, quiet_option, say
from zeroflaw.sharing import pull as pull_detector


@click.command()
@click.argument("repository", metavar="REPO_ID")
@click.option("-o", "--output", required=True, type=PATH, metavar="DIR", help="Folder to write into.")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit (the newest).")
@click.option("--overwrite", is_flag=True, help="Replace the detector that is there.")
@quiet_option
def pull(repository: str, output: Path, revision: str | None, overwrite: bool, quiet: bool) -> None:
    """Fetch a saved detector from the repository REPO_ID (OWNER/NAME) of the Hugging Face hub.

    Nothing but the files of a detector is fetched, nothing in them is executed, and what is damaged or larger
    than a detector can be is refused; the folder appears whole or not at all.
    """
    commit = pull_detector(repository, output, revision=revision, overwrite=overwrite)
    say(f"pulled {repository} at {commit} into {output}", quiet)
