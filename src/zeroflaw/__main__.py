"""``python -m zeroflaw``: the command."""

from zeroflaw.cli import main

main()
