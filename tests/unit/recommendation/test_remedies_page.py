"""docs/remedies.md is what the remedies say of themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from inspect import getdoc
from pathlib import Path

import pytest

from service.recommendation import ALL_REMEDIES
from service.recommendation.remedy import HEADINGS, Remedy

ROOT = Path(__file__).parents[3]


def test_page_is_current() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "service.recommendation"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert (ROOT / "docs" / "remedies.md").read_text(encoding="utf-8") == run.stdout


@pytest.mark.parametrize("remedy", ALL_REMEDIES, ids=lambda remedy: remedy.kind)
def test_every_remedy_has_the_headings(remedy: Remedy) -> None:
    page = getdoc(type(remedy)) or ""
    assert re.findall(r"^### (.+)$", page, re.MULTILINE) == list(HEADINGS)


def test_reading_the_registry_imports_neither_numpy_nor_torch() -> None:
    check = (
        "import service.recommendation, sys; sys.exit(bool({'numpy', 'torch'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


def test_every_remedy_file_is_registered() -> None:
    folder = ROOT / "service" / "recommendation" / "remedies"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files == {remedy.kind for remedy in ALL_REMEDIES}
