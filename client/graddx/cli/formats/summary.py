"""The page that GitHub shows for a job: Markdown, appended to the file it names."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.text import Text

from graddx.cli.formats.place import told_path
from graddx.client import Client
from graddx.errors import GraddxError

VARIABLE = "GITHUB_STEP_SUMMARY"
LARGEST = 1 << 20
"""Bytes of a step's summary; GitHub drops a larger one whole."""
CUT = "\n\n… (cut)\n"


def append_summary(client: Client, analysis_id: str, model: Path, stderr: Console) -> None:
    """Nothing outside GitHub. What goes wrong is told and does not change the answer."""
    file = os.environ.get(VARIABLE)
    if not file:
        return
    try:
        page = client.markdown(analysis_id, told_path(model)).encode()
        with Path(file).open("ab") as summary:
            room = LARGEST - summary.tell()
            summary.write(page if len(page) <= room else _cut(page, room))
    except (GraddxError, OSError) as error:
        stderr.print(Text(f"warning: no job summary was written: {error}"))


def _cut(page: bytes, room: int) -> bytes:
    end = CUT.encode()
    if room <= len(end):
        return b""
    kept = page[: room - len(end)].decode(errors="ignore")
    return kept.encode() + end
