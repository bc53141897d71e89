"""``python -m zeroflaw``: the command."""

from zeroflaw.cli.main import main

main()
