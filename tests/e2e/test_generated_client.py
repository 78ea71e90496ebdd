"""A client generated from the live /openapi.json, by a generator of other people, works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.serving import ROOT

GENERATOR = Path(sys.prefix) / "generator"
"""Where `make test` puts what requirements-generator.txt names."""


def run(*arguments: str | Path, paths: list[Path]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def generated(server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it is a package of."""
    assert GENERATOR.is_dir(), "make test installs requirements-generator.txt"
    folder = tmp_path_factory.mktemp("generated")
    made = run(
        "-m", "openapi_python_client", "generate", "--url", f"{server}/openapi.json",
        "--config", ROOT / "examples" / "generated_client.yml",
        "--meta", "none", "--output-path", folder / "graddx_api", "--fail-on-warning",
        paths=[GENERATOR],
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


def test_every_operation_is_generated(server: str, generated: Path) -> None:
    found = {path.stem for path in generated.glob("graddx_api/api/*/*.py")} - {"__init__"}
    assert found == {
        "submit_analysis", "read_analysis", "list_analyses", "remove_analysis", "list_layers",
        "follow_analysis", "read_report", "read_chart", "read_sarif", "read_junit",
        "compare_analyses", "read_layer_history",
        "read_repaired_spec", "read_repaired_code", "read_repaired_weights",
        "put_artifact", "read_artifact", "delete_artifact", "catalog", "live", "ready", "metrics",
    }  # fmt: skip


def test_it_asks_and_reads_typed_answers(server: str, generated: Path) -> None:
    used = run(
        Path(__file__).with_name("generated_client.py"),
        server,
        ROOT / "examples" / "files",
        paths=[generated, GENERATOR],
    )
    assert used.returncode == 0, used.stdout + used.stderr
    assert json.loads(used.stdout)["layer_types"] > 50
