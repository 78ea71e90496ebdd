"""The pages of docs/ that are run: their bash and python blocks in order, in one folder, against a
real server, and what each prints. JSON on them is a request."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from api.schemas.reading import read_analysis
from tests.e2e.docs_blocks import DOCS, Block, blocks

ROOT = Path(__file__).parents[2]
PAGES = ("quickstart.md", "cli.md", "http.md", "faq.md")
COMMANDS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
TOLERANCE = 0.05
"""Relative: figures hold to a few percent on other machines."""


def alike(shown: str, told: str) -> bool:
    """Words alike, numbers within a few percent, anything where the page says …"""
    parts = re.split(f"(…|{NUMBER})", shown.strip())
    kinds = {"…": r"[\s\S]*?"}
    pattern = "".join(
        re.escape(part) if index % 2 == 0 else kinds.get(part, f"({NUMBER})")
        for index, part in enumerate(parts)
    )
    found = re.fullmatch(pattern, told.strip())
    numbers = [float(part) for part in parts[1::2] if part != "…"]
    return found is not None and [*map(float, found.groups())] == pytest.approx(
        numbers, rel=TOLERANCE
    )


def ran(block: Block, server: str, folder: Path) -> str:
    """What it prints; a block that fails fails the test."""
    programs = Path(sys.executable).parent
    run = subprocess.run(
        [*COMMANDS[block.language], block.at(server)],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("GRADDX_")},
            "GRADDX_URL": server,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "COLUMNS": "100",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{block.text}\n{run.stdout}\n{run.stderr}"
    return run.stdout


@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs_as_printed(server: str, tmp_path: Path, page: str) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    told, of = "", Block("", "", "")
    for block in blocks(page):
        if block.language in COMMANDS:
            told, of = ran(block, server, tmp_path), block
        elif block.language == "text":
            assert alike(block.text, told), f"{of.text}\nsaid\n{told}\nand not\n{block.text}"
        elif block.language == "json":
            read_analysis(json.loads(block.text))


@pytest.mark.parametrize("page", PAGES)
def test_the_page_has_only_what_is_tried(page: str) -> None:
    languages = [block.language for block in blocks(page)]
    assert {*languages} <= {*COMMANDS, "text", "json", "console"}
    assert {*COMMANDS, "json"} & {*languages}
    text = (DOCS / page).read_text(encoding="utf-8")
    assert text.count("\n```") == 2 * len(languages), "a block that the test does not see"


def test_what_is_alike() -> None:
    assert alike("a 1.00 b …", "a 1.01 b anything\nat all")
    assert not alike("a 1.00 b", "a 1.1 b")
    assert not alike("a 1 b", "a 1 c")
    assert not alike("a", "a b")
