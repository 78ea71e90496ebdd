"""`python -m api.guide [FOLDER]`: build the docs as pages, into site/ where nothing is said."""

from __future__ import annotations

import sys
from pathlib import Path

from api.guide.build import ROOT, SITE, build


def main(arguments: list[str]) -> None:
    """Build, and say where."""
    site = Path(arguments[0]) if arguments else SITE
    count = build(ROOT, site)
    sys.stdout.write(f"{count} pages in {site}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
