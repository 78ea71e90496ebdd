"""The layout of a source text is ruff's, at its defaults."""

from __future__ import annotations

import subprocess

from ruff import find_ruff_bin

FORMAT = ("format", "--isolated", "--no-cache", "--stdin-filename", "repaired_model.py", "-")
LONGEST_SECONDS = 60.0
"""Twenty thousand layers take less than one."""


def formatted(source: str) -> str:
    """The same program as `ruff format` writes it."""
    run = subprocess.run(
        [find_ruff_bin(), *FORMAT],
        input=source,
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=LONGEST_SECONDS,
    )
    return run.stdout
