"""Print the page on remedies: `python -m service.recommendation > docs/remedies.md`."""

from __future__ import annotations

import sys
from inspect import getdoc

from service.recommendation.remedies import ALL_REMEDIES
from service.recommendation.remedy import Remedy

INTRODUCTION = """# Remedies

What graddx recommends, least invasive first. Written by `python -m service.recommendation` from the
docstrings of the remedies; change it there.
"""


def page() -> str:
    """The whole page, Markdown: one section a remedy, named by its kind."""
    return "\n".join([INTRODUCTION, *map(_section, ALL_REMEDIES)])


def _section(remedy: Remedy) -> str:
    cures = ", ".join(f"`{code}`" for code in sorted(remedy.cures))
    offered = f"Offered for: {cures}." if cures else "Tied to no finding."
    return f"## {remedy.kind}\n\n{getdoc(remedy)}\n\n{offered}\n"


if __name__ == "__main__":
    sys.stdout.write(page())
