"""docs/client.md: its blocks run in order, and print what stands below them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from tests.e2e.docs_blocks import Block, blocks

RUNNER = """
import contextlib, io, json, sys
names, printed = {}, []
for block in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(block, "docs/client.md", "exec"), names)
    printed.append(out.getvalue())
print(json.dumps(printed))
"""
"""A process of its own: one block imports torch."""


def test_the_page_runs_as_printed(server: str, models: Path, tmp_path: Path) -> None:
    page = blocks("client.md")
    assert {block.language for block in page} == {"python", "text"}
    shutil.copy(models / "healthy.pt", tmp_path / "net.pt")
    run = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps([block.at(server) for block in page if block.language == "python"]),
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == outputs(page)


def outputs(page: list[Block]) -> list[str]:
    """What each python block is said to print."""
    following = [*page[1:], Block("python", "", "")]
    return [
        after.text if after.language == "text" else ""
        for block, after in zip(page, following, strict=True)
        if block.language == "python"
    ]


def test_every_text_stands_below_code() -> None:
    for before, block in pairwise(blocks("client.md")):
        assert block.language == "python" or before.language == "python"
