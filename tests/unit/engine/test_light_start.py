"""API and worker start in a fraction of a second: they never import what is heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("service.bootstrap", ("torch", "numpy", "scipy", "service.pipeline", "alembic")),
        ("service.__main__, service.pipeline, service.sandbox.prober", ("torch", "alembic")),
    ],
)
def test_nothing_heavy_is_imported(modules: str, heavy: tuple[str, ...]) -> None:
    program = f"import sys, {modules}; print([one for one in {heavy} if one in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
