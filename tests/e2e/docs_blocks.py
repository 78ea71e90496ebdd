"""The fenced blocks of a page of docs/."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

DOCS = Path(__file__).parents[2] / "docs"
PRINTED = "127.0.0.1:8000"
"""Where the docs say that the server is."""


@dataclass(frozen=True)
class Block:
    """One of them, as printed."""

    language: str
    text: str
    heading: str
    """The section it stands in."""

    def at(self, server: str) -> str:
        """The text for a server on another port."""
        return self.text.replace(PRINTED, urlsplit(server).netloc)


def blocks(page: str) -> list[Block]:
    """In order."""
    found, heading = [], ""
    pattern = r"^## (?P<heading>[^\n]+)$|^```(?P<language>\w*)\n(?P<text>.*?)^```$"
    for match in re.finditer(pattern, (DOCS / page).read_text(), re.MULTILINE | re.DOTALL):
        heading = match["heading"] or heading
        if match["text"] is not None:
            found.append(Block(match["language"], match["text"], heading))
    return found
