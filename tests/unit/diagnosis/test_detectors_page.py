"""docs/detectors.md is what the detectors say of themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from inspect import getdoc
from pathlib import Path

import pytest

from service.diagnosis import ALL_DETECTORS
from service.diagnosis.detector import HEADINGS, Detector

ROOT = Path(__file__).parents[3]


def test_page_is_current() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "service.diagnosis"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert (ROOT / "docs" / "detectors.md").read_text(encoding="utf-8") == run.stdout


@pytest.mark.parametrize("detector", ALL_DETECTORS, ids=lambda detector: detector.code)
def test_every_detector_has_the_headings(detector: Detector) -> None:
    page = getdoc(type(detector)) or ""
    assert re.findall(r"^### (.+)$", page, re.MULTILINE) == list(HEADINGS)


def test_every_detector_file_is_registered() -> None:
    folder = ROOT / "service" / "diagnosis" / "detectors"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files == {detector.code for detector in ALL_DETECTORS}


def test_judging_imports_neither_numpy_nor_torch() -> None:
    check = "import service.diagnosis, sys; sys.exit(bool({'numpy', 'torch'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0
