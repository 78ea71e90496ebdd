"""`python -m graddx`: the command line."""

from graddx.cli.app import main

main()
